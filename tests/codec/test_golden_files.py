"""Files of every earlier version are read as they were meant, and painted as they were."""

import dataclasses
import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dfm import codec
from dfm.codec import container
from dfm.codec.latents import payload as latents_payload
from dfm.codec.weights import payload
from dfm.codec.weights.coefficients import QuantizedLayer

TESTS_DIR = Path(__file__).parents[1]
LATENTS = sorted((TESTS_DIR / "golden").glob("v*_latents_*.dfm"))
GOLDEN_FILES = [path for path in sorted((TESTS_DIR / "golden").glob("v*_*.dfm")) if path not in LATENTS]
GOLDEN_PICTURES = [path for path in GOLDEN_FILES if "_picture_" in path.stem]


@pytest.mark.parametrize("path", GOLDEN_PICTURES, ids=lambda path: path.stem)
def test_golden_pictures(path):
    """Files fitted once are painted the same for ever, within one level on any machine."""
    expected = np.array(Image.open(path.with_suffix(".png"))).astype(int)
    found = codec.decode(path.read_bytes()).astype(int)
    assert np.abs(found - expected.reshape(found.shape)).max() <= 1
    assert json.loads(path.with_suffix(".json").read_text())["header"]["pixel_checksum"] == zlib.crc32(
        expected.astype(np.uint8).tobytes()
    )


def test_golden_pictures_are_there():
    """Both versions, both bases, all precisions, grey and colour."""
    facts = [codec.describe(path.read_bytes()) for path in GOLDEN_PICTURES]
    for version in (1, 2):
        own = [each for each in facts if each["format_version"] == version]
        assert {each["precision"] for each in own} == set(payload.PRECISIONS)
        assert {each["basis"] for each in own} == {"cos_sin", "cas"} and {each["channels"] for each in own} == {1, 3}


@pytest.mark.parametrize("path", GOLDEN_FILES, ids=lambda path: path.stem)
def test_golden_files(path):
    """Header and coefficients."""
    header, packed = container.read(path.read_bytes())
    net = payload.unpack(packed, header.channels)
    expected = json.loads(path.with_suffix(".json").read_text())
    found = dataclasses.asdict(header) | dataclasses.asdict(net.architecture)
    assert json.loads(json.dumps(found)) == {"profile": "weights"} | expected["header"]
    steps = [layer.step_index for layer in net.layers if isinstance(layer, QuantizedLayer)]
    assert steps == expected["step_indices"]
    assert payload.coefficients_sha256(net) == expected["coefficients_sha256"]


@pytest.mark.parametrize("path", LATENTS, ids=lambda path: path.stem)
def test_golden_latents(path):
    """Every integer, every pixel of the picture and of its preview: on every machine."""
    data, expected = path.read_bytes(), json.loads(path.with_suffix(".json").read_text())
    picture = codec.decode(data)
    np.testing.assert_array_equal(picture, np.array(Image.open(path.with_suffix(".png"))).reshape(picture.shape))
    assert codec.is_reference_decode(data, picture)
    header, packed = container.read(data)
    assert dataclasses.asdict(header) == expected["header"]
    content = latents_payload.unpack(packed, header.shape)
    assert latents_payload.content_sha256(content) == expected["content_sha256"]
    preview = latents_payload.paint(content, expected["preview_level"])
    assert hashlib.sha256(preview.tobytes()).hexdigest() == expected["preview_sha256"]
    assert latents_payload.pack(content) == packed
    # of fitted pictures, small ones: the streams' last words count for more than a hundredth
    assert latents_payload.estimated_bytes(content) == pytest.approx(len(packed), rel=0.01, abs=2)


def test_golden_latents_are_there():
    names = ("colour", "flat", "grey", "set_1", "set_2", "set_3")
    assert [path.stem for path in LATENTS] == [f"v2_latents_{name}" for name in names]
    sets = [codec.describe(path.read_bytes())["prior"] for path in LATENTS]
    assert sets == [0, 0, 0, 1, 2, 3]
