"""Rate-distortion runs: rows survive and are not computed twice, curves and BD-rates follow their definitions."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from dfm import results
from dfm.codec.bench import command as bench
from dfm.codec.bench.codecs import Codec, baseline_codec
from dfm.codec.bench.plot import plot
from dfm.codec.bench.rate_distortion import run
from dfm.command_line import Parser
from dfm.errors import UserError

FIELDS = {
    "picture",
    "codec",
    "setting",
    "bytes",
    "bits_per_pixel",
    "psnr",
    "ssim",
    "mse",
    "encode_seconds",
    "encode_compile_seconds",
    "decode_seconds",
    "decode_compile_seconds",
}


class Rounding:
    """A codec for tests: colours rounded to 2^k levels apart, in bytes of any length; counts its calls."""

    def __init__(self, name="rounding", settings=("1", "3", "5"), factor=1.0, fail_after=math.inf):
        self.calls, self.factor, self.fail_after = 0, factor, fail_after
        self.codec = Codec(name, "rounded colours", settings, self.encode, self.decode, {"factor": factor})

    def encode(self, image, setting):
        self.calls += 1
        if self.calls > self.fail_after:
            raise KeyboardInterrupt
        step = 2 ** int(setting)
        pixels = (image // step * step + step // 2).astype(np.uint8)
        header = np.array(image.shape, np.uint16).tobytes()
        room = int(self.factor * (20_000 - 3_000 * int(setting)))
        return (header + pixels.tobytes()).ljust(room, b"\0")

    def decode(self, data, channels):
        shape = np.frombuffer(data[:6], np.uint16)
        return np.frombuffer(data[6 : 6 + int(np.prod(shape))], np.uint8).reshape(shape)


@pytest.fixture
def pictures():
    generator = np.random.default_rng(0)
    return [(name, generator.integers(0, 256, (12, 16, 3), np.uint8)) for name in ("first", "second")]


def quiet(line):
    pass


def test_summary_has_the_shape_of_compressai(tmp_path, pictures):
    output = tmp_path / "summary.json"
    summary = run(
        pictures,
        [Rounding().codec, baseline_codec("jpeg", (20, 50, 80))],
        output,
        seed=7,
        command=["bench", "/somewhere/pictures", f"--output={output}"],
        report=quiet,
    )
    assert json.loads(output.read_text()) == summary
    for name in ("rounding", "jpeg"):
        curve = summary["codecs"][name]
        assert {"name", "description", "results"} <= curve.keys()
        assert curve["results"].keys() == {
            "bpp",
            "psnr-rgb",
            "psnr-of-mean-mse",
            "ssim",
            "encoding_time",
            "encoding_compile_time",
            "decoding_time",
            "decoding_compile_time",
        }
        assert all(len(values) == 3 for values in curve["results"].values())
        assert curve["results"]["bpp"] == sorted(curve["results"]["bpp"])
    assert len(summary["rows"]) == 2 * (3 + 3)
    assert all(row.keys() >= FIELDS for row in summary["rows"])
    assert {"protocol", "versions", "hardware", "commit", "dirty", "seed", "command", "libraries"} <= summary.keys()
    assert summary["command"] == "bench pictures --output=summary.json" and summary["seed"] == 7
    for row in summary["rows"]:
        assert row["bits_per_pixel"] == 8 * row["bytes"] / (12 * 16)


def test_both_averages_of_psnr(tmp_path, pictures):
    summary = run(pictures, [Rounding().codec], tmp_path / "summary.json", report=quiet)
    rows = [row for row in summary["rows"] if row["setting"] == "5"]
    point = {key: values[0] for key, values in summary["codecs"]["rounding"]["results"].items()}
    assert point["psnr-rgb"] == pytest.approx(np.mean([row["psnr"] for row in rows]))
    mean_mse = np.mean([row["mse"] for row in rows])
    assert point["psnr-of-mean-mse"] == pytest.approx(10 * math.log10(255**2 / mean_mse))
    assert point["psnr-of-mean-mse"] <= point["psnr-rgb"]


def test_finished_rows_are_not_computed_again(tmp_path, pictures):
    output = tmp_path / "summary.json"
    first = run(pictures, [Rounding().codec], output, report=quiet)
    again = Rounding()
    second = run([("renamed", pictures[0][1]), pictures[1]], [again.codec], output, report=quiet)
    assert again.calls == 0
    assert [row["psnr"] for row in first["rows"]] == [row["psnr"] for row in second["rows"]]
    assert second["pictures"] == ["renamed", "second"]


@pytest.mark.parametrize("change", ["picture", "setting", "protocol", "options", "codec"])
def test_other_rows_are_computed(tmp_path, pictures, change):
    output = tmp_path / "summary.json"
    run(pictures, [Rounding().codec], output, report=quiet)
    changed = {
        "setting": Rounding(settings=("1", "3", "6")),
        "options": Rounding(factor=0.5),
        "codec": Rounding(name="other"),
    }.get(change, Rounding())
    if change == "picture":
        pictures = [(pictures[0][0], pictures[0][1] ^ 1), pictures[1]]
    run(pictures, [changed.codec], output, protocol="kodak" if change == "protocol" else "as-is", report=quiet)
    assert changed.calls == {"picture": 3, "setting": 2}.get(change, 6)


def test_a_killed_run_leaves_usable_rows(tmp_path, pictures):
    output = tmp_path / "summary.json"
    rows_path = tmp_path / "summary.json.rows.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(pictures, [Rounding(fail_after=4).codec], output, report=quiet)
    assert not output.exists()
    assert len(results.read_lines(rows_path)) == 4
    with open(rows_path, "r+b") as file:  # killed in the middle of a line
        file.truncate(rows_path.stat().st_size - 30)
    rest = Rounding()
    summary = run(pictures, [rest.codec], output, report=quiet)
    assert rest.calls == 3
    assert len(summary["rows"]) == 6
    assert len(results.read_lines(rows_path)) == 6


def test_infinities_become_null(tmp_path):
    flat = [("flat", np.full((8, 8, 3), 128 + 16, np.uint8))]  # rounding to steps of 32 changes nothing
    output = tmp_path / "summary.json"
    summary = run(flat, [Rounding(settings=("5",)).codec, Rounding("jpeg").codec], output, report=quiet)
    assert summary["rows"][0]["psnr"] is None and summary["rows"][0]["mse"] == 0
    assert summary["codecs"]["rounding"]["results"]["psnr-rgb"] == [None]
    text = output.read_text() + (tmp_path / "summary.json.rows.jsonl").read_text()
    assert "NaN" not in text and "Infinity" not in text
    again = Rounding(settings=("5",))
    run(flat, [again.codec], output, report=quiet)
    assert again.calls == 0
    assert summary["bd_rate"]["codecs"]["rounding"]["averaged_curve"]["percent"] is None


def test_what_a_codec_refuses_is_a_row_with_its_reason(tmp_path, pictures):
    test_codec = Rounding()

    def picky(image, setting):
        if setting == "3" and np.array_equal(image, pictures[0][1]):
            raise UserError("target is too small")
        return test_codec.encode(image, setting)

    codec = Codec("picky", "", ("1", "3"), picky, test_codec.decode)
    output = tmp_path / "summary.json"
    lines = []
    summary = run(pictures, [codec], output, report=lines.append)
    assert [row.get("error") for row in summary["rows"]] == [None, "target is too small", None, None]
    assert summary["codecs"]["picky"]["settings"] == ["1"]
    assert summary["codecs"]["picky"]["settings_missing_pictures"] == ["3"]
    assert "[2/4] first picky 3: target is too small" in lines[1]
    calls = test_codec.calls
    run(pictures, [codec], output, report=quiet)
    assert test_codec.calls == calls  # tried again, refused again, the others not touched


def parsed(*arguments):
    parser = Parser()
    bench.add_arguments(parser)
    return parser.parse_args([str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path, pictures):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, image in pictures:
        Image.fromarray(image).save(folder / f"{name}.png")
    (folder / "notes.txt").write_text("not a picture")
    return folder


def test_command_line(tmp_path, folder, capsys):
    output, picture = tmp_path / "summary.json", tmp_path / "curves.png"
    args = parsed(
        folder,
        "--codecs",
        "jpeg,webp,coin",
        "--coin-steps",
        2,
        "--rates",
        "8",
        "--output",
        output,
        "--plot",
        picture,
        "--pictures",
        "second",
        "--json",
    )
    assert bench.run_from_args(args) == 0
    out, err = capsys.readouterr()
    printed = json.loads(out)
    assert printed["pictures"] == ["second"] and "rows" not in printed
    assert printed["codecs"]["coin"]["settings"] == ["8bpp"]
    assert "2 Adam steps" in printed["codecs"]["coin"]["description"]
    assert "[25/25] second coin 8bpp" in err and "left" in err
    assert np.asarray(Image.open(picture)).shape[1] > 100
    args.json = False
    assert bench.run_from_args(args) == 0
    out, err = capsys.readouterr()
    assert "BD-rate of webp against jpeg" in out
    assert "[" not in err


def test_another_program_can_call_it(tmp_path, folder, capsys):
    lines = []
    summary = bench.bench(
        folder, tmp_path / "summary.json", codecs=("jpeg", "webp"), pictures=["first"], report=lines.append
    )
    assert json.loads((tmp_path / "summary.json").read_text()) == json.loads(results.dump(summary))
    assert set(summary["codecs"]) == {"jpeg", "webp"} and summary["pictures"] == ["first"] and len(lines) == 24
    assert capsys.readouterr() == ("", "")
    with pytest.raises(UserError, match="coin_steps must be positive"):
        bench.bench(folder, tmp_path / "other.json", codecs=("coin",), coin_steps=0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--codecs", "jpg"), "unknown codec 'jpg'; did you mean 'jpeg'. (known: dfm-latents, dfm-weights, jpeg,"),
        (("--codecs", ","), "no codec given"),
        (("--codecs", "dfm-weights", "--rates", "much"), "--rates must be bits per pixel"),
        (("--codecs", "dfm-weights", "--rates", "-1"), "--rates must be bits per pixel"),
        (("--pictures", "frist"), "unknown picture 'frist'; did you mean 'first'. (known: first, second"),
        (("--protocol", "kodak-256"), "not one of the 24 Kodak pictures"),
        (("--plot", "curves.txt"), "plots are written as"),
        (("--published", "x.json"), "give --plot too"),
        (("--plot", "c.png", "--published", "x.json"), "protocol kodak, not as-is"),
        (("--output", "-"), "must be a file"),
        (("--output", "missing/summary.json"), "missing"),
        (("--codecs", "coin", "--coin-steps", "0"), "must be positive"),
    ],
)
def test_mistakes_are_found_before_any_work(tmp_path, folder, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        bench.run_from_args(parsed(folder, "--codecs", "jpeg", "--output", "summary.json", *arguments))
    assert not list(tmp_path.glob("*.jsonl"))


def test_bad_folders(tmp_path, folder):
    with pytest.raises(UserError, match="no such folder"):
        bench.load_pictures(tmp_path / "nowhere", "as-is")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="holds no pictures"):
        bench.load_pictures(empty, "as-is")
    (folder / "broken.png").write_bytes(b"\x89PNG not really")
    with pytest.raises(UserError, match=r"broken\.png"):
        bench.load_pictures(folder, "as-is")


def test_kodak_protocols_crop_and_check(tmp_path):
    Image.new("RGB", (768, 512)).save(tmp_path / "kodim01.png")
    Image.new("RGB", (512, 768)).save(tmp_path / "kodim04.png")
    crops = bench.load_pictures(tmp_path, "kodak-256")
    assert [(name, image.shape) for name, image in crops] == [("kodim01", (256, 256, 3)), ("kodim04", (256, 256, 3))]
    assert bench.load_pictures(tmp_path, "kodak")[0][1].shape == (512, 768, 3)


def test_published_curves_are_for_full_size_kodak_only(tmp_path, pictures):
    summary = run(pictures, [Rounding().codec], tmp_path / "summary.json", report=quiet)
    published = {"compressai/jpeg": {"bpp": [0.2, 0.5], "psnr-rgb": [24.0, 29.0]}}
    with pytest.raises(UserError, match="full-size Kodak"):
        plot(summary, tmp_path / "curves.png", published)
    plot(summary | {"protocol": "kodak"}, tmp_path / "curves.svg", published)
    assert "published, full-size Kodak" in (tmp_path / "curves.svg").read_text()


def test_record_appends_a_complete_line(tmp_path):
    path = tmp_path / "deep" / "results.jsonl"
    for loss in (0.5, math.nan):
        results.record(
            path,
            "study",
            "kodak-256",
            "python scripts/study.py --data_dir=/home/me/kodak /x/out.json -v",
            {"width": np.int64(8)},
            0,
            1.5,
            {"loss": loss, "curve": np.array([1.0, math.inf])},
        )
    first, second = results.read_lines(path)
    assert first.keys() >= {
        "schema",
        "name",
        "protocol",
        "command",
        "config",
        "seed",
        "commit",
        "dirty",
        "hardware",
        "versions",
        "seconds",
        "metrics",
    }
    assert first["command"] == "python scripts/study.py --data_dir=kodak out.json -v"
    assert first["metrics"] == {"loss": 0.5, "curve": [1.0, None]} and second["metrics"]["loss"] is None
    assert first["config"] == {"width": 8}
