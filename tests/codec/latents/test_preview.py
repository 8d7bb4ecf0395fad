"""`dfm decode --preview`: a quarter of the resolution from the beginning of a file."""

import dataclasses
import io

import numpy as np
import pytest
from random_content import random_content

from dfm.codec import container
from dfm.codec.latents import payload, preview
from dfm.compress import main
from dfm.errors import UserError
from dfm.picture_files import load_picture

CONTENT = random_content(61, 75, spread=3.0)


@pytest.fixture(scope="module")
def data():
    header = container.Header(75, 61, 3, "latents", container.checksum(payload.paint(CONTENT)))
    return container.write(header, payload.pack(CONTENT))


def fine_bytes(data: bytes) -> int:
    header, packed = container.read(data)
    return payload.unpack(packed, header.shape).section_bytes[1]


def test_a_file_that_is_cut_off_has_its_preview(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cut = data[: len(data) - 4 - fine_bytes(data)]
    (tmp_path / "cut.dfm").write_bytes(cut)
    assert main(["decode", "cut.dfm", "-o", "small.png", "--preview", "4"]) == 0
    assert "small.png: 19 x 16" in capsys.readouterr().out
    np.testing.assert_array_equal(load_picture("small.png"), payload.paint(CONTENT, 2))
    assert main(["decode", "cut.dfm", "-o", "whole.png"]) == 2
    assert not (tmp_path / "whole.png").exists()


def test_no_more_is_read_than_the_coarse_section(data):
    stream = io.BytesIO(data)
    preview.read_preview(stream, 8)
    assert stream.tell() == len(data) - 4 - fine_bytes(data)


@pytest.mark.parametrize("factor", [-4, 0, 1, 2, 3, 5, 128])
def test_factors_that_there_are_not(data, factor):
    with pytest.raises(UserError, match="a preview at 1/"):
        preview.read_preview(io.BytesIO(data), factor)


def test_too_small_a_preview_is_no_damage():
    content = dataclasses.replace(CONTENT, networks=CONTENT.networks._replace(prior=3))
    data = container.write(container.Header(75, 61, 3, "latents", 0), payload.pack(content))
    with pytest.raises(UserError, match=f"the file has only {CONTENT.layout.grids} grids"):
        preview.read_preview(io.BytesIO(data), 2**CONTENT.layout.grids)


def test_damage_is_noticed(data):
    end = len(data) - 4 - fine_bytes(data)
    for position in range(5, end, 7):
        damaged = data[:position] + bytes([data[position] ^ 64]) + data[position + 1 :]
        with pytest.raises(UserError):
            _, picture = preview.read_preview(io.BytesIO(damaged), 4)
            if position in range(8, 12):  # the pixels' checksum, which no preview needs
                np.testing.assert_array_equal(picture, payload.paint(CONTENT, 2))
                raise UserError("harmless")
    for length in range(0, end, 5):
        with pytest.raises(UserError):
            preview.read_preview(io.BytesIO(data[:length]), 4)


def test_the_other_profile_has_none(pytestconfig):
    path = pytestconfig.rootpath / "tests/golden/v2_picture_quantized_cas.dfm"
    with pytest.raises(UserError, match="profile weights has no preview"):
        preview.read_preview(io.BytesIO(path.read_bytes()), 4)
    old = path.with_name("v1_picture_quantized_cas.dfm").read_bytes()
    with pytest.raises(UserError, match="first format have no preview"):
        preview.read_preview(io.BytesIO(old), 4)
