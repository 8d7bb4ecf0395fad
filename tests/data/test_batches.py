"""Batches: the order against a plain transcription of its rule, and the laws that training rests on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfm.data import Batches, Dataset
from dfm.data.batches import ORDER
from dfm.data.crops import random_words
from dfm.data.dataset import ArrayPictures, DecodedPictures
from dfm.errors import UserError


class OddSizes(DecodedPictures):
    """Pictures of several sizes, each of one grey level that is its row."""

    shape, channels = None, 1
    sizes = ((9, 12), (4, 3), (20, 7), (8, 8))

    def __len__(self):
        return 16

    def picture(self, row):
        return np.full((*self.sizes[row % 4], 1), row, np.uint8)

    def fingerprint(self, rows):
        return {"contents": "levels"}


def numbered(count, height=2, width=2, channels=1) -> Dataset:
    """Pictures that hold their own number in every pixel."""
    images = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, height, width, channels))
    return Dataset("numbered", "train", [ArrayPictures(np.array(images))], np.arange(count) % 3)


def gradient(count, height, width) -> Dataset:
    """Pictures whose pixels say where they are: red is the row, green the column, blue the picture."""
    images = np.zeros((count, height, width, 3), np.uint8)
    images[..., 0] = np.arange(height)[None, :, None]
    images[..., 1] = np.arange(width)[None, None, :]
    images[..., 2] = np.arange(count)[:, None, None]
    return Dataset("gradient", "train", [ArrayPictures(images)], np.zeros(count, np.int32))


@st.composite
def sizes(draw):
    """(pictures, batch size) that are allowed."""
    batch_size = draw(st.integers(1, 12))
    whole = draw(st.booleans())
    count = batch_size * draw(st.integers(1, 4)) if whole else draw(st.integers(2 * batch_size, 5 * batch_size))
    return count, batch_size


@given(sizes(), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_epochs_visit_each_example_once_and_no_batch_holds_one_twice(size, seed):
    count, batch_size = size
    batches = Batches(numbered(count), batch_size, seed)
    steps = 4 * count // batch_size
    stream = np.concatenate([batches.at(step)["index"] for step in range(steps)])
    for epoch in range(len(stream) // count):
        assert sorted(stream[epoch * count : (epoch + 1) * count]) == list(range(count))
    for step in range(steps):
        assert len(set(stream[step * batch_size : (step + 1) * batch_size])) == batch_size


@given(sizes(), st.integers(0, 2))
@settings(max_examples=30, deadline=None)
def test_order_against_a_plain_transcription_of_its_rule(size, seed):
    count, batch_size = size
    batches = Batches(numbered(count), batch_size, seed)

    def raw(epoch):
        words = np.random.Philox(np.random.SeedSequence([seed, ORDER, epoch])).random_raw(count).tolist()
        return sorted(range(count), key=words.__getitem__)

    for epoch in range(5):
        expected = raw(epoch)
        taken = epoch * count - epoch * count // batch_size * batch_size  # of this epoch's first batch, so far
        if taken:
            before = raw(epoch - 1)[-taken:]
            body, end = expected[: count - batch_size], expected[count - batch_size :]
            expected = [i for i in body if i not in before] + [i for i in body if i in before] + end
        assert batches.order(epoch).tolist() == expected


def test_orders_differ_by_epoch_and_by_seed_and_are_uniform():
    batches = Batches(numbered(100), 100, 0)
    orders = np.stack([batches.order(epoch) for epoch in range(400)])
    assert not (orders[0] == orders[1]).all()
    assert not (orders[0] == Batches(numbered(100), 100, 1).order(0)).all()
    # mean over epochs of the example at a position: 49.5, standard error 28.9 / 20
    assert np.abs(orders.mean(axis=0) - 49.5).max() < 5 * 28.9 / 20


def test_orders_and_crops_are_the_same_in_every_release():
    """A run that resumes under another NumPy must find its place: the stream belongs to a checkpoint."""
    words = random_words(np.array([1, 2], np.uint64), first=5, count=2)
    assert words.tolist() == [
        [16672510893712702518, 3831910366908313155, 8860069960937825454, 8337932742539593905],
        [18138669005221240459, 482291206364973874, 10156390018149760317, 620925719121878170],
    ]
    assert Batches(numbered(10), 4, 7).order(0).tolist() == [8, 4, 3, 6, 2, 1, 0, 5, 9, 7]


def test_batches_hold_pictures_labels_and_numbers_that_belong_together():
    dataset = numbered(20)
    batch = Batches(dataset, 6, 0).at(3)
    assert {key: (value.dtype, value.shape) for key, value in batch.items()} == {
        "image": (np.uint8, (6, 2, 2, 1)),
        "label": (np.int32, (6,)),
        "index": (np.int32, (6,)),
    }
    assert (batch["image"][:, 0, 0, 0] == batch["index"]).all()
    assert (batch["label"] == batch["index"] % 3).all()


@pytest.mark.parametrize("options", [{}, {"crop": (3, 5), "flip": True}])
@pytest.mark.parametrize("process_count", [2, 3, 6])
def test_hosts_together_have_the_batch_of_one(process_count, options):
    dataset = gradient(16, 7, 9)
    whole = Batches(dataset, 6, 5, **options)
    hosts = [{"process_index": index, "process_count": process_count} for index in range(process_count)]
    parts = [Batches(dataset, 6, 5, **host, **options) for host in hosts]
    for step in (0, 2, 3, 7, 1000):  # 2 and 7 straddle epochs
        for key, expected in whole.at(step).items():
            assert (np.concatenate([part.at(step)[key] for part in parts]) == expected).all()


@pytest.mark.parametrize("options", [{}, {"crop": (3, 5), "flip": True}])
def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(options):
    dataset = gradient(16, 7, 9)
    uninterrupted = list(Batches(dataset, 6, 0, **options).prefetch(0, 12))
    for stop in (1, 5, 8):
        resumed = Batches(dataset, 6, 0, **options).prefetch(stop, 12)
        for expected, batch in zip(uninterrupted[stop:], resumed, strict=True):
            assert all((batch[key] == expected[key]).all() for key in expected)


def test_crops_are_windows_at_every_place_and_flips_mirror_half_of_them():
    batches = Batches(gradient(8, 5, 6), 8, 0, crop=(3, 4), flip=True)
    assert batches.picture_shape == (3, 4, 3)
    seen = []
    for step in range(100):
        batch = batches.at(step)
        for image, index in zip(batch["image"].astype(int), batch["index"], strict=True):
            mirrored = image[0, 0, 1] > image[0, -1, 1]
            window = image[:, ::-1] if mirrored else image
            top, left = window[0, 0, :2]
            assert (window[..., 0] == top + np.arange(3)[:, None]).all()
            assert (window[..., 1] == left + np.arange(4)[None]).all()
            assert (window[..., 2] == index).all()
            seen.append((top, left, mirrored))
    counts = np.unique(np.array(seen), axis=0, return_counts=True)[1]
    assert len(counts) == 3 * 3 * 2  # every place, both ways
    assert 20 < counts.min() and counts.max() < 80  # 800 / 18 = 44, standard deviation 6.5
    assert abs(np.mean([mirrored for *_, mirrored in seen]) - 0.5) < 5 * 0.5 / np.sqrt(800)


def test_an_example_is_cropped_anew_in_every_epoch():
    batches = Batches(gradient(8, 32, 32), 8, 0, crop=(4, 4))
    corners = []
    for step in range(5):
        batch = batches.at(step)
        corners.append(batch["image"][np.argmin(batch["index"]), 0, 0, :2].tolist())
    assert len({tuple(corner) for corner in corners}) > 1


def test_a_flip_without_a_crop_keeps_the_size():
    image = Batches(gradient(4, 3, 5), 4, 0, flip=True).at(0)["image"]
    assert image.shape == (4, 3, 5, 3)


def test_pictures_of_several_sizes_are_cropped_and_small_ones_enlarged():
    dataset = Dataset("odd", "train", [OddSizes()], np.zeros(16, np.int32))
    batch = Batches(dataset, 8, 0, crop=(6, 6), flip=True).at(0)
    assert batch["image"].shape == (8, 6, 6, 1)
    assert (batch["image"] == batch["index"][:, None, None, None]).all()


def test_the_seed_draws_the_crops():
    first, other = (Batches(gradient(64, 32, 32), 64, seed, crop=(4, 4)).at(0)["image"][..., :2] for seed in (0, 1))
    assert not (first == other).all()


def test_prefetch_gives_the_batches_in_order():
    batches = Batches(numbered(20), 6, 0)
    ahead = list(batches.prefetch(3, 9))
    assert len(ahead) == 6
    for step, batch in enumerate(ahead, start=3):
        assert (batch["index"] == batches.at(step)["index"]).all()
    assert list(batches.prefetch(4, 4)) == []


@pytest.mark.parametrize(
    "count, batch_size, options, message",
    [
        (10, 0, {}, "batch_size must be at least 1, not 0"),
        (10, 11, {}, "batch_size 11 is too large for the 10 pictures of numbered, train: at most 5, or all 10"),
        (10, 6, {}, "batch_size 6 is too large"),
        (10, 4, {"process_count": 3}, "batch_size 4 is not divisible by 3 processes"),
        (10, 4, {"crop": (3, 2)}, "crop 3x2 is larger than the pictures of numbered, 2x2"),
        (10, 4, {"crop": (0, 2)}, "crop must be two positive numbers"),
        (10, 4, {"crop": (1, 1, 1)}, "crop must be two positive numbers"),
        (10, 4, {"seed": -1}, "seed must be at least 0, not -1"),
    ],
)
def test_what_cannot_be_batched_is_refused_in_words(count, batch_size, options, message):
    with pytest.raises(UserError) as caught:
        Batches(numbered(count), batch_size, **{"seed": 0, **options})
    assert message in str(caught.value)


def test_pictures_of_several_sizes_need_a_crop():
    dataset = Dataset("odd", "train", [OddSizes()], np.zeros(16, np.int32))
    with pytest.raises(UserError, match="differ in size; set a crop"):
        Batches(dataset, 8, 0)
    with pytest.raises(UserError, match="differ in size"):
        dataset.take([0, 1])
