"""Rate control: bytes, PSNR and quality as targets, and options that contradict each other or do not exist."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from dfm import codec
from dfm.codec import search
from dfm.codec.profiles import Fitted, Plan
from dfm.codec.weights.payload import PRECISIONS
from dfm.codec.weights.profile import weights_profile
from dfm.errors import UserError
from dfm.metrics.picture_quality import psnr
from dfm.picture_files import downscale

pytestmark = pytest.mark.usefixtures("quick_compilation", "few_steps_and_nets")
WIDTHS = (2, 2)
LADDER = ((2,), WIDTHS)


def pictures_of_12x16(photo):
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    colour = np.broadcast_to(np.array([250, 10, 120], np.uint8), (12, 16, 3))
    return {"photograph": photo, "noise": noise, "flat": colour, "black": np.zeros((12, 16, 3), np.uint8)}


@pytest.mark.parametrize("kind", ["photograph", "noise", "flat", "black"])
def test_target_bytes_is_never_exceeded(photo, kind):
    image = pictures_of_12x16(photo)[kind]
    for target in (64, 69, 75, 90, 117, 160, 1000):
        data = codec.encode(image, profile="weights", target_bytes=target)
        assert len(data) <= target
        codec.decode(data)


def test_target_bytes_is_used(photo):
    """Near the target, not only below it."""
    for target in (70, 80, 90):
        assert len(codec.encode(photo, profile="weights", widths=WIDTHS, target_bytes=target)) > 0.93 * target - 2


def test_larger_targets_are_better(monkeypatch, photo):
    monkeypatch.undo()  # the real ladder: the two smallest nets differ by less than their fits scatter
    files = [codec.encode(photo, profile="weights", target_bytes=target, effort=1) for target in (64, 400)]
    small, large = (psnr(codec.decode(data), photo) for data in files)
    assert large > small + 2


@pytest.mark.parametrize("target", [-5, 0, 63])
def test_impossible_bytes_are_refused_at_once(photo, no_fit, target):
    with pytest.raises(UserError, match="too few"):
        codec.encode(photo, profile="weights", target_bytes=target)


@pytest.mark.parametrize("profile, least", [("weights", 938), ("latents", 721)])
def test_bytes_too_few_for_the_pixels_are_refused_at_once(no_fit, profile, least):
    with pytest.raises(UserError, match=f"too few for 4000 x 1000 pixels: {least} at least"):
        codec.encode(np.zeros((1000, 4000), np.uint8), profile=profile, target_bytes=least - 1)


@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_bytes_too_few_for_floats_are_refused_at_once(photo, no_fit, precision):
    with pytest.raises(UserError, match="too few"):
        codec.encode(photo, profile="weights", target_bytes=70, precision=precision)


def test_bytes_too_few_for_given_widths_are_refused_at_once(photo, no_fit):
    with pytest.raises(UserError, match="too few"):
        codec.encode(photo, target_bytes=100, widths=(8, 8, 8))


def test_target_psnr_is_reached(photo):
    data = codec.encode(photo, profile="weights", target_psnr=11.5)
    assert psnr(codec.decode(data), photo) >= 11.5
    assert tuple(codec.describe(data)["widths"]) in LADDER


def test_easy_psnr_takes_a_small_file(photo):
    assert codec.describe(codec.encode(photo, profile="weights", target_psnr=6))["widths"] == [2]


def test_psnr_out_of_reach_names_what_was_reached(photo):
    with pytest.raises(UserError, match=r"60 dB is out of reach .*: (\d+\.\d+) dB was the best of \d fits"):
        codec.encode(photo, profile="weights", target_psnr=60)


@pytest.mark.parametrize("target", [float("nan"), float("inf")])
def test_impossible_psnr_is_refused_at_once(photo, no_fit, target):
    with pytest.raises(UserError):
        codec.encode(photo, profile="weights", target_psnr=target)


@pytest.mark.parametrize("shape", [(1, 1, 3), (64, 96, 3), (512, 768, 3), (300, 200, 1)])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_planned_bytes_grow_with_quality(monkeypatch, shape, precision):
    monkeypatch.undo()
    profile = weights_profile(precision=precision)
    plans = [profile.plan(shape, quality / 2, None).most_bytes for quality in range(201)]
    assert plans == sorted(plans)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_largest_net_that_the_bytes_allow_is_planned(monkeypatch, precision):
    monkeypatch.undo()
    profile, shape = weights_profile(precision=precision), (512, 768, 3)
    rungs = [rung for rung in profile.ladder(shape) if rung.expected_bytes >= 65]
    assert len(rungs) > 30
    for below, rung in itertools.pairwise(rungs):
        wanted = math.ceil(rung.expected_bytes)
        assert profile.plan(shape, None, wanted) == dataclasses.replace(rung, most_bytes=wanted)
        assert profile.plan(shape, None, wanted - 1).choice == below.choice


def test_quality_is_monotone(monkeypatch, photograph):
    """Bytes, and PSNR within 0.1 dB, of files from q = 10 to 90 (scripts/quality_scale.py: in steps of ten)."""
    monkeypatch.undo()  # the real ladder, and enough steps: nets must differ by more than their fits scatter
    image = downscale(photograph, 48)
    files = [codec.encode(image, profile="weights", quality=quality, effort=1) for quality in (10, 50, 90)]
    sizes = [len(data) for data in files]
    decibels = [psnr(codec.decode(data), image) for data in files]
    assert sizes == sorted(sizes) and sizes[-1] > 3 * sizes[0]
    assert all(after > before - 0.1 for before, after in itertools.pairwise(decibels)), decibels


@pytest.mark.parametrize(
    "options,message",
    [
        ({"quality": 50, "target_bytes": 100}, "only one of"),
        ({"target_psnr": 30, "target_bytes": 100}, "only one of"),
        ({"quality": 50, "preset": "thesis"}, "thesis preset"),
        ({"target_bytes": 90_000, "preset": "thesis"}, "thesis preset"),
        ({"target_psnr": 30, "preset": "thesis"}, "thesis preset"),
        ({"target_psnr": 11, "widths": WIDTHS}, "chooses the widths"),
        ({"preset": "Thesis"}, "did you mean 'thesis'. .known: default, thesis"),
        ({"profile": "waves"}, "known: weights"),
        ({"qualty": 50}, "no option 'qualty'"),
        ({"precision": "int8"}, "known: quantized, float16, float32"),
        ({"basis": "sin"}, "known: cos_sin, cas"),
        ({"quality": 101}, "outside 0 ... 100"),
        ({"effort": 10}, "outside 1 ... 9"),
        ({"widths": (0,)}, "outside 1 ... 12"),
        ({"widths": (13,)}, "outside 1 ... 12"),
        ({"widths": (2,) * 65}, "outside 1 ... 64"),
        pytest.param({"effort": 0}, "outside 1 ... 9"),
        pytest.param({"widths": (9999,)}, "outside 1 ... 12"),
        pytest.param({"widths": WIDTHS, "seed": 10**20}, "seed"),
    ],
)
def test_impossible_options_are_refused_at_once(photo, no_fit, options, message):
    with pytest.raises(UserError, match=message):
        codec.encode(photo, **options)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3)),
        np.zeros((4, 4, 3), np.uint16),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
    ],
    ids=lambda image: f"{image.dtype}{list(image.shape)}",
)
def test_what_is_no_picture_is_refused(no_fit, image):
    with pytest.raises(UserError, match="pictures are"):
        codec.encode(image, profile="weights")


def test_progress_of_a_search_never_goes_back(photo):
    shares = []
    codec.encode(
        photo, profile="weights", target_psnr=11.5, progress=lambda done, total, decibels: shares.append(done / total)
    )
    assert shares == sorted(shares) and shares[-1] <= 1


class PeakedProfile:
    """Fits are best three quarters up the ladder: few steps make less of the last plans."""

    name = "latents"
    reached = (*range(20, 36), 34, 33, 32, 31)  # dB

    def ladder(self, shape):
        return [Plan(decibels, 100.0 + place, 10**6) for place, decibels in enumerate(self.reached)]

    def fit(self, pictures, plans, progress):
        for number, (picture, plan) in enumerate(zip(pictures, plans, strict=True)):
            noise = np.random.default_rng(0).normal(0, 255 * 10 ** (-plan.choice / 20), picture.shape)
            yield Fitted(number, b"", np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8))

    def pack(self, content):
        return content


def test_the_end_of_the_ladder_need_not_be_the_best():
    picture = np.full((64, 64, 3), 128, np.uint8)
    ((_, encoded),) = search.encode_each([picture], PeakedProfile(), target_psnr=33.7)
    assert psnr(encoded.picture, picture) >= 33.7
    with pytest.raises(UserError, match="40 dB is out of reach"):
        list(search.encode_each([picture], PeakedProfile(), target_psnr=40))
