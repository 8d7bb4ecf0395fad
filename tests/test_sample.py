"""`python -m dfm.sample`: what it writes and prints, and one clear line with exit code 2 for what can go wrong."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from tiny_runs import LinearMachine, TinyMachine, tiny_run

from dfm import progress, sample, train
from dfm.errors import UserError
from dfm.metrics.picture_quality import psnr
from dfm.priors import PRIORS, files, find
from dfm.sample import main
from dfm.sampling import RunData, figures, inversion
from dfm.training import runs

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """A third off; the results do not depend on it."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))  # not the user's
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")


@pytest.fixture(autouse=True)
def two_rows(monkeypatch):
    """Inversions are of one picture with two starts, or two with one: the same compiled step for all."""
    monkeypatch.setattr(inversion, "ROWS", 2)


@pytest.fixture(params=["table", "encoder"])
def run(request, tmp_path, monkeypatch):
    return serve(monkeypatch, tiny_run(tmp_path / "run", table=request.param == "table", model=LinearMachine()))


@pytest.fixture
def table(tmp_path, monkeypatch):
    return serve(monkeypatch, tiny_run(tmp_path / "run", table=True, model=LinearMachine()))


@pytest.fixture
def any_size(tmp_path, monkeypatch):
    """Its net paints any size."""
    return serve(monkeypatch, tiny_run(tmp_path / "run", table=True))


def serve(monkeypatch, run):
    """The command line gets this run, whatever it asks for."""
    run.workdir.mkdir()
    monkeypatch.setattr(runs, "load_run", lambda workdir, which: run)
    return run


@pytest.fixture
def show(tmp_path, capsys):
    """Runs the command; its lines on standard output by what they show, with the pictures of their files."""

    def command(*arguments):
        capsys.readouterr()  # what came before
        code = main([f"--workdir={tmp_path / 'run'}", f"--output={tmp_path / 'out'}", "--quiet", *arguments])
        captured = capsys.readouterr()
        assert (code, captured.err) == (0, "")
        lines = {line["what"]: line for line in map(json.loads, captured.out.splitlines())}
        for line in lines.values():
            with Image.open(line["file"]) as image:
                line["page"] = np.asarray(image.convert("L"))
        return lines

    return command


