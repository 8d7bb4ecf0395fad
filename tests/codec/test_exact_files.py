"""What is exactly representable is exact, minima hold, and no file is worse than one colour."""

import numpy as np
import pytest

from dfm import codec
from dfm.codec import container
from dfm.codec.weights import fitting
from dfm.errors import UserError
from dfm.metrics.picture_quality import psnr

pytestmark = pytest.mark.usefixtures("quick_compilation", "few_steps_and_nets")


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (250, 10, 120), (128, 127, 129)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"target_bytes": 3000},
        {"target_bytes": 64, "profile": "weights"},
        {"target_psnr": 35},
        {"quality": 0},
        {"precision": "float16"},
    ],
    ids=str,
)
def test_a_flat_colour_returns_as_that_colour(no_fit, colour, options):
    for shape in ((64, 64, 3), (1, 1, 3)):
        picture = np.broadcast_to(np.array(colour, np.uint8), shape)
        data = codec.encode(picture, **options)
        np.testing.assert_array_equal(codec.decode(data), picture)
        assert len(data) < (64 if options.get("precision") is None else 130)


@pytest.mark.parametrize("basis", ["cos_sin", "cas"])
def test_flat_pictures_of_many_pixels(no_fit, monkeypatch, basis):
    """Their files are as large as the container wants them to be, and no larger than the target."""
    monkeypatch.undo()  # the real ladder
    picture = np.full((1500, 2000, 1), 77, np.uint8)
    with pytest.raises(UserError, match="too few for 2000 x 1500 pixels: 621 at least"):
        codec.encode(picture, target_bytes=620, basis=basis)
    data = codec.encode(picture, target_bytes=621, basis=basis)
    assert container.least_bytes(picture.shape) <= len(data) <= 621
    np.testing.assert_array_equal(codec.decode(data), picture)


def test_the_smallest_target_is_met(monkeypatch, photo):
    """700 x 700 pixels said "120 at least", and failed with 120."""
    monkeypatch.setattr(fitting, "train", lambda recipe, state, *_, **__: state)
    picture = np.tile(photo, (59, 44, 1))[:700, :700]
    with pytest.raises(UserError, match="too few for 700 x 700 pixels: 64 at least"):
        codec.encode(picture, target_bytes=63, profile="weights")
    data = codec.encode(picture, target_bytes=64, profile="weights")
    assert len(data) <= 64
    assert codec.decode(data).shape == picture.shape


def test_what_cannot_be_rounded_into_the_bytes_is_one_colour(monkeypatch, photo):
    """A fit that ran away from what its bytes can hold."""

    def run_away(recipe, state, *_, **__):
        noise = np.random.default_rng(0)
        layers = [{name: c + noise.normal(0, 1e4, c.shape) for name, c in layer.items()} for layer in state.layers]
        return state._replace(layers=layers)

    monkeypatch.setattr(fitting, "train", run_away)
    data = codec.encode(photo, target_bytes=64, profile="weights")
    mean = np.rint(photo.mean((0, 1))).astype(np.uint8)
    np.testing.assert_array_equal(codec.decode(data), np.broadcast_to(mean, photo.shape))


def test_no_file_is_worse_than_one_colour(photo):
    noise = np.random.default_rng(0).integers(20, 60, (12, 16, 3), np.uint8)
    bright = np.random.default_rng(0).integers(240, 256, (12, 16, 3), np.uint8)
    for picture in (noise, bright, photo):
        one_colour = np.broadcast_to(np.rint(picture.mean((0, 1))).astype(np.uint8), picture.shape)
        assert psnr(codec.decode(codec.encode(picture, profile="weights")), picture) >= psnr(one_colour, picture)
