import jax.numpy as jnp
import numpy as np
import pytest

from dfm.arrays import grid, pad_batch, padded_batches, to_float, to_uint8

EVERY = np.arange(256, dtype=np.uint8)


@pytest.mark.parametrize("library", [np, jnp])
def test_the_two_forms_are_inverse(library):
    floats = to_float(library.asarray(EVERY))
    assert floats.dtype == np.float32 and float(floats[0]) == -1 and float(floats[-1]) == 1
    np.testing.assert_array_equal(to_uint8(floats), EVERY)


def test_to_uint8_clips_and_rounds_half_to_even():
    halves = (np.array([0.5, 1.5, 126.5, 253.5]) / 127.5 - 1).astype(np.float64)
    np.testing.assert_array_equal(to_uint8(np.array([-1.5, 1.5, -1.0, 1.0])), [0, 255, 0, 255])
    assert to_uint8(np.float32(0.0)) == 128  # 127.5
    np.testing.assert_array_equal(np.abs(to_uint8(halves) - np.array([0.5, 1.5, 126.5, 253.5])), 0.5)


def test_a_grid_shows_every_picture_in_its_place():
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((5, 2, 3, 1), np.uint8)
    page = grid(images, columns=2, margin=1)
    assert page.shape == (3 * 2 + 2, 2 * 3 + 1, 1)
    for position in range(5):
        top, left = position // 2 * 3, position % 2 * 4
        assert (page[top : top + 2, left : left + 3] == position).all()
    assert (page[2] == 255).all() and (page[:, 3] == 255).all()  # margins
    assert (page[6:, 4:] == 255).all()  # the gap


def test_a_grid_is_no_wider_than_its_pictures_and_needs_some():
    assert grid(np.zeros((2, 4, 4, 3), np.uint8), columns=8, margin=0).shape == (4, 8, 3)
    with pytest.raises(ValueError):
        grid(np.zeros((0, 4, 4, 3), np.uint8), columns=8)


def test_batches_have_one_size_and_the_last_says_what_is_its_own():
    rows = np.arange(14).reshape(7, 2)
    batches = list(padded_batches(rows, 3))
    assert [(batch.shape, count) for batch, count in batches] == [((3, 2), 3), ((3, 2), 3), ((3, 2), 1)]
    np.testing.assert_array_equal(np.concatenate([batch[:count] for batch, count in batches]), rows)
    np.testing.assert_array_equal(batches[-1][0], rows[[6, 6, 6]])
    assert list(padded_batches(rows[:0], 3)) == []
    for wrong in (rows, rows[:0]):
        with pytest.raises(ValueError):
            pad_batch(wrong, 3)