def cells(line):
    """The pictures of a grid, row by row, without margins and enlargement."""
    scale, columns = line["scale"], line["columns"]
    margin = max(1, scale // 2)
    height, width = line["height"] * scale, line["width"] * scale
    tops = range(0, line["page"].shape[0], height + margin)
    lefts = range(0, line["page"].shape[1], width + margin)
    found = [line["page"][top : top + height : scale, left : left + width : scale] for top in tops for left in lefts]
    assert len(lefts) == min(columns, line["count"])
    return np.stack(found[: line["count"]])


def refused(capsys, *arguments):
    code = main(list(arguments))
    captured = capsys.readouterr()
    assert code == 2 and captured.out == "" and captured.err.count("\n") == 1
    return captured.err


def test_everything_for_both_kinds_of_run(run, show):
    lines = show(
        "--what=samples,reconstructions,interpolation,traversal,invert,morph",
        "--count=6",
        "--columns=3",
        "--rows=2",
        "--frames=3",
        "--steps=10",
        "--starts=2",
    )
    assert set(lines) == {
        "samples-gaussian",
        "reconstructions",
        "interpolation-linear",
        "interpolation-spherical",
        "traversal",
        "invert",
        "morph-linear",
        "morph-spherical",
    }
    assert all(line["step"] == 20 for line in lines.values())
    assert lines["reconstructions"]["of"] == ("test" if run.latents is None else "train")
    assert lines["interpolation-linear"]["count"] == 9 * 3  # rows 0-1, 1-2, ..., 8-9
    assert lines["traversal"]["count"] == 2 * 3
    assert lines["morph-linear"]["count"] == 6 * 3


def test_samples_are_those_of_the_stored_prior(table, show):
    line = show("--count=5", "--seed=3", "--temperature=0.5")["samples-gaussian"]
    assert (line["prior"], line["seed"], line["temperature"]) == ("gaussian", 3, 0.5)
    prior, _ = files.load(table.workdir / "priors" / "gaussian.npz")
    latents = prior.sample(jax.random.key(3), 5, temperature=0.5)
    expected = RunData(table).painter.paint(np.asarray(latents))
    np.testing.assert_allclose(cells(line).astype(int), expected[..., 0], atol=1)
    again = show("--count=9", "--seed=3", "--temperature=0.5", "--batch_size=2")["samples-gaussian"]
    np.testing.assert_allclose(cells(again)[:5].astype(int), expected[..., 0], atol=1)


@pytest.mark.parametrize("prior", PRIORS)
def test_every_prior(table, show, prior):
    assert show("--count=2", f"--prior={prior}")[f"samples-{prior}"]["prior"] == prior


def test_reconstructions_stand_right_of_their_originals(run, show):
    line = show("--what=reconstructions", "--pictures=5,2,9")["reconstructions"]
    data = RunData(run)
    dataset = data.train if data.latents_are_stored else data.test
    originals = dataset.take(np.array([5, 2, 9]))
    shown = cells(line)
    np.testing.assert_array_equal(shown[::2], originals[..., 0])
    latents = run.latents[[5, 2, 9]] if data.latents_are_stored else data.painter.encode(originals)
    painted = data.painter.paint(latents)
    np.testing.assert_allclose(shown[1::2].astype(int), painted[..., 0], atol=1)
    assert line["pictures"] == [5, 2, 9]
    expected = [psnr(a, b) for a, b in zip(painted, originals, strict=True)]
    np.testing.assert_allclose(line["metrics"]["psnr_each"], expected, atol=0.006)
    mean_error = np.mean(np.square(painted.astype(float) - originals))
    assert line["metrics"]["psnr"] == pytest.approx(10 * np.log10(255**2 / mean_error))


def test_an_encoder_without_test_pictures_shows_those_of_the_training(tmp_path, monkeypatch, show):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(4):
        Image.fromarray(np.full((8, 8), 40 * number, np.uint8)).save(folder / f"{number}.png")
    serve(monkeypatch, tiny_run(tmp_path / "run", table=False, name=f"folder:{folder}"))
    line = show("--what=reconstructions")["reconstructions"]
    assert (line["of"], line["pictures"]) == ("train", [0, 1, 2, 3])
    np.testing.assert_array_equal(cells(line)[::2].mean((1, 2)), [0, 40, 80, 120])


def test_classes_interpolate_between_their_representatives(table, show):
    lines = show("--what=interpolation", "--columns=4")
    data = RunData(table)
    line = lines["interpolation-linear"]
    assert line["classes"] == list(range(10)) and line["of"] == "train"
    assert data.train.labels[line["pictures"]].tolist() == line["classes"]
    stations = data.painter.paint(table.latents[line["pictures"]])[..., 0]
    for path in ("linear", "spherical"):
        shown = cells(lines[f"interpolation-{path}"]).reshape(9, 4, 8, 8).astype(int)
        np.testing.assert_allclose(shown[:, 0], stations[:-1], atol=1)
        np.testing.assert_allclose(shown[:, -1], stations[1:], atol=1)
    assert np.abs(cells(lines["interpolation-linear"]).astype(int) - cells(lines["interpolation-spherical"])).max() > 1


def test_two_named_test_pictures(run, show):
    line = show(
        "--what=interpolation", "--from=12", "--to=40", "--paths=linear", "--columns=5", "--steps=5", "--starts=1"
    )["interpolation-linear"]
    assert (line["of"], line["pictures"], line["count"]) == ("test", [12, 40], 5)
    if run.latents is None:
        data = RunData(run)
        ends = data.painter.paint(data.painter.encode(data.test.take(np.array([12, 40]))))[..., 0]
        np.testing.assert_allclose(cells(line)[[0, -1]].astype(int), ends, atol=1)


def test_one_class_alone_interpolates_between_its_first_pictures(tmp_path, monkeypatch, show):
    serve(monkeypatch, tiny_run(tmp_path / "run", table=False, label=7))
    line = show("--what=interpolation", "--paths=linear")["interpolation-linear"]
    assert (line["of"], line["pictures"]) == ("train", [0, 1])
    assert show("--class=7", "--count=1")["samples-gaussian"]["count"] == 1  # it paints nothing else


def test_inversion_stores_what_it_found(table, show, tmp_path):
    line = show("--what=invert", "--pictures=3,8,1", "--steps=30", "--starts=2")["invert"]
    assert line["metrics"]["psnr"] > line["metrics"]["start_psnr"] > 0
    assert (line["of"], line["of_the_training"], line["pictures"]) == ("test", False, [3, 8, 1])
    with np.load(tmp_path / "out" / "invert.npz") as file:
        assert file["index"].tolist() == [3, 8, 1]
        painted = RunData(table).painter.paint(file["latents"])[..., 0]
    np.testing.assert_allclose(cells(line)[1::2].astype(int), painted, atol=1)


@pytest.mark.parametrize("directions", ["principal", "coordinates"])
def test_traversals_cross_the_mean_latent(table, show, directions):
    line = show("--what=traversal", "--columns=5", f"--directions={directions}", "--span=2")["traversal"]
    assert line["rows"] == [0, 1, 2]  # the table's spread falls from dimension to dimension
    shown = cells(line).reshape(3, 5, 8, 8)
    mean = RunData(table).painter.paint(table.latents.mean(0)[None])[0, ..., 0]
    np.testing.assert_allclose(shown[:, 2].astype(int), np.broadcast_to(mean, (3, 8, 8)), atol=1)
    np.testing.assert_allclose(line["standard_deviations"], [2, 1, 0.5], rtol=0.1)


def test_any_size(any_size, show):
    small = show("--count=3", "--seed=1")["samples-gaussian"]
    large = show("--count=3", "--seed=1", "--size=40", "--scale=2")["samples-gaussian"]
    assert (large["height"], large["width"], large["scale"]) == (40, 40, 2)
    np.testing.assert_allclose(cells(large)[:, 2::5, 2::5].astype(int), cells(small), atol=1)
    oblong = show("--count=3", "--size=8x24")["samples-gaussian"]
    assert (oblong["height"], oblong["width"]) == (8, 24)


def test_one_size_keeps_proportions(tmp_path, monkeypatch, show):
    serve(monkeypatch, tiny_run(tmp_path / "run", table=False, model=TinyMachine(height=4, width=8)))
    line = show("--count=2", "--size=20")["samples-gaussian"]
    assert (line["height"], line["width"]) == (10, 20)


def test_reconstructions_in_another_size_are_measured_in_their_own(any_size, show):
    own = show("--what=reconstructions", "--count=3")["reconstructions"]
    large = show("--what=reconstructions", "--count=3", "--size=24")["reconstructions"]
    assert large["metrics"] == own["metrics"] and large["height"] == 24
    np.testing.assert_array_equal(cells(large)[::2, 1::3, 1::3], cells(own)[::2])


def test_morph_is_a_looping_gif(table, show):
    line = show("--what=morph", "--count=2", "--frames=4", "--seconds=0.2", "--paths=spherical")["morph-spherical"]
    with Image.open(line["file"]) as gif:
        assert gif.info["loop"] == 0 and gif.n_frames == 8 and gif.info["duration"] == 50


def test_morph_through_test_pictures(run, show):
    line = show("--what=morph", "--pictures=3,5,7", "--frames=2", "--steps=5", "--starts=2", "--paths=linear")[
        "morph-linear"
    ]
    assert (line["of"], line["pictures"], line["count"]) == ("test", [3, 5, 7], 6)


def test_notes_and_progress_go_to_standard_error(table, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)
    code = main([f"--workdir={tmp_path / 'run'}", f"--output={tmp_path / 'out'}", "--count=3"])
    captured = capsys.readouterr()
    assert code == 0 and len(captured.out.splitlines()) == 1
    assert "prior gaussian is not fitted yet: fitting it to the training latents of step 20" in captured.err
    assert "painting: 3/3 (100 %) pictures" in captured.err


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
            "invert, morph)",
        ),
        (["--what=,"], "names none of samples"),
        (["--which=newest"], "'newest' is neither latest, best nor a step"),
        (["--pictures=1,-2"], "'1,-2' is not a list of numbers such as 0,7,12"),
        (["--prior=flow"], "invalid choice: 'flow'"),
        (["--count=0"], "--count must be at least 1, not 0"),
        (["--batch_size=-1"], "--batch_size must be at least 1"),
        (["--steps=-1"], "--steps must be at least 0"),
        (["--seed=-1"], "--seed must be 0 to 4294967295"),
        (["--temperature=nan"], "--temperature must be a number from 0 on, not nan"),
        (["--size=0"], "--size must be pixels such as 256 or 256x192"),
        (["--size=8x8x8"], "--size must be pixels"),
        (["--class=3"], "the model 'dfm' has no classes to choose from: train on one class alone"),
        (["--what=interpolation", "--from=1"], "needs both --from and --to"),
        (["--what=reconstructions", "--pictures=1500"], "no picture 1500 in digits, train: 0 to 1499"),
        (["--what=invert", "--pictures=297"], "no picture 297 in digits, test: 0 to 296"),
        (["--count=40000", "--size=64"], "40000 pictures of 64 x 64 are 164 megapixels"),
    ],
)
def test_mistakes_are_one_line(table, tmp_path, capsys, arguments, message):
    words = [f"--workdir={tmp_path / 'run'}", f"--output={tmp_path / 'out'}", "--quiet", *arguments]
    assert message in refused(capsys, *words)
    assert not list(tmp_path.glob("out/*.png"))


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


def test_lists_of_names_agree_with_what_they_name():
    """They are written out, so that --help need not wait for JAX."""
    assert tuple(figures.FIGURES) == sample.WHATS
    assert [find(name).name for name in PRIORS] == list(PRIORS)


def test_help_needs_no_jax():
    code = "import sys; sys.modules['jax'] = None\nfrom dfm.sample import main\nmain(['--help'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "examples:" in done.stdout, done.stderr


def test_sizes_by_the_longest_side(table):
    assert sample._size(None, table) == (8, 8)
    with pytest.raises(UserError, match="1 to 8192"):
        sample._size("9000", table)
