"""What `dfm encode` does with files, around an encoder that takes no time."""

import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stub_encoder import picture, refuse

from dfm import files
from dfm.codec.command import encode as module
from dfm.picture_files import load_picture


def written(folder) -> dict[str, bytes]:
    """Visible files by their path below the folder."""
    paths = (path for path in Path(folder).rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


# A folder


def test_every_picture_gets_its_file(three, encoder, run):
    assert run("encode in -o out --quiet") == (0, "", "")
    assert written("out") == {f"{name}.dfm": encoder.file(pixels) for name, pixels in three.items()}


def test_what_cannot_be_encoded_is_listed_and_the_rest_goes_on(three, work, encoder, run):
    (work / "in" / "notes.txt").write_text("no picture")
    (work / "in" / "damaged.png").write_bytes((work / "in" / "a.png").read_bytes()[:60])
    Image.new("RGBA", (4, 4)).save(work / "in" / "clear.png")
    (work / "in" / "sub").mkdir()
    (work / "in" / "sub" / "fake.jfif").write_text("no picture")
    code, out, err = run("encode in -o out --quiet")
    lines = err.splitlines()
    assert code == 1 and set(written("out")) == {"a.dfm", "b.dfm", "c.dfm"}
    assert lines[0] == "dfm: 3 of 7 files encoded; these were not:"
    assert sorted(line.split(":")[0].strip() for line in lines[1:]) == [
        *("in/clear.png", "in/damaged.png", "in/notes.txt", "in/sub/fake.jfif")
    ]
    assert "--background=white" in err


def test_a_picture_that_the_encoder_refuses_costs_no_other(three, encoder, run):
    bad = three["b"]
    encoder.before = lambda place, image: refuse("too few bytes") if np.array_equal(image, bad) else None
    code, _, err = run("encode in -o out --quiet")
    assert code == 1 and set(written("out")) == {"a.dfm", "c.dfm"}
    assert err.splitlines()[1:] == ["  in/b.png: too few bytes"]


def test_interrupted_after_the_first_keeps_the_first(three, encoder, run):
    def interrupt(place, image):
        if place == 1:
            raise KeyboardInterrupt

    encoder.before = interrupt
    code, _, err = run("encode in -o out --quiet")
    assert code == 130 and written("out") == {"a.dfm": encoder.file(three["a"])}
    encoder.before, before = lambda place, image: None, encoder.count
    assert run("encode in -o out --quiet")[0] == 0
    assert encoder.count - before == 2 and len(written("out")) == 3


def test_sub_folders_are_made(work, encoder, run):
    (work / "in" / "2024" / "may").mkdir(parents=True)
    Image.fromarray(picture(1)).save(work / "in" / "2024" / "may" / "a.png")
    assert run("encode in -o out --quiet")[0] == 0
    assert list(written("out")) == ["2024/may/a.dfm"]


def test_options_that_are_impossible_are_refused_once(three, run):
    code, _, err = run("encode in -o out --effort 10")
    assert code == 2 and err == "dfm: effort 10 is outside 1 ... 9\n"
    code, _, err = run("encode in -o out --background whit")
    assert code == 2 and err.count("\n") == 1 and "'whit' is no colour" in err


def test_json_names_every_picture(three, work, encoder, run):
    (work / "in" / "a.png").write_bytes(b"no picture")
    encoder.file = lambda image: (Path(__file__).parents[2] / "golden" / "v1_quantized_cas.dfm").read_bytes()
    code, out, _ = run("encode in -o out --json --quiet")
    reports = json.loads(out)
    assert code == 1 and [report["input"] for report in reports] == ["in/a.png", "in/b.png", "in/c.png"]
    assert "not a picture" in reports[0]["error"] and reports[1]["bytes"] == os.path.getsize("out/b.dfm")
    assert {"psnr", "ssim", "encode_seconds", "output"} <= reports[2].keys()
    _, out, _ = run("encode in/b.png in/c.png -o out --json --quiet")
    assert [report["unchanged"] for report in json.loads(out)] == [True, True]


def test_seconds_of_a_folder_are_each_picture_s_own(three, work, encoder, run, monkeypatch):
    """Pictures of a group come one after the other: a later one has not taken the time of those before it."""
    now = [100.0]
    encoder.file = lambda image: (Path(__file__).parents[2] / "golden" / "v1_quantized_cas.dfm").read_bytes()
    encoder.before = lambda place, image: now.__setitem__(0, now[0] + 10)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    _, out, _ = run("encode in -o out --json --quiet")
    assert [report["encode_seconds"] for report in json.loads(out)] == [10, 10, 10]


def test_where_nothing_could_be_encoded_the_code_is_2(work, encoder, run):
    (work / "in" / "a.png").write_text("no picture")
    code, _, err = run("encode in -o out")
    assert code == 2 and err.splitlines()[0] == "dfm: 0 of 1 files encoded; these were not:"


# The same command again


def test_again_does_only_what_is_still_to_do(three, work, encoder, run):
    run("encode in -o out --quiet")
    os.remove("out/b.dfm")
    Image.fromarray(picture(9)).save("in/c.png")
    before = written("out")
    assert run("encode in -o out --quiet")[0] == 0
    assert len(encoder.groups) == 2 and len(encoder.groups[1]) == 2
    after = written("out")
    assert after["a.dfm"] == before["a.dfm"] and after["c.dfm"] == encoder.file(picture(9)) and len(after) == 3


def test_other_settings_encode_anew_or_are_refused(three, encoder, run):
    run("encode in -o out --quiet -q 50")
    assert run("encode in -o out --quiet -q 50")[0] == 0 and encoder.count == 3
    code, _, err = run("encode in -o out --quiet -q 60 --no-overwrite")
    assert code == 2 and encoder.count == 3
    assert "in/a.png: out/a.dfm: exists already, made of another picture or with other settings" in err
    assert run("encode in -o out --quiet -q 50 --no-overwrite") == (0, "", "")
    assert run("encode in -o out --quiet -q 60")[0] == 0 and encoder.count == 6


def test_files_of_unknown_making_are_not_trusted(three, work, encoder, run):
    (work / "out" / "a.dfm").write_bytes(b"of some earlier command")
    assert run("encode in -o out --quiet --no-overwrite")[0] == 1
    assert (work / "out" / "a.dfm").read_bytes() == b"of some earlier command" and encoder.count == 2
    assert run("encode in -o out --quiet")[0] == 0
    assert (work / "out" / "a.dfm").read_bytes() == encoder.file(three["a"])


def test_shards_make_the_whole(three, encoder, run):
    made = []
    for part in (1, 2, 3, 4):
        assert run(f"encode in -o out --quiet --shard {part}/4")[0] == 0
        made.append(set(written("out")))
    assert made[-1] == {"a.dfm", "b.dfm", "c.dfm"} and encoder.count == 3
    assert run("encode in -o out --quiet")[0] == 0 and encoder.count == 3


def test_an_empty_part_is_told(three, encoder, run):
    for name in ("b", "c"):
        Path("in", f"{name}.png").unlink()
    code, out, err = run("encode in -o out --shard=2/2")
    assert (code, out, err) == (0, "", "note: nothing in this part (--shard=2/2)\n")


@pytest.mark.parametrize("shard", ["0/8", "9/8", "2", "a/b", "1/0", "-1/2"])
def test_shards_that_are_none(three, encoder, run, shard):
    code, _, err = run(f"encode in -o out --shard={shard}")
    assert code == 2 and "is not a part such as 2/8" in err


# Memory and order


def test_groups_are_bounded_and_of_like_sizes(work, encoder, run, monkeypatch):
    monkeypatch.setattr(module, "MAX_GROUP_PIXELS", 200)
    sizes = {"a": (20, 20), "b": (5, 5), "c": (10, 10), "d": (5, 5), "e": (10, 10), "f": (5, 5)}
    for number, (name, (height, width)) in enumerate(sizes.items()):
        Image.fromarray(picture(number, height, width)).save(work / "in" / f"{name}.png")
    assert run("encode in -o out --quiet")[0] == 0
    assert [[image.shape[:2] for image in group] for group in encoder.groups] == [
        [(5, 5), (5, 5), (5, 5), (10, 10)],
        [(10, 10)],
        [(20, 20)],
    ]
    assert len(written("out")) == 6


def test_pictures_are_opened_a_group_at_a_time(three, encoder, run, monkeypatch):
    monkeypatch.setattr(module, "MAX_GROUP_PICTURES", 1)
    events = []
    monkeypatch.setattr(module, "load_picture", lambda path, *more: events.append(path) or load_picture(path, *more))
    encoder.before = lambda place, image: events.append("fit")
    assert run("encode in -o out --quiet")[0] == 0
    assert events == ["in/a.png", "fit", "in/b.png", "fit", "in/c.png", "fit"]


def test_one_that_misses_its_psnr_costs_no_other_fit(three, encoder, run):
    encoder.before = lambda place, image: refuse("out of reach") if np.array_equal(image, three["b"]) else None
    assert run("encode in -o out --quiet --target-psnr 30")[0] == 1
    assert [len(group) for group in encoder.groups] == [1, 1, 1] and set(written("out")) == {"a.dfm", "c.dfm"}


# What must not be lost


@pytest.mark.parametrize("link", [None, "symlink", "hardlink"])
def test_the_input_is_never_the_output(three, work, encoder, run, link):
    before = (work / "in" / "a.png").read_bytes()
    if link is None:
        command = "encode in/a.png -o in/../in/a.png"
    else:
        command = "encode in/a.png -o out/a.dfm"
        getattr(work / "out" / "a.dfm", f"{link}_to")(work / "in" / "a.png")
    code, out, err = run(command)
    assert code == 2 and err.count("\n") == 1 and "which would be lost" in err and encoder.count == 0
    assert (work / "in" / "a.png").read_bytes() == before


def test_an_output_in_a_folder_is_no_input_either(three, work, encoder, run):
    before = (work / "in" / "b.png").read_bytes()
    (work / "out" / "a.dfm").symlink_to(work / "in" / "b.png")
    code, _, err = run("encode in -o out --quiet")
    assert code == 1 and "out/a.dfm" in err and "which would be lost" in err
    assert (work / "in" / "b.png").read_bytes() == before and (work / "out" / "b.dfm").exists()


def test_outputs_of_one_command_do_not_replace_each_other(three, work, encoder, run):
    """As A.dfm and a.dfm would where letters' case is no difference; here a link makes two names one file."""
    (work / "out" / "b.dfm").symlink_to(work / "out" / "a.dfm")
    code, _, err = run("encode in -o out --quiet")
    assert code == 1 and "would replace that of in/a.png" in err
    assert (work / "out" / "a.dfm").read_bytes() == encoder.file(three["a"])


@pytest.mark.parametrize("target", ["out/a.dfm", "out"])
def test_a_file_that_appears_during_the_fit_is_kept(three, work, encoder, run, target):
    encoder.before = lambda place, image: (work / "out" / "a.dfm").write_bytes(b"theirs")
    code, _, err = run(f"encode in/a.png -o {target} --no-overwrite --quiet")
    assert code == 2
    assert "out/a.dfm: exists already" in err and f"what was made is in {work / 'out' / 'a.1.dfm'}" in err
    assert written("out") == {"a.dfm": b"theirs", "a.1.dfm": encoder.file(three["a"])}


def test_what_cannot_be_written_goes_elsewhere(three, work, encoder, run, monkeypatch):
    (work / "spare").mkdir()
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(work / "spare"))
    encoder.before = lambda place, image: (work / "out").rename(work / "gone")
    code, _, err = run("encode in/a.png -o out/a.dfm --quiet")
    # the folder is made again: what matters is that the file is somewhere, and that the words say where
    found = [path for path in work.rglob("*.dfm") if path.read_bytes() == encoder.file(three["a"])]
    assert len(found) == 1 and (code == 0 or str(found[0]) in err)


