"""The profile "auto": which profile a picture gets, and that a folder may hold pictures of both."""

import numpy as np
import pytest

from dfm import codec
from dfm.codec import automatic, search
from dfm.errors import UserError

SMALL, LARGE = np.zeros((7, 9, 3), np.uint8), np.zeros((64, 64, 3), np.uint8)


@pytest.mark.parametrize(
    "shape, options, name",
    [
        ((7, 9, 3), {}, "weights"),
        ((2**20, 1, 3), {}, "weights"),
        ((64, 64, 3), {"effort": 5, "seed": 1}, "latents"),
        ((64, 64, 3), {"widths": (3, 3)}, "weights"),
        ((64, 64, 3), {"precision": "float16"}, "weights"),
        ((64, 64, 3), {"basis": "cas"}, "weights"),
        ((64, 64, 3), {"preset": "thesis"}, "weights"),
    ],
)
def test_choice(shape, options, name):
    assert automatic.choose(shape, options) == name


def test_each_picture_comes_back_under_its_own_number(monkeypatch):
    calls = []

    def fake(images, profile, *, progress, **targets):
        progress(1, 2, 30.0)
        progress(2, 2, 30.0)
        return ((place, (profile.name, image.shape)) for place, image in enumerate(images))

    monkeypatch.setattr(search, "encode_each", fake)
    images = [LARGE, SMALL, LARGE[:, :40]]
    found = dict(codec.encode_each(images, progress=lambda done, total, _: calls.append(done / total)))
    names = ["latents", "weights", "latents"]
    assert found == {number: (names[number], image.shape) for number, image in enumerate(images)}
    assert calls == sorted(calls) and calls[-1] == 1


@pytest.mark.parametrize(
    "options, message",
    [
        ({"quality": 101}, "quality 101 is outside"),
        ({"effort": 10}, "effort 10 is outside"),
        ({"target_bytes": 10}, "too few"),
        ({"quality": 10, "target_bytes": 1000}, "only one of"),
        ({"profile": "latent"}, "did you mean 'latents'"),
    ],
)
def test_impossible_options_are_refused_before_any_fit(options, message):
    with pytest.raises(UserError, match=message):
        codec.encode_each([LARGE], **options)


def test_options_of_none_stand_for_the_default():
    """As the command line gives them."""
    codec.encode_each([], profile="latents", widths=None, basis=None, preset=None, effort=None)
    with pytest.raises(UserError, match="no option 'basis'"):
        codec.encode_each([], profile="latents", basis="cas")
