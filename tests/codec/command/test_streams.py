"""Names of any bytes, and standard output under all its names."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stub_encoder import picture

from dfm import codec
from dfm.compress import main

REPOSITORY = Path(__file__).parents[3]
GOLDEN = REPOSITORY / "tests" / "golden" / "v1_quantized_cas.dfm"
ODD = b"caf\xe9.png"  # Latin-1


def test_a_name_that_is_not_utf_8_is_read_written_and_printed(work, encoder, capfdbinary):
    name, compressed = os.fsdecode(ODD), os.fsdecode(b"caf\xe9.dfm")
    Image.fromarray(picture(0)).save(work / "in" / name)
    encoder.file = lambda image: GOLDEN.read_bytes()
    assert main(["encode", f"in/{name}", "-o", compressed]) == 0
    assert capfdbinary.readouterr().out.startswith(b"caf\xe9.dfm: ")
    assert main(["encode", f"in/{name}", "-o", compressed, "--no-overwrite"]) == 2
    assert capfdbinary.readouterr().err == b"dfm: caf\xe9.dfm: exists already\n"
    assert main(["encode", "in", "-o", "out", "--quiet"]) == 0
    assert main(["encode", "in", "-o", "out"]) == 0  # the journal knows the name again
    assert b"caf\xe9.dfm: is made of this picture" in capfdbinary.readouterr().out
    assert main(["decode", compressed, "-o", name]) == 0
    assert capfdbinary.readouterr().out.startswith(b"caf\xe9.png: 13 x ") and (work / name).exists()


def test_a_name_with_a_line_end_is_listed_in_one_line(work, encoder, run):
    (work / "in" / "two\nlines.png").write_text("no picture")
    _, _, err = run("encode in -o out")
    assert err.splitlines()[1].startswith("  in/two\\nlines.png: not a picture")


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="the system has no name for standard output")
def test_the_name_of_standard_output_into_a_pipe():
    command = [sys.executable, "-m", "dfm.compress", "decode", str(GOLDEN), "-o", "/dev/stdout"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, capture_output=True, timeout=120, env=environment)
    assert done.returncode == 0 and done.stderr.startswith(b"/dev/stdout: 13 x ")
    shown = np.asarray(Image.open(io.BytesIO(done.stdout)))
    np.testing.assert_array_equal(shown, codec.decode(GOLDEN.read_bytes()).squeeze())


def test_an_input_that_can_be_read_only_once(work, encoder):
    """A named pipe, as the shell's <(...) makes one."""
    os.mkfifo("pipe.png")
    stream = io.BytesIO()
    Image.fromarray(picture(0)).save(stream, "PNG")
    code = f"open('pipe.png', 'wb').write({stream.getvalue()!r})"
    with subprocess.Popen([sys.executable, "-c", code]):
        assert main(["encode", "pipe.png", "-o", "a.dfm", "--quiet"]) == 0
    np.testing.assert_array_equal(encoder.groups[0][0], picture(0))
