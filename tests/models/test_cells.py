"""Cells: weights that sum to one and are continuous, the literal sum of four nets, resolutions that agree, no seams."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfm.models import cells
from dfm.models.fourier import split_coefficients
from dfm.models.literal_fourier import literal_layer

WIDTHS = (4, 4)


PAINT = jax.jit(cells.paint_cells, static_argnums=(1, 2, 3, 4, 5))


def vectors(batch, rows, columns, seed=0):
    """Random nets, as at the start of a training, and as different from each other."""
    count = cells.cell_coefficient_count(WIDTHS, 1)
    drawn = jax.random.normal(jax.random.key(seed), (batch, rows, columns, count))
    return drawn * cells.coefficient_scales(WIDTHS, 1)


@pytest.mark.parametrize(
    ("pixels", "number", "extent"), [(32, 4, 4.0), (28, 4, 3.5), (17, 5, 5.0), (3, 4, 4.0), (9, 1, 1)]
)
def test_weights_of_a_pixel_sum_to_one(pixels, number, extent):
    found = cells.axis(pixels, number, float(extent))
    assert found.weights.min() >= 0
    np.testing.assert_allclose(found.weights.sum((1, 2)), 1.0, atol=1e-6)
    # of two cells at most, and only of slots that stand where the pixel is
    assert ((found.weights > 0).sum((1, 2)) <= 2).all()
    centres = (np.arange(pixels) + 0.5) * extent / pixels
    stand = found.positions + (np.arange(number) + 0.5)[:, None]
    np.testing.assert_allclose(np.einsum("pcs,cs->p", found.weights, stand), centres, atol=1e-5)
    assert np.abs(found.positions[(found.weights > 0).any(0)]).max() <= 1


def test_weights_are_continuous():
    found = cells.axis(4_000, 4, 4.0)
    by_cell = found.weights.sum(2)  # of each cell, from pixel to pixel
    assert np.abs(np.diff(by_cell, axis=0)).max() < 1.01 * 4 / 4_000


def test_a_picture_is_the_literal_sum_of_its_nets():
    size, found = 6, vectors(1, 2, 3)
    painted = PAINT(found, WIDTHS, 1, size, size, (2.0, 3.0))
    expected = np.zeros((size, size))
    for y in range(size):
        for x in range(size):
            v, u = (y + 0.5) * 2 / size, (x + 0.5) * 3 / size
            for row in range(2):
                for column in range(3):
                    weight = _tent(v, row, 2) * _tent(u, column, 3)
                    point = jnp.array([[0.375 + 0.25 * (u - column - 0.5), 0.375 + 0.25 * (v - row - 0.5)]])
                    if weight:
                        expected[y, x] += weight * float(literal(point, found[0, row, column]))
    np.testing.assert_allclose(painted[0, :, :, 0], expected, atol=2e-6)


@jax.jit
def literal(point, coefficients):
    for layer in split_coefficients(coefficients, WIDTHS, 1):
        point = literal_layer(point, layer)
    return point[0, 0]


def _tent(position, cell, count):
    return max(0.0, 1.0 - abs(np.clip(position - 0.5, 0, count - 1) - cell))


def test_two_resolutions_agree_where_pixels_coincide():
    found = vectors(2, 4, 4)
    coarse = PAINT(found, WIDTHS, 1, 28, 28, (3.5, 3.5))
    fine = PAINT(found, WIDTHS, 1, 84, 84, (3.5, 3.5))
    np.testing.assert_allclose(fine[:, 1::3, 1::3], coarse, atol=1e-5)


def test_there_are_no_seams_between_cells():
    """Second differences along rows: where a cell ends or its neighbour's centre lies, no larger than elsewhere."""
    side = 32  # pixels a cell
    painted = np.asarray(PAINT(vectors(16, 4, 4), WIDTHS, 1, 4, 4 * side, (4.0, 4.0)), np.float64)
    jumps = np.abs(np.diff(painted[..., 0], axis=2)).mean((0, 1))
    bends = np.abs(np.diff(painted[..., 0], 2, axis=2)).mean((0, 1))  # bends[p]: around pixel p + 1
    border = np.arange(side, 4 * side, side)
    assert bends[border - 2].max() < 1.5 * bends.mean() and bends[border - 1].max() < 1.5 * bends.mean()
    # at centres the slope of the weights changes: no step there either
    centre = np.arange(side // 2, 4 * side, side)
    assert jumps[centre - 1].max() < 2 * jumps.mean()


def test_chunks_of_a_batch_change_nothing(monkeypatch):
    found = vectors(4, 2, 2)
    loss = lambda v: jnp.square(cells.paint_cells(v, WIDTHS, 1, 6, 6, (2.0, 2.0))).sum()  # noqa: E731
    monkeypatch.setattr(cells, "pictures_at_once", lambda batch, points: batch)
    whole, gradient = jax.jit(jax.value_and_grad(loss))(found)
    monkeypatch.setattr(cells, "pictures_at_once", lambda batch, points: 2)
    parts, gradient_of_parts = jax.jit(jax.value_and_grad(lambda v: loss(v)))(found)
    np.testing.assert_allclose(whole, parts, rtol=1e-6)
    np.testing.assert_allclose(gradient, gradient_of_parts, rtol=1e-3, atol=1e-4)
