"""Damaged and forged files of fitted pictures: refused in one line, or harmless."""

import zlib

import numpy as np
import pytest

from dfm import codec
from dfm.errors import UserError

pytestmark = pytest.mark.usefixtures("quick_compilation", "few_steps_and_nets")
WIDTHS = (2, 2)


def test_every_corruption_of_a_real_file_is_refused_or_harmless(photo):
    data = codec.encode(photo, widths=WIDTHS)
    picture = codec.decode(data)
    damaged = [data[:length] for length in range(len(data))]
    for position, byte in enumerate(data):
        for flip in (1, 2, 4, 8, 16, 32, 64, 128, 255, 85):
            damaged.append(data[:position] + bytes([byte ^ flip]) + data[position + 1 :])
    for each in damaged:
        try:
            np.testing.assert_array_equal(codec.decode(each), picture)
        except UserError as error:
            assert str(error) and "\n" not in str(error)


def test_changes_under_a_new_checksum_decode_or_are_refused(photo):
    """A file made with intent may be another picture, of a size in proportion to the file, but never a crash."""
    body = codec.encode(photo, widths=WIDTHS)[:-4]
    decoded = 0
    for position in range(20, len(body)):  # the payload: every change of size would compile anew
        changed = body[:position] + bytes([body[position] ^ 129]) + body[position + 1 :]
        try:
            picture = codec.decode(changed + zlib.crc32(changed).to_bytes(4, "little"))
        except UserError:
            continue
        decoded += 1
        assert picture.shape == photo.shape and picture.dtype == np.uint8
    assert decoded
