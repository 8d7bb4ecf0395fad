"""Sets of networks that files are differences from: part of the format, so pinned."""

import numpy as np
import pytest
from random_content import random_content

from dfm.codec.latents import payload, prior, shapes
from dfm.codec.latents.shapes import Layout
from dfm.errors import UserError

HASH = "2e11242d26c6989b8287a90d51a339354cd51df8c8dbca4688e1cd9845bd3003"


def test_sets_are_the_formats():
    assert prior.sets_hash() == HASH
    assert 1 <= prior.COUNT <= 15  # four bits of a file


@pytest.mark.parametrize("channels", shapes.CHANNELS)
@pytest.mark.parametrize("grids", [1, 2, 6, 7, 9])
def test_every_layout_has_all_arrays(grids, channels):
    known = shapes.array_shapes(Layout(8, 8, channels, grids))
    for number in range(prior.COUNT + 1):
        arrays = prior.integers(grids, channels, number)
        assert {name: array.shape for name, array in arrays.items()} == known
        # the decoder's taps have two bits less, and see nothing of the others
        assert "upsampling" not in arrays or not (arrays["upsampling"] & 3).any()


def test_grey_networks_are_the_mean_of_the_colours():
    """Of a picture whose colours are equal: linear parts by their mean, filters by their sum over inputs."""
    colour, grey = (prior.integers(7, channels, 1) for channels in (3, 1))
    np.testing.assert_array_equal(grey["linear"][0], colour["linear"].sum(0) // 3)
    np.testing.assert_array_equal(grey["filter_1"][0, 0], colour["filter_1"].sum((0, 1)) // 3)
    np.testing.assert_array_equal(grey["context_weights_1"], colour["context_weights_1"])


def test_the_nearest_set_is_taken():
    assert [prior.nearest(weight) for weight in (1.0, 1e-9)] == [1, prior.COUNT]


def test_a_payload_names_its_set():
    content = random_content(20, 24)
    chosen = content.__class__(content.layout, content.networks._replace(prior=prior.COUNT), content.grids)
    packed = payload.pack(chosen)
    assert payload.unpack(packed, (20, 24, 3)).networks.prior == prior.COUNT
    assert (payload.paint(chosen) != payload.paint(content)).any()


def test_an_unknown_set_is_refused(monkeypatch):
    packed = payload.pack(random_content(20, 24))
    chosen = bytes([packed[0] + 16 * (prior.COUNT + 1)]) + packed[1:]
    with pytest.raises(UserError, match="set .* of networks is not known"):
        payload.unpack(chosen, (20, 24, 3))
