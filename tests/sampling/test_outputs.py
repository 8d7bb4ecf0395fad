"""Files of pictures: enlarged grids, looping GIFs, and the JSON that goes with them."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from dfm.errors import UserError
from dfm.sampling.outputs import Outputs, encode_gif, enlarge, resized_nearest, square_columns

RNG = np.random.default_rng(0)


@pytest.fixture
def outputs(tmp_path):
    return Outputs(tmp_path / "new" / "folder", ["python", "-m", "dfm.sample"], {"step": 9}, scale=3)


def test_enlarging_repeats_every_pixel():
    images = RNG.integers(0, 256, (2, 3, 4, 3), dtype=np.uint8)
    large = enlarge(images, 5)
    assert large.shape == (2, 15, 20, 3)
    for row in range(5):
        np.testing.assert_array_equal(large[:, row::5, 2::5], images)


def test_nearest_resizing_keeps_and_undoes_whole_factors():
    images = RNG.integers(0, 256, (2, 6, 4, 1), dtype=np.uint8)
    np.testing.assert_array_equal(resized_nearest(images, 6, 4), images)
    np.testing.assert_array_equal(resized_nearest(images, 18, 12), enlarge(images, 3))
    np.testing.assert_array_equal(resized_nearest(enlarge(images, 3), 6, 4), images)
    assert resized_nearest(images, 7, 3).shape == (2, 7, 3, 1)


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (4, 2), (10, 4), (64, 8)])
def test_grids_are_about_square(count, columns):
    assert square_columns(count) == columns


def test_grid_shows_every_picture_enlarged(outputs, capsys):
    images = RNG.integers(0, 256, (5, 4, 4, 1), dtype=np.uint8)
    path = outputs.grid("samples", images, 3, {"metrics": {"psnr": np.inf}})
    page = np.asarray(Image.open(path))
    assert page.shape == (2 * 12 + 1, 3 * 12 + 2)
    np.testing.assert_array_equal(page[13 : 13 + 12, 13 : 13 + 12], enlarge(images, 3)[4, ..., 0])
    line = json.loads(capsys.readouterr().out)
    assert line.pop("seconds") >= 0
    assert line == {
        "what": "samples",
        "file": str(path),
        "step": 9,
        "columns": 3,
        "count": 5,
        "height": 4,
        "width": 4,
        "scale": 3,
        "metrics": {"psnr": None},
    }
    beside = json.loads(path.with_suffix(".json").read_text())
    assert beside["file"] == "samples.png" and beside["command"] == "python -m dfm.sample" and "hardware" in beside
    assert sorted(file.name for file in path.parent.iterdir()) == ["samples.json", "samples.png"]


@pytest.mark.parametrize(("side", "scale"), [(8, 8), (28, 2), (32, 2), (64, 1), (200, 1)])
def test_tiny_pictures_are_enlarged(tmp_path, side, scale):
    path = Outputs(tmp_path, [], {}).grid("one", np.zeros((1, side, side, 3), np.uint8), 1, {})
    assert np.asarray(Image.open(path)).shape[:2] == (side * scale, side * scale)


def test_huge_grids_are_refused_before_they_are_made(outputs):
    images = np.broadcast_to(np.zeros((1, 1, 1, 1), np.uint8), (1000, 256, 256, 1))
    with pytest.raises(UserError, match="1000 pictures of 768 x 768 are 590 megapixels, but 100 are the most"):
        outputs.grid("samples", images, 10, {})


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: cannot be made"):
        Outputs(tmp_path / "file", [], {})


def test_grey_gif_keeps_levels_and_loops():
    frames = RNG.integers(0, 256, (4, 6, 5, 1), dtype=np.uint8)
    with Image.open(io.BytesIO(encode_gif(frames, seconds=0.4))) as gif:
        assert gif.info["loop"] == 0 and gif.n_frames == 4
        for number, frame in enumerate(frames):
            gif.seek(number)
            assert gif.info["duration"] == 100
            np.testing.assert_array_equal(np.asarray(gif.convert("L")), frame[..., 0])


def test_colour_gif_is_close_and_shares_a_palette():
    ramp = np.linspace(0, 255, 16, dtype=np.uint8)
    frame = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], np.uint8(128)), -1)
    frames = np.stack([frame, frame[::-1]])
    with Image.open(io.BytesIO(encode_gif(frames, seconds=1))) as gif:
        assert gif.n_frames == 2
        for number in range(2):
            gif.seek(number)
            shown = np.asarray(gif.convert("RGB")).astype(int)
            assert np.abs(shown - frames[number]).mean() < 6


def test_equal_frames_stay_frames():
    """A morph may rest: Pillow would join equal frames, but their time must be kept."""
    frames = np.zeros((3, 4, 4, 1), np.uint8)
    with Image.open(io.BytesIO(encode_gif(frames, seconds=0.3))) as gif:
        total = 0
        for number in range(gif.n_frames):
            gif.seek(number)
            total += gif.info["duration"]
        assert total == 300


def test_latents_are_stored_with_the_size(outputs):
    path = outputs.store_latents("invert", np.ones((2, 3), np.float32), np.array([4, 7]), 8, 6)
    with np.load(path) as file:
        assert file["latents"].shape == (2, 3) and file["index"].tolist() == [4, 7]
        assert (int(file["height"]), int(file["width"])) == (8, 6)
