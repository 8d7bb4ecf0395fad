"""The command line: what it prints and writes. Faults are in tests/codec/command/."""

import configparser
import dataclasses
import functools
import importlib
import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest
from compilation import users_environment
from PIL import Image

import dfm
from dfm import codec, progress
from dfm.codec.weights import architectures, fitting, recipes
from dfm.compress import main
from dfm.metrics import picture_quality
from dfm.metrics.picture_quality import psnr, ssim

REPOSITORY = Path(__file__).parents[1]
GOLDEN = REPOSITORY / "tests" / "golden" / "v1_picture_quantized_cas.dfm"
FIELDS = {"bytes", "bits_per_pixel", "psnr", "ssim", "encode_seconds", "parameters", "width", "height"}
# The nets and the picture size of test_codec.py: compilation is nearly all of the time here
WIDTHS = "2,2"
LADDER = ((2,), (2, 2))


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """A third off; the results do not depend on it."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(autouse=True)
def small_fits(monkeypatch, tmp_path):
    monkeypatch.setattr(recipes, "EFFORT_STEPS", dict.fromkeys((1, 3, 5, 7, 9), 60))
    monkeypatch.setattr(architectures, "ladder", lambda channels, basis="cos_sin": LADDER)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))  # not the user's
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")


@pytest.fixture(scope="module")
def pixels(photograph):
    return np.ascontiguousarray(photograph[20:32, 30:46])


@pytest.fixture(scope="module")
def compressed(pixels):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipes, "EFFORT_STEPS", {3: 60})
        return codec.encode(pixels, widths=(2, 2))


@pytest.fixture
def folder(tmp_path, pixels, compressed):
    """photo.png and photo.dfm."""
    folder = tmp_path / "work"
    folder.mkdir()
    Image.fromarray(pixels).save(folder / "photo.png")
    (folder / "photo.dfm").write_bytes(compressed)
    return folder


@pytest.fixture
def inside(folder, monkeypatch):
    """The folder as the current one."""
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def standard_input(monkeypatch):
    def give(data):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return give


def test_encode(inside, pixels, capsys):
    assert main(["encode", "photo.png", "-o", "new.dfm", "--widths", WIDTHS, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    size = (inside / "new.dfm").stat().st_size
    decoded = codec.decode((inside / "new.dfm").read_bytes())
    assert report.keys() >= FIELDS
    assert report["bytes"] == size and report["bits_per_pixel"] == pytest.approx(8 * size / 192)
    assert (report["width"], report["height"], report["parameters"]) == (16, 12, 56)
    assert report["psnr"] == pytest.approx(psnr(decoded, pixels))
    assert report["ssim"] == pytest.approx(ssim(decoded, pixels))
    assert report["encode_seconds"] > 0


def test_encode_in_words_with_progress(inside, capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)
    assert main(["encode", "photo.png", "-o", "new.dfm", "--widths", WIDTHS]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("\n") == 1
    for word in (f"{(inside / 'new.dfm').stat().st_size} bytes", "bits per pixel", "PSNR", "SSIM", " s,", "parameters"):
        assert word in shown.out
    assert "60/60" in shown.err and "PSNR" in shown.err


@pytest.mark.parametrize(
    "options",
    [
        ["--profile", "weights", "--quality", "60"],
        ["--profile", "weights", "-q", "0"],
        ["--profile", "weights", "--target-bytes", "80"],
        ["--profile", "weights", "--target-psnr", "8", "-e", "1"],
        ["--widths", WIDTHS, "--seed", "7", "--precision", "float16"],
        ["--widths", WIDTHS, "--basis", "cas"],
    ],
)
def test_encode_options(inside, capsys, pixels, options):
    assert main(["encode", "photo.png", "-o", "new.dfm", "--json", "--quiet", *options]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["bytes"] == (inside / "new.dfm").stat().st_size
    if "--target-bytes" in options:
        assert report["bytes"] <= 80
    if "--target-psnr" in options:
        assert report["psnr"] >= 8
    if "float16" in options:
        assert report["precision"] == "float16"
    if "cas" in options:
        assert report["basis"] == "cas"


def test_thesis_preset(inside, capsys, monkeypatch):
    monkeypatch.setattr(fitting, "train", lambda recipe, state, *_, **__: state)
    small = dataclasses.replace(recipes.PRESETS["thesis"], fixed_widths=(2, 2))
    monkeypatch.setitem(recipes.PRESETS, "thesis", small)
    assert main(["encode", "photo.png", "-o", "new.dfm", "--preset", "thesis", "--json", "--quiet"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["precision"] == "float32" and report["bytes"] == 20 + 4 * (56 - 7)


def test_decode(inside, compressed, capsys):
    assert main(["decode", "photo.dfm", "-o", "new.png"]) == 0
    assert "new.png: 16 x 12" in capsys.readouterr().out
    np.testing.assert_array_equal(np.array(Image.open("new.png")), codec.decode(compressed))


def test_decode_verifies(inside, compressed, capsys):
    assert main(["decode", "photo.dfm", "-o", "new.png", "--verify"]) == 0
    assert "\nidentical to the encoder's decode" in capsys.readouterr().out
    assert main(["decode", "photo.dfm", "-o", "new.png", "--verify", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["identical_to_reference"] is True and (report["width"], report["height"]) == (16, 12)
    # the pixel checksum follows magic, version, profile and two sizes of a byte each
    other = compressed[:8] + bytes(4) + compressed[12:-4]
    (inside / "other.dfm").write_bytes(other + struct.pack("<I", zlib.crc32(other)))
    assert main(["decode", "other.dfm", "-o", "new.png", "--verify"]) == 1
    assert "not identical to the encoder's decode" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".bmp", ".ppm"])
def test_decode_to_other_formats(inside, compressed, suffix):
    assert main(["decode", "photo.dfm", "-o", f"new{suffix}", "--quiet"]) == 0
    np.testing.assert_array_equal(np.array(Image.open(f"new{suffix}")), codec.decode(compressed))


def test_info(inside, compressed, capsys):
    assert main(["info", "photo.dfm", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["bytes"] == len(compressed) and report["widths"] == [2, 2] and report["parameters"] == 56
    assert (report["width"], report["height"], report["channels"]) == (16, 12, 3)
    assert main(["info", "photo.dfm"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in report)


@pytest.mark.parametrize(
    "command", [["encode", "photo.png", "-o", "new.dfm", "--widths", WIDTHS], ["decode", "photo.dfm", "-o", "new.png"]]
)
def test_quiet(inside, capfd, command):
    assert main([*command, "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")


def test_quiet_measures_nothing(inside, monkeypatch):
    """What is not printed is not computed: neither a decode nor SSIM."""

    def refuse(*_):
        pytest.fail("computed for nobody")

    monkeypatch.setattr(codec, "decode", refuse)
    monkeypatch.setattr(picture_quality, "ssim", refuse)
    assert main(["encode", "photo.png", "-o", "new.dfm", "--widths", WIDTHS, "--quiet"]) == 0


def test_where_nets_end_is_said(inside, capsys):
    assert main(["encode", "photo.png", "-o", "new.dfm", "--profile", "weights", "--target-bytes", "5000"]) == 0
    assert "photo.png: the largest net takes about 67 bytes, less than 5,000" in capsys.readouterr().err


def test_work_is_bounded_unless_asked_for(inside, capsys, monkeypatch):
    monkeypatch.setattr(codec, "decode_and_describe", functools.partial(codec.decode_and_describe, max_work=1e4))
    assert main(["decode", "photo.dfm", "-o", "new.png"]) == 2
    assert "multiplications" in capsys.readouterr().err and not Path("new.png").exists()
    assert main(["decode", "photo.dfm", "-o", "new.png", "--any-work"]) == 0


def test_standard_input_and_output(inside, pixels, compressed, capsysbinary, standard_input):
    standard_input((inside / "photo.png").read_bytes())
    assert main(["encode", "-", "-o", "-", "--widths", WIDTHS, "--json"]) == 0
    shown = capsysbinary.readouterr()
    report = json.loads(shown.err.splitlines()[-1])
    assert shown.out == compressed and report["bytes"] == len(compressed)
    standard_input(compressed)
    assert main(["decode", "-", "-o", "-"]) == 0
    found = np.array(Image.open(io.BytesIO(capsysbinary.readouterr().out)))
    np.testing.assert_array_equal(found, codec.decode(compressed))
    standard_input(compressed)
    assert main(["info", "-"]) == 0


def test_encode_folder(inside, pixels, capsys):
    (inside / "in").mkdir()
    (inside / "out").mkdir()
    for name, picture in {"a.png": pixels, "b.bmp": pixels[::-1, :9], "c.png": pixels[..., 0]}.items():
        Image.fromarray(picture).save(inside / "in" / name)
    (inside / "in" / "notes.txt").write_text("left alone")
    assert main(["encode", "in", "-o", "out", "--widths", WIDTHS, "--json", "--quiet"]) == 1
    shown = capsys.readouterr()
    assert "in/notes.txt: not a picture by its name" in shown.err
    reports = json.loads(shown.out)
    files = sorted((inside / "out").glob("*"))
    assert files.pop(0).name == ".dfm-encoded.jsonl"
    assert [file.name for file in files] == ["a.dfm", "b.dfm", "c.dfm"]
    assert [Path(report["output"]).name for report in reports] == ["a.dfm", "b.dfm", "c.dfm"]
    assert [report["bytes"] for report in reports] == [file.stat().st_size for file in files]
    shapes = [codec.decode(file.read_bytes()).shape for file in files]
    assert shapes == [(12, 16, 3), (12, 9, 3), (12, 16, 1)]


def test_bench(inside, capsys):
    (inside / "in").mkdir()
    (inside / "photo.png").rename(inside / "in" / "photo.png")
    command = ["bench", "in", "--codecs", "dfm-weights,jpeg", "--rates", "3,5", "--output", "results.json"]
    assert main([*command, "--plot", "plot.png", "--json"]) == 0
    summary = json.loads((inside / "results.json").read_text())
    assert json.loads(capsys.readouterr().out)["codecs"].keys() == summary["codecs"].keys() == {"dfm-weights", "jpeg"}
    rows = [row for row in summary["rows"] if row["codec"] == "dfm-weights"]
    assert [row["setting"] for row in rows] == ["3bpp", "5bpp"]
    assert all(row["bytes"] <= float(row["setting"][:-3]) * 24 for row in rows)
    assert np.asarray(Image.open("plot.png")).shape[1] > 100


@pytest.mark.parametrize("command", [[], ["encode"], ["decode"], ["info"], ["bench"]])
def test_help_shows_an_example(capsys, command):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    shown = capsys.readouterr()
    assert stop.value.code == 0 and shown.err == ""
    assert "example" in shown.out and "\n  dfm " + " ".join(command) in shown.out


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out.strip() == f"dfm {dfm.__version__}"


def run_module(*arguments):
    command = [sys.executable, "-m", "dfm.compress", *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, env=users_environment(), capture_output=True, timeout=120)


def test_as_a_module(tmp_path):
    done = run_module("decode", GOLDEN, "-o", tmp_path / "picture.png", "--json")
    assert done.returncode == 0, done.stderr
    found, expected = (np.asarray(Image.open(p), int) for p in (tmp_path / "picture.png", GOLDEN.with_suffix(".png")))
    assert json.loads(done.stdout)["width"] == found.shape[1] and np.abs(found - expected).max() <= 1


def test_as_a_module_that_fails(tmp_path):
    done = run_module("info", tmp_path / "none.dfm")
    assert done.returncode == 2 and done.stdout == b""
    assert done.stderr.decode() == f"dfm: {tmp_path / 'none.dfm'}: no such file\n"


def test_console_script():
    settings = configparser.ConfigParser()
    settings.read(REPOSITORY / "setup.cfg")
    name, target = (word.strip() for word in settings["options.entry_points"]["console_scripts"].split("="))
    module, function = target.split(":")
    assert name == "dfm" and getattr(importlib.import_module(module), function) is main
