"""Sections of a payload: what is read of them, what is refused, and previews."""

import subprocess
import sys

import numpy as np
import pytest
from random_content import random_content

from dfm.codec import container
from dfm.codec.latents import flat, payload
from dfm.errors import UserError

SHAPE = (40, 56, 3)


@pytest.fixture(scope="module")
def content():
    return random_content(*SHAPE, spread=3.0)


@pytest.fixture(scope="module")
def packed(content):
    return payload.pack(content)


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (8, 8), (257, 131)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_round_trip(size, channels):
    content = random_content(*size, channels)
    found = payload.unpack(payload.pack(content), (*size, channels))
    assert found.networks.exponents == content.networks.exponents
    for name, array in content.networks.integers.items():
        np.testing.assert_array_equal(found.networks.integers[name], array)
    np.testing.assert_array_equal(payload.paint(found), payload.paint(content))


def test_a_preview_needs_no_more_than_the_coarse_section(packed, content):
    coarse_bytes, fine_bytes = payload.unpack(packed, SHAPE).section_bytes
    for cut in (packed[: len(packed) - fine_bytes], packed):
        preview = payload.paint(payload.unpack_coarse(cut, SHAPE, 2), 2)
        np.testing.assert_array_equal(preview, payload.paint(content, 2))
    np.testing.assert_array_equal(payload.paint(payload.unpack_coarse(packed, SHAPE, 3), 3), payload.paint(content, 3))
    with pytest.raises(UserError, match="ends within its coarse section"):
        payload.unpack_coarse(packed[: len(packed) - fine_bytes - 1], SHAPE, 2)
    with pytest.raises(UserError, match="no preview at 1/64"):
        payload.unpack_coarse(packed, SHAPE, 6)


def test_estimate_and_parts(packed, content):
    assert payload.estimated_bytes(content) == pytest.approx(len(packed), rel=0.01)
    facts = payload.describe(payload.unpack(packed, SHAPE))
    assert facts["network_bytes"] + sum(facts["grid_bytes"]) == pytest.approx(len(packed), abs=12)
    assert facts["grids"][:2] == [[40, 56], [20, 28]]


def test_header_lengths_and_checksums_take_at_most_40_bytes(packed):
    facts = payload.describe(payload.unpack(packed, SHAPE))
    parts = facts["header_bytes"] + facts["network_bytes"] + sum(facts["grid_bytes"])
    assert parts == pytest.approx(container.shared_bytes(SHAPE) + len(packed), abs=0.5)
    longest = container.shared_bytes((2**14, 2**14, 3)) - container.shared_bytes(SHAPE)
    assert facts["header_bytes"] + longest <= 40


def test_every_damaged_byte_of_the_coarse_section_is_noticed_by_a_preview(packed):
    end = len(packed) - payload.unpack(packed, SHAPE).section_bytes[1]
    for position in range(end):
        damaged = packed[:position] + bytes([packed[position] ^ 129]) + packed[position + 1 :]
        with pytest.raises(UserError):
            payload.unpack_coarse(damaged, SHAPE, 2)
    with pytest.raises(UserError):  # the shape is part of what the checksum covers
        payload.unpack_coarse(packed, (40, 57, 3), 2)


def test_forged_sections_decode_or_are_refused():
    """Under a right checksum anything may be said, but within the picture's size, and errors are one line."""
    shape = (9, 12, 1)
    content = random_content(*shape, spread=2.0)
    packed = payload.pack(content)
    coarse_bytes, fine_bytes = payload.unpack(packed, shape).section_bytes
    first = len(packed) - coarse_bytes - fine_bytes
    decoded = 0
    for position in range(first, len(packed), 2):
        forged = bytearray(packed)
        forged[position] ^= 129
        coarse = bytes(forged[first : first + coarse_bytes])
        forged[first - 4 : first] = payload.checksum(content.layout, bytes(forged[: first - 4]), coarse)
        try:
            picture = payload.paint(payload.unpack(bytes(forged), shape))
        except UserError as error:
            assert "\n" not in str(error)
            continue
        decoded += 1
        assert picture.shape == shape
    assert decoded


@pytest.mark.parametrize("grids", [0, 8, 255])
def test_numbers_of_grids_out_of_bounds(packed, grids):
    with pytest.raises(UserError, match="grids, outside"):
        payload.unpack(bytes([grids]) + packed[1:], SHAPE)


@pytest.mark.parametrize("colour", [0, 1, 127, 254, 255])
@pytest.mark.parametrize("shape", [(1, 1, 1), (60, 90, 3)], ids=str)
def test_one_colour_is_exact_and_small(shape, colour):
    picture = np.full(shape, colour, np.uint8)
    packed = payload.pack(flat.flat_content(picture))
    np.testing.assert_array_equal(payload.paint(payload.unpack(packed, shape)), picture)
    assert container.shared_bytes(shape) + len(packed) <= flat.flat_bytes(shape) <= 90


def test_files_of_many_pixels_and_few_bytes_are_filled_up(monkeypatch):
    monkeypatch.setattr(container, "FREE_PIXELS", 0)
    monkeypatch.setattr(container, "MAX_PIXELS_PER_BYTE", 32)
    shape = (60, 90, 1)
    content = flat.flat_content(np.full(shape, 9, np.uint8))
    packed = payload.pack(content)
    assert container.shared_bytes(shape) + len(packed) == container.least_bytes(shape) == flat.flat_bytes(shape) == 169
    with pytest.raises(UserError, match="too few bytes for so many pixels"):
        payload.unpack(packed[:-1], shape)
    assert payload.unpack(packed, shape).networks.exponents == content.networks.exponents


IMPORTS = """
import sys
from dfm import codec
from dfm.codec.latents import preview, profile
found = {"jax", "flax", "optax", "jaxtyping", "scipy", "PIL"} & set(sys.modules)
assert not found, f"the decoder imports {found}"
"""


def test_the_decoder_imports_numpy_and_constriction_alone():
    """Nothing else is needed, and what is slow to import would take longer than a decode."""
    subprocess.run([sys.executable, "-c", IMPORTS], check=True, env={"PATH": "", "PYTHONPATH": ":".join(sys.path)})
