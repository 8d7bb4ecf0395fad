"""Pictures to files of the latents profile and back."""

import numpy as np
import pytest

from dfm import codec
from dfm.codec.latents import fitting, flat, shapes
from dfm.codec.latents.picture_fit import Try, next_weight
from dfm.codec.weights import recipes
from dfm.errors import UserError
from dfm.metrics.picture_quality import psnr
from dfm.picture_files import downscale

pytestmark = pytest.mark.usefixtures("quick_compilation", "few_steps")


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr(recipes, "EFFORT_STEPS", dict.fromkeys((1, 3, 5, 7, 9), 150))


@pytest.fixture(scope="module")
def picture(photograph):
    return np.ascontiguousarray(downscale(photograph, 48)[:32])


def encode(picture, **options):
    """The file, after a decode of it; no picture has another size here, because each compiles anew."""
    data = codec.encode(picture, profile="latents", **options)
    assert codec.is_reference_decode(data, codec.decode(data))
    return data


def test_quality_is_monotone(picture):
    files = [encode(picture, quality=quality) for quality in (10, 60, 95)]
    sizes = [len(data) for data in files]
    decibels = [psnr(codec.decode(data), picture) for data in files]
    assert sizes == sorted(sizes) and decibels == sorted(decibels)
    assert decibels[0] > psnr(np.broadcast_to(picture.mean((0, 1)).astype(np.uint8), picture.shape), picture) + 2


@pytest.mark.parametrize(("target", "used"), [(300, 0.75), (700, 0.85)])
def test_target_bytes_are_kept_and_used(picture, target, used):
    """Short fits of few bytes leave more of them over."""
    size = len(encode(picture, target_bytes=target))
    assert used * target <= size <= target


@pytest.mark.parametrize("quality", [10, 50])
def test_a_target_is_as_good_as_a_quality_of_the_same_size(picture, quality):
    """Of a fit that goes on at a far lower rate little is left: such targets were 1 to 4 dB worse."""
    by_quality = encode(picture, quality=quality)
    by_size = encode(picture, target_bytes=len(by_quality))
    assert psnr(codec.decode(by_size), picture) > psnr(codec.decode(by_quality), picture) - 0.7


def test_target_psnr(picture):
    data = encode(picture, target_psnr=25)
    assert 25 <= psnr(codec.decode(data), picture) < 28


def test_a_psnr_that_a_quality_reaches_is_within_reach(picture):
    """In few steps the last weight of the ladder gives less than those before it."""
    reached = psnr(codec.decode(encode(picture, quality=100)), picture)
    assert psnr(codec.decode(encode(picture, target_psnr=reached - 0.2)), picture) >= reached - 0.2


def test_a_bright_page_beats_its_constant_picture(picture):
    """Clamped in the gradient, pages near white collapse to one colour without a word."""
    rng = np.random.default_rng(0)
    page = np.full(picture.shape, 255, np.uint8)
    page[10:12, 4:44] = 200
    page[20:22, 4:30] = 190
    page[22:26, 10:14] = rng.integers(100, 255, (4, 4, 3))
    assert 248 <= page.mean() <= 252
    flat_psnr = psnr(np.broadcast_to(np.rint(page.mean((0, 1))).astype(np.uint8), page.shape), page)
    assert psnr(codec.decode(encode(page, quality=90)), page) > flat_psnr + 10


def test_the_least_bytes_are_those_of_the_colour():
    """One colour takes a little more or less than another: what is named as the least holds, and is needed."""
    for colour in ((0, 0, 0), (255, 255, 255), (1, 254, 77)):
        picture = np.full((40, 30, 3), colour, np.uint8)
        size = len(codec.encode(picture, profile="latents"))
        assert len(codec.encode(picture, profile="latents", target_bytes=size)) == size
        with pytest.raises(UserError, match=f"{size - 1} bytes are too few for 30 x 40 pixels: {size} at least"):
            codec.encode(picture, profile="latents", target_bytes=size - 1)


@pytest.mark.parametrize("colour", [0, 255])
def test_one_colour_is_exact(picture, colour):
    data = encode(np.full_like(picture, colour))
    assert (codec.decode(data) == colour).all() and len(data) <= flat.flat_bytes(picture.shape)


def test_a_folder_is_one_call_and_seeds_matter(picture):
    other = np.ascontiguousarray(picture[::-1])
    one, two, three = codec.encode_batch([picture, other, picture], profile="latents", quality=20)
    assert one == three != two
    assert one == codec.encode(picture, profile="latents", quality=20)
    assert one != codec.encode(picture, profile="latents", quality=20, seed=1)


def test_impossible_options(picture):
    with pytest.raises(UserError, match="quality 101 is outside"):
        codec.encode(picture, profile="latents", quality=101)
    with pytest.raises(UserError, match="bytes are too few for 48 x 32 pixels"):
        codec.encode(picture, profile="latents", target_bytes=30)
    with pytest.raises(UserError, match="no option 'widths'"):
        codec.encode(picture, profile="latents", widths=(2, 2))


def test_latents_stay_where_the_hard_part_finds_them(picture):
    """With a gradient there integers flip to and fro, and more steps end worse."""
    grids = shapes.usual_grids(*picture.shape[:2])
    fit = fitting.train(picture, fitting.start(picture, grids, 0), grids, 1e-3, 50, 0)
    before = np.array(fit.latents)
    hard = fitting.AGAIN._replace(hard_fraction=1.0)
    after = fitting.train(picture, fitting.from_networks(fit.latents, fit.networks, fit.base), grids, 1e-3, 50, 0, hard)
    np.testing.assert_array_equal(before, np.array(after.latents))


def test_the_next_weight_of_a_search():
    """Sizes that fall with the root of the weight are met at once, others by two tries that they lie between."""
    assert next_weight([Try(1e-3, 2000)], 1000) == pytest.approx(1e-3 * 2 ** (1 / 0.55))
    above, below = Try(1e-3, 1200), Try(2e-3, 900)
    assert 1e-3 < next_weight([above, below], 1000) < 2e-3
    assert next_weight([Try(1e-3, 10**6)], 100) == pytest.approx(8e-3)
