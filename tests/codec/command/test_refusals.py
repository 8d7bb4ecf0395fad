"""What does not work: exit code 2, one line, nothing half-written, and all of it before any fit is begun."""

import struct
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

from dfm.codec import container
from dfm.codec.weights import fitting
from dfm.compress import main

DATA = (Path(__file__).parents[2] / "golden" / "v1_quantized_cas.dfm").read_bytes()
WIDTHS = "2,2"


@pytest.fixture
def inside(tmp_path, monkeypatch, photo):
    """The current folder: photo.png, photo.dfm, and things that are neither."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo).save("photo.png")
    newer = DATA[:4] + bytes([container.VERSION + 1]) + DATA[5:-4]
    for name, data in {
        "photo.dfm": DATA,
        "text.txt": b"neither a picture nor a file of ours\n",
        "cut.png": Path("photo.png").read_bytes()[:200],
        "cut.dfm": DATA[:-3],
        "head.dfm": DATA[:7],
        "empty.dfm": b"",
        "flipped.dfm": DATA[:-1] + bytes([DATA[-1] ^ 1]),
        "newer.dfm": newer + struct.pack("<I", zlib.crc32(newer)),
        "old.dfm": b"was here before",
        "old.png": b"was here before",
    }.items():
        Path(name).write_bytes(data)
    return tmp_path


ENCODE = ["encode", "photo.png", "-o", "new.dfm"]
LATENTS = [*ENCODE, "--profile", "latents"]
ERRORS = [
    # inputs
    (["encode", "none.png", "-o", "new.dfm"], "none.png: no such file"),
    (["encode", ".", "-o", "new.dfm"], "new.dfm: the output of a folder must be a folder"),
    (["encode", "text.txt", "-o", "new.dfm"], "text.txt: not a picture"),
    (["encode", "photo.dfm", "-o", "new.dfm"], "photo.dfm: not a picture"),
    (["encode", "cut.png", "-o", "new.dfm"], "cut.png: damaged or truncated"),
    (["decode", "none.dfm", "-o", "new.png"], "none.dfm: no such file"),
    (["decode", ".", "-o", "new.png"], "new.png: the output of a folder must be a folder"),
    (["decode", "photo.png", "-o", "new.png"], "not a .dfm file"),
    (["decode", "text.txt", "-o", "new.png"], "not a .dfm file"),
    (["decode", "empty.dfm", "-o", "new.png"], "not a .dfm file"),
    (["decode", "head.dfm", "-o", "new.png"], "incomplete"),
    (["decode", "cut.dfm", "-o", "new.png"], "damaged or incomplete"),
    (["decode", "flipped.dfm", "-o", "new.png"], "damaged or incomplete"),
    (["decode", "newer.dfm", "-o", "new.png"], "newer version"),
    (["info", "none.dfm"], "none.dfm: no such file"),
    (["info", "."], "cannot be read"),
    (["info", "text.txt"], "not a .dfm file"),
    (["info", "cut.dfm"], "damaged or incomplete"),
    (["info", "flipped.dfm"], "damaged or incomplete"),
    (["info", "newer.dfm"], "newer version"),
    (["bench", "nowhere", "--output", "new.json"], "nowhere: no such folder"),
    (["bench", "photo.png", "--output", "new.json"], "photo.png: is not a folder"),
    (["bench", ".", "--output", "new.json", "--codecs", "jpge"], "did you mean 'jpeg'"),
    (["bench", ".", "--output", "new.json", "--rates", "nan"], "--rates"),
    pytest.param(
        ["bench", ".", "--output", "new.json", "--codecs", "dfm-weights", "--effort", "10", "--pictures", "photo"],
        "effort 10",
    ),
    # outputs
    (["encode", "photo.png", "-o", "nowhere/new.dfm"], "nowhere does not exist"),
    (["encode", "photo.png", "-o", "/proc/new.dfm"], "cannot be written"),
    (["encode", "photo.png", "-o", "old.dfm", "--no-overwrite"], "old.dfm: exists already"),
    (["decode", "photo.dfm", "-o", "old.png", "--no-overwrite"], "old.png: exists already"),
    (["decode", "photo.dfm", "-o", "nowhere/new.png"], "nowhere does not exist"),
    (["decode", "photo.dfm", "-o", "new.xyz"], "cannot write pictures of kind '.xyz'"),
    (["bench", ".", "--output", "nowhere/new.json"], "nowhere does not exist"),
    (["bench", ".", "--output", "new.json", "--plot", "photo.png"], "photo.png: is or holds the input photo.png"),
    (
        ["bench", ".", "--output", "new.json", "--codecs", "jpeg", "--effort", "3"],
        "--effort is for --codecs with dfm-latents or dfm-weights",
    ),
    (["bench", ".", "--output", "new.json", "--coin-steps", "10"], "--coin-steps is for --codecs with coin"),
    (["bench", ".", "--output", "new.json", "--plot", "new.xyz"], "plots are written as"),
    # numbers
    ([*ENCODE, "--quality", "abc"], "invalid float value: 'abc'"),
    ([*ENCODE, "--quality", "101"], "quality 101 is outside 0 ... 100"),
    ([*ENCODE, "--quality", "-1"], "quality -1 is outside"),
    ([*ENCODE, "--quality", "nan"], "quality nan is outside"),
    ([*ENCODE, "--effort", "10"], "effort 10 is outside 1 ... 9"),
    ([*ENCODE, "--effort", "1.5"], "invalid int value"),
    ([*ENCODE, "--widths", "0"], "outside 1 ... 12"),
    ([*ENCODE, "--widths", "99"], "outside 1 ... 12"),
    ([*ENCODE, "--widths", "4,,4"], "not a list of integers"),
    ([*ENCODE, "--widths", "four"], "not a list of integers"),
    ([*ENCODE, "--target-bytes", "12"], "12 bytes are too few for 16 x 12 pixels"),
    ([*ENCODE, "--target-bytes", "-12"], "too few"),
    ([*ENCODE, "--target-bytes", "1e5"], "invalid int value"),
    ([*ENCODE, "--target-bytes", "64", "--precision", "float32"], "too few"),
    pytest.param([*ENCODE, "--effort", "0"], "effort 0 is outside 1 ... 9"),
    pytest.param([*ENCODE, "--target-psnr", "nan"], "nan"),
    pytest.param([*ENCODE, "--widths", "9999"], "outside 1 ... 12"),
    pytest.param([*ENCODE, "--widths", WIDTHS, "--seed", "99999999999999999999"], "seed"),
    # the same of the other profile, and what only one of them has
    ([*LATENTS, "--quality", "101"], "quality 101 is outside 0 ... 100"),
    ([*LATENTS, "--effort", "10"], "effort 10 is outside 1 ... 9"),
    ([*LATENTS, "--target-bytes", "12"], "12 bytes are too few for 16 x 12 pixels"),
    ([*LATENTS, "--target-psnr", "nan"], "nan"),
    ([*LATENTS, "--seed", "-1"], "seed -1 is outside"),
    ([*LATENTS, "--widths", WIDTHS], "the profile latents has no option 'widths'"),
    ([*LATENTS, "--basis", "cas"], "the profile latents has no option 'basis'"),
    ([*LATENTS, "--preset", "thesis"], "the profile latents has no option 'preset'"),
    ([*ENCODE, "--profile", "latent"], "invalid choice: 'latent'"),
    (["decode", "photo.dfm", "-o", "new.png", "--preview", "4"], "files of the first format have no preview"),
    (["decode", "photo.dfm", "-o", "new.png", "--preview", "3"], "4, 8, 16, ... are possible"),
    (["decode", "photo.dfm", "-o", "new.png", "--preview", "4", "--verify"], "--verify is for a whole picture"),
    # words
    ([], "required: COMMAND"),
    (["compress"], "invalid choice: 'compress'"),
    (["encode"], "required: input"),
    (["encode", "photo.png"], "required: -o/--output"),
    (["info"], "required: input"),
    (["info", "photo.dfm", "more"], "unrecognized arguments: more"),
    ([*ENCODE, "--colour"], "unrecognized arguments: --colour"),
    ([*ENCODE, "--preset", "best"], "invalid choice: 'best'"),
    ([*ENCODE, "--precision", "int8"], "invalid choice: 'int8'"),
    ([*ENCODE, "--quality", "50", "--target-bytes", "100"], "not allowed with"),
    ([*ENCODE, "--target-psnr", "30", "--target-bytes", "100"], "not allowed with"),
    ([*ENCODE, "--preset", "thesis", "--quality", "50"], "thesis preset"),
    ([*ENCODE, "--target-psnr", "30", "--widths", WIDTHS], "chooses the widths"),
]


def snapshot(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def assert_refused(shown, message):
    """One line on standard error and nothing else."""
    assert message in shown.err and shown.out == ""
    assert shown.err.startswith("dfm: ") and shown.err.endswith("\n") and shown.err.count("\n") == 1


@pytest.mark.parametrize("command,message", ERRORS, ids=lambda value: " ".join(value) if type(value) is list else "")
def test_errors(inside, capfd, no_fit, command, message):
    before = snapshot(inside)
    assert main(command) == 2
    assert_refused(capfd.readouterr(), message)
    assert snapshot(inside) == before


@pytest.mark.usefixtures("quick_compilation", "few_steps_and_nets")
def test_psnr_out_of_reach(inside, capfd):
    before = snapshot(inside)
    assert main(["encode", "photo.png", "-o", "old.dfm", "--profile", "weights", "--target-psnr", "70", "--quiet"]) == 2
    assert_refused(capfd.readouterr(), "70 dB is out of reach at this effort")
    assert snapshot(inside) == before


@pytest.mark.parametrize(
    "command",
    [
        ["encode", "cut.png", "-o", "old.dfm"],
        ["decode", "cut.dfm", "-o", "old.png"],
        ["encode", "photo.png", "-o", "old.dfm", "--quality", "101"],
    ],
)
def test_failure_leaves_an_existing_output_alone(inside, capfd, no_fit, command):
    before = snapshot(inside)
    assert main(command) == 2
    assert snapshot(inside) == before


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), BrokenPipeError()])
def test_interrupted_fit_leaves_nothing(inside, capfd, monkeypatch, failure):
    def interrupt(*_, **__):
        raise failure

    monkeypatch.setattr(fitting, "train", interrupt)
    stream, before = sys.stdout, snapshot(inside)
    monkeypatch.setattr(sys, "stdout", stream)  # put back afterwards: a broken pipe replaces it
    assert main(["encode", "photo.png", "-o", "old.dfm", "--widths", WIDTHS]) not in (0, 2)
    if sys.stdout is not stream:
        sys.stdout.close()
    assert snapshot(inside) == before
    assert "Traceback" not in capfd.readouterr().err
