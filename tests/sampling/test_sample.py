"""`python -m dfm.sample`: what it writes and prints, and one clear line with exit code 2 for what can go wrong."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sample_command import cells, refused

from dfm import progress, sample, train
from dfm.errors import UserError
from dfm.priors import PRIORS, find
from dfm.sample import main, picture_size
from dfm.sampling import RunData, figures
from dfm.training import runs

pytestmark = pytest.mark.usefixtures("own_cache", "two_rows")
REPOSITORY = Path(__file__).parents[2]


def test_notes_and_progress_go_to_standard_error(table, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)
    code = main([f"--workdir={tmp_path / 'run'}", f"--output={tmp_path / 'out'}", "--count=3"])
    captured = capsys.readouterr()
    assert code == 0 and len(captured.out.splitlines()) == 1
    assert "prior gaussian is not fitted yet: fitting it to the training latents of step 20" in captured.err
    assert "decoding: 3/3 (100 %) pictures" in captured.err


def test_json_beside_the_picture_has_command_and_hardware(table, show, tmp_path):
    show("--count=1")
    beside = json.loads((tmp_path / "out" / "samples-gaussian.json").read_text())
    assert beside["command"] == "python -m dfm.sample --workdir=run --output=out --quiet --count=1"
    assert {"commit", "hardware", "versions", "seconds", "step", "seed", "prior"} <= set(beside)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--what=sampels"],
            "unknown 'sampels'; did you mean 'samples'? (known: samples, reconstructions, interpolation, traversal, "
            "invert, morph, attribute)",
        ),
        (["--what=,"], "names none of samples"),
        (["--which=newest"], "'newest' is neither latest, best nor a step"),
        (["--pictures=1,-2"], "'1,-2' is not a list of numbers such as 0,7,12"),
        (["--prior=flows"], "unknown prior 'flows'; did you mean 'flow'?"),
        (["--prior=codes:"], "unknown prior 'codes:'; did you mean 'codes:RUN'?"),
        (["--prior=vamp"], "its model has learned no VampPrior (model.prior=vamp)"),
        (["--count=0"], "--count must be at least 1, not 0"),
        (["--batch_size=-1"], "--batch_size must be at least 1"),
        (["--what=invert", "--steps=-1"], "--steps must be at least 0"),
        (["--seed=-1"], "--seed must be 0 to 4294967295"),
        (["--temperature=nan"], "--temperature must be a number from 0 on, not nan"),
        (["--size=0"], "--size must be pixels such as 256 or 256x192"),
        (["--size=8x8x8"], "--size must be pixels"),
        (["--frames=3"], "--frames is for --workdir and --what=morph"),
        (["--what=traversal", "--prior=gmm"], "--prior is for --workdir and --what=samples,morph"),
        (["--class=3"], "the model 'dfm' has no classes to choose from: train on one class alone"),
        (["--what=interpolation", "--from=1"], "needs both its ends"),
        (["--what=reconstructions", "--pictures=1500"], "no picture 1500 in digits, train: 0 to 1499"),
        (["--what=invert", "--pictures=297"], "no picture 297 in digits, test: 0 to 296"),
        (["--count=40000", "--size=64"], "40000 pictures of 64 x 64 are 164 megapixels"),
    ],
)
def test_mistakes_are_one_line(table, tmp_path, capsys, arguments, message):
    words = [f"--workdir={tmp_path / 'run'}", f"--output={tmp_path / 'out'}", "--quiet", *arguments]
    assert message in refused(capsys, *words)
    # nothing of what else was asked for, and no prior either
    assert not list(tmp_path.glob("out/*.png")) and not list(tmp_path.glob("run/priors/*"))


def test_from_training_to_pictures(tmp_path, show):
    """A real checkpoint of the real model: everything that the stand-in leaves out."""
    config = f"--config={REPOSITORY / 'configs' / 'dfm_digits.py'}:quick"
    changes = ["total_steps=2", "batch_size=60", "sample_every_steps=0", "model.net_width=2", "model.net_depth=2"]
    assert train.main([config, f"--workdir={tmp_path / 'run'}", *(f"--config.{change}" for change in changes)]) == 0
    lines = show("--what=samples,reconstructions", "--count=2", "--prior=gmm", "--which=2")
    assert {line["step"] for line in lines.values()} == {2}
    assert (tmp_path / "run" / "priors" / "gmm.npz").exists()
    run = runs.load_run(tmp_path / "run")
    expected = RunData(run).painter.paint(np.asarray(run.latents)[:2])
    np.testing.assert_allclose(cells(lines["reconstructions"])[1::2].astype(int), expected[..., 0], atol=1)


def test_no_run_in_the_folder(tmp_path, capsys):
    line = refused(capsys, f"--workdir={tmp_path}", f"--output={tmp_path / 'out'}")
    assert line.startswith(f"dfm.sample: {tmp_path}: holds no run") and not (tmp_path / "out").exists()


@pytest.mark.parametrize("folder", ["checkpoints", "checkpoints/7"])
@pytest.mark.parametrize("what", ["workdir", "vae"])
def test_no_picture_goes_among_the_checkpoints(tmp_path, capsys, what, folder):
    (tmp_path / "link").symlink_to(tmp_path)
    more = ["--encode=photos"] if what == "vae" else []
    line = refused(capsys, f"--{what}={tmp_path}", f"--output={tmp_path / 'link' / folder}", *more)
    assert "is among the checkpoints of" in line and not (tmp_path / "checkpoints").exists()


def test_lists_of_names_agree_with_what_they_name():
    """They are written out, so that --help need not wait for JAX."""
    assert tuple(figures.FIGURES) == sample.WHATS
    assert [find(name).name for name in PRIORS] == list(PRIORS)


def test_help_needs_no_jax():
    code = "import sys; sys.modules['jax'] = None\nfrom dfm.sample import main\nmain(['--help'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "examples:" in done.stdout, done.stderr


def test_sizes_by_the_longest_side(table):
    assert picture_size(None, table) == (8, 8)
    with pytest.raises(UserError, match="1 to 8192"):
        picture_size("9000", table)
