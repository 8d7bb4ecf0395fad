"""Pictures to files and back, alone and in batches: every shape, precision and basis; seeds and progress."""

import pickle

import numpy as np
import pytest

from dfm import codec
from dfm.codec import container
from dfm.codec.weights import painting, payload, profile, recipes
from dfm.codec.weights.payload import PRECISIONS
from dfm.errors import UserError
from dfm.metrics.picture_quality import psnr

pytestmark = pytest.mark.usefixtures("quick_compilation", "few_steps_and_nets")
WIDTHS = (2, 2)
STEPS = 60


@pytest.mark.parametrize("shape", [(12, 16), (12, 16, 1), (12, 16, 3), (1, 1, 3), (7, 13, 3), (400, 400, 3)], ids=str)
def test_round_trip(shape):
    rows, columns, *_ = np.indices(shape, sparse=True)
    image = np.broadcast_to(255 * (rows + columns) // max(1, sum(shape[:2]) - 2), shape).astype(np.uint8)
    data = codec.encode(image, widths=WIDTHS)
    decoded = codec.decode(data)
    facts = codec.describe(data)
    assert decoded.dtype == np.uint8 and decoded.shape == (*shape[:2], *(shape[2:] or (1,)))
    assert (facts["height"], facts["width"], facts["channels"]) == decoded.shape
    assert facts["profile"] == "weights" and facts["bytes"] == len(data) and facts["format_version"] == 2
    assert facts["widths"] == list(WIDTHS) and facts["precision"] == "quantized" and facts["basis"] == "cos_sin"
    np.testing.assert_array_equal(codec.decode(data), decoded)
    assert codec.is_reference_decode(data, decoded)
    changed = decoded.copy()
    changed[-1, -1, -1] ^= 1
    assert not codec.is_reference_decode(data, changed)


def test_two_and_three_dimensional_grey_are_one(photo):
    assert codec.encode(photo[..., 0], widths=WIDTHS) == codec.encode(photo[..., :1], widths=WIDTHS)


def test_a_fit_is_better_than_one_colour(photo):
    one_colour = np.broadcast_to(np.rint(photo.mean((0, 1))).astype(np.uint8), photo.shape)
    assert psnr(codec.decode(codec.encode(photo, widths=WIDTHS)), photo) > psnr(one_colour, photo) + 1


@pytest.mark.parametrize("basis", ["cos_sin", "cas"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_precisions_and_bases(photo, precision, basis):
    data = codec.encode(photo, widths=WIDTHS, precision=precision, basis=basis)
    facts = codec.describe(data)
    assert (facts["precision"], facts["basis"]) == (precision, basis)
    assert codec.is_reference_decode(data, codec.decode(data))
    assert psnr(codec.decode(data), photo) > 11
    count = facts["parameters"] - (2 + 2 + 3) * (basis == "cos_sin")  # sin(0) is not coded
    if precision != "quantized":
        assert len(data) == 20 + count * np.dtype(precision).itemsize


def test_float16_and_float32_are_the_same_net(photo):
    half, single = (codec.encode(photo, widths=WIDTHS, precision=precision) for precision in ("float16", "float32"))
    layers = [payload.unpack(container.read(data)[1], 3).layers for data in (half, single)]
    for one, other in zip(*layers, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name].astype(np.float16))


def test_seeds(photo):
    first, again, other = (codec.encode(photo, widths=WIDTHS, seed=seed) for seed in (5, 5, 6))
    assert first == again != other


def test_progress_counts_to_the_end(photo):
    calls = []
    images = [photo, photo[..., :1]]  # two groups
    codec.encode_batch(images, widths=WIDTHS, progress=lambda *call: calls.append(call))
    steps, totals, decibels = zip(*calls, strict=True)
    assert steps == tuple(sorted(steps)) and steps[-1] == 2 * STEPS and set(totals) == {2 * STEPS}
    assert [step for step, value in zip(steps, decibels, strict=True) if np.isnan(value)] == [0, STEPS]  # compiling
    assert all(0 < value < 100 for value in decibels if not np.isnan(value))


def test_effort_steps(monkeypatch):
    monkeypatch.undo()
    steps = [recipes.effort_steps(effort) for effort in range(1, 10)]
    assert steps[::2] == [300, 1_000, 3_000, 10_000, 30_000]
    assert steps == sorted(steps)
    assert steps[1] == round((300 * 1_000) ** 0.5)
    for effort in (0, 10, -1, 2.5):
        with pytest.raises(UserError, match="effort"):
            recipes.effort_steps(effort)


def test_batch_of_unequal_pictures(photo):
    """Padding, grouping by channels, and the order of the results."""
    grey = np.ascontiguousarray(photo[..., 1])
    small = np.ascontiguousarray(photo[:7, 3:])
    images = [small, grey, photo, photo[:1, :1]]
    files = codec.encode_batch(images, widths=WIDTHS)
    for image, data in zip(images, files, strict=True):
        decoded = codec.decode(data)
        image = image.reshape(*image.shape[:2], -1)
        assert decoded.shape == image.shape and codec.is_reference_decode(data, decoded)
        if image.size > 3:
            alone = psnr(codec.decode(codec.encode(image, widths=WIDTHS)), image)
            assert psnr(decoded, image) == pytest.approx(alone, abs=2.5)


def test_groups_that_fill_the_memory_are_cut(monkeypatch, photo):
    images = [photo, photo[::-1], photo[:7, :13]]
    monkeypatch.setattr(profile, "MAX_GROUP_PICTURES", 1)
    files = codec.encode_batch(images, widths=WIDTHS)
    assert files == [codec.encode(image, widths=WIDTHS) for image in images]
    calls = []
    monkeypatch.setattr(profile, "MAX_GROUP_PIXELS", 8 * 256)  # two padded pictures, from four starts each
    monkeypatch.setattr(profile, "MAX_GROUP_PICTURES", 64)
    codec.encode_batch([*images, images[2]], widths=WIDTHS, progress=lambda *call: calls.append(call))
    assert {total for _, total, _ in calls} == {2 * STEPS}  # the fourth is equal to the third


def test_equal_pictures_get_equal_files(photo):
    first, other, again = codec.encode_batch([photo, photo[::-1], photo.copy()], widths=WIDTHS)
    assert first == again != other


def test_files_come_with_what_they_decode_to(photo):
    for _, encoded in codec.encode_each([photo, photo[..., :1]], widths=WIDTHS):
        np.testing.assert_array_equal(codec.decode(encoded.data), encoded.picture)


def test_nothing_is_painted_twice(photo, monkeypatch):
    """Neither to choose among the starts, nor for the checksum, nor to compare with a PSNR."""
    painted, paint_net = [], painting.paint_net

    def paint(net, height, width):
        painted.append(pickle.dumps(net))
        return paint_net(net, height, width)

    monkeypatch.setattr(painting, "paint_net", paint)
    codec.encode(photo, widths=WIDTHS)
    codec.encode(photo, profile="weights", target_psnr=11)
    assert len(painted) == len(set(painted)) > 4


def test_no_pictures():
    assert codec.encode_batch([]) == []


@pytest.mark.parametrize("kind", ["colour", "black", "pixel", "dark noise"])
def test_flat_pictures(monkeypatch, kind):
    """Nothing to fit but one colour: at least that is found."""
    monkeypatch.setattr(recipes, "EFFORT_STEPS", dict.fromkeys((1, 3, 5, 7, 9), 400))
    colour = np.array([0, 0, 0] if kind == "black" else [250, 10, 120], np.uint8)
    image = np.broadcast_to(colour, (1, 1, 3) if kind == "pixel" else (12, 16, 3)).copy()
    if kind == "dark noise":  # so many pixels that a small net cannot learn a hundredth of them by heart
        image = np.random.default_rng(0).integers(20, 60, (48, 64, 3), np.uint8)
    one_colour = np.broadcast_to(np.rint(image.mean((0, 1))).astype(np.uint8), image.shape)
    reached = psnr(codec.decode(codec.encode(image, widths=WIDTHS)), image)
    assert reached > min(20, psnr(one_colour, image) - 1)