def test_a_full_disk_is_told_with_where_the_file_went(three, work, encoder, run, monkeypatch):
    (work / "spare").mkdir()
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(work / "spare"))
    opened = os.open

    def full(path, *arguments, **options):
        if encoder.count and Path(path).parent == work / "out":
            raise OSError(28, "No space left on device")
        return opened(path, *arguments, **options)

    monkeypatch.setattr(files.os, "open", full)
    code, _, err = run("encode in/a.png -o out/a.dfm --quiet")
    assert code == 2 and "No space left on device" in err
    assert f"what was made is in {work / 'spare' / 'a.1.dfm'}" in err
    assert (work / "spare" / "a.1.dfm").read_bytes() == encoder.file(three["a"])


# Pictures


def test_grey_in_three_channels_is_coded_as_one(work, encoder, run):
    grey = picture(0, channels=1)
    Image.fromarray(grey.repeat(3, -1)).save("in/a.png")
    code, _, err = run("encode in/a.png -o out/a.dfm --quiet")
    assert (code, err) == (0, "") and encoder.groups[0][0].shape == (4, 5, 1)
    np.testing.assert_array_equal(encoder.groups[0][0], grey)


def test_background(work, encoder, run):
    Image.new("RGBA", (3, 2), (9, 9, 9, 0)).save("in/a.png")
    assert run("encode in/a.png -o out/a.dfm --quiet --background=#102030")[0] == 0
    assert (encoder.groups[0][0] == [16, 32, 48]).all()
    code, _, err = run("encode in/a.png -o out/a.dfm")
    assert code == 2 and "--background=white" in err


def test_notes_go_to_standard_error_unless_quiet(work, encoder, run):
    Image.new("RGB", (3, 2), (9, 9, 9)).save("in/a.png", icc_profile=b"damaged")
    encoder.file = lambda image: (Path(__file__).parents[2] / "golden" / "v1_quantized_cas.dfm").read_bytes()
    _, _, err = run("encode in/a.png -o out/a.dfm")
    assert err.splitlines() == [
        "note: in/a.png: its colour profile is damaged or not one of such a picture: read as sRGB",
        "note: in/a.png: its three channels are equal: coded as one, which is what comes back",
    ]
    assert run("encode in/a.png -o out/a.dfm --quiet")[2] == ""


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("encode in/a.png -o out/a.dfm --shard=1/2", "--shard is for folders"),
        ("encode in/a.png -o - --no-overwrite", "--no-overwrite is for an output that is a file"),
        ("decode in/a.dfm -o /dev/stdout --no-overwrite", "--no-overwrite is for an output that is a file"),
    ],
)
def test_options_that_would_be_ignored(three, encoder, run, command, message):
    assert run(command) == (2, "", f"dfm: {message}\n") and encoder.count == 0
