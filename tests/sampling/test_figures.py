"""What `python -m dfm.sample` shows of a run, figure by figure."""

import jax
import numpy as np
import pytest
from PIL import Image
from sample_command import cells, serve
from tiny_runs import TinyMachine, tiny_run

from dfm.metrics.picture_quality import psnr
from dfm.priors import PRIORS, files, find
from dfm.sampling import RunData

pytestmark = pytest.mark.usefixtures("own_cache", "two_rows")


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
def test_every_prior(monkeypatch, table, show, prior):
    options = find(prior).options
    for name, value in {"steps": 20, "width": 8, "couplings": 2}.items():
        if name in options:
            monkeypatch.setitem(options, name, value)
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
