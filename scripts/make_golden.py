"""Writes the golden .dfm files of tests/golden/, which every later version must read, byte for byte and forever.

    python scripts/make_golden.py [--output_dir tests/golden]

Existing files are never overwritten: a new format version adds files beside the old ones. Beside each NAME.dfm stands
NAME.json, what a reader must find in it: the header, the step indices, and the SHA-256 of all coefficients. Nets that
were fitted to a picture (NAME has "picture" in it) have their reference decode beside them too, as NAME.png; the
pictures are scikit-learn's photographs, 48 pixels wide. Of the profile latents, NAME.json holds the SHA-256 of all
integers and of the preview's pixels. About a minute.
"""

import argparse
import dataclasses
import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dfm import codec
from dfm.codec import container
from dfm.codec.latents import payload as latents_payload
from dfm.codec.weights import payload
from dfm.codec.weights.coefficients import QuantizedLayer, dequantize
from dfm.codec.weights.payload import Architecture, Net
from dfm.picture_files import downscale, save_picture

GOLDEN_DIR = Path(__file__).parents[1] / "tests" / "golden"

# Arguments of fit_picture: fits differ from machine to machine, so these files can be read for ever but not made again
GOLDEN_PICTURES: dict[str, dict[str, Any]] = {
    "v2_picture_quantized_cos_sin": dict(photograph="china.jpg", height=31, width=47, channels=3, widths=(4, 4, 3)),
    "v2_picture_quantized_cas": dict(
        photograph="flower.jpg", height=32, width=48, channels=1, widths=(5, 5, 4), basis="cas"
    ),
    "v2_picture_float16_cas": dict(
        photograph="flower.jpg", height=32, width=30, channels=3, widths=(4, 3, 3), basis="cas", precision="float16"
    ),
    "v2_picture_float32_cos_sin": dict(
        photograph="china.jpg", height=32, width=48, channels=1, widths=(3, 3, 2), precision="float32"
    ),
}
GOLDEN_LATENTS: dict[str, dict[str, Any]] = {
    "v2_latents_colour": dict(photograph="china.jpg", height=31, width=47, channels=3, quality=50),
    "v2_latents_grey": dict(photograph="flower.jpg", height=32, width=30, channels=1, quality=80),
    "v2_latents_flat": dict(photograph="flower.jpg", height=1, width=1, channels=3),
    # of set 0 are those above: they were made before there were others
    "v2_latents_set_1": dict(photograph="flower.jpg", height=30, width=33, channels=3, quality=10),
    "v2_latents_set_2": dict(photograph="china.jpg", height=31, width=47, channels=3, quality=50),
    "v2_latents_set_3": dict(photograph="flower.jpg", height=32, width=30, channels=1, quality=80),
}


def golden_coefficients(architecture: Architecture) -> list:
    """Layers that look like a fit, made from integers alone so that they are the same on every machine.

    Their spread falls with the number of ones in k; the first layer holds the largest integer, the last is all zero."""
    layers = []
    for number, (inputs, outputs) in enumerate(architecture.layer_sizes):
        arrays = {}
        for name in ("cos", "sin") if architecture.basis == "cos_sin" else ("cas",):
            order = np.array([k.bit_count() for k in range(2**inputs)])[:, None]
            index = np.arange(2**inputs * outputs, dtype=np.int64).reshape(-1, outputs) + 1000 * number + len(name)
            # Sum of four residues: a bell-shaped stand-in for random numbers.
            noise = sum(index * index * factor % 97 - 48 for factor in (31, 37, 41, 43))
            values = noise // (4 * (order + 1)) * (number < len(architecture.widths))
            if number == 0:
                values[-1, -1] = 2047
            if name == "sin":
                values[0] = 0
            arrays[name] = values.astype(np.int32)
        layers.append(QuantizedLayer(70 + 5 * (number % 3), arrays))
    if architecture.precision == "quantized":
        return layers
    return [dequantize(layer) for layer in layers]


def golden_files() -> dict[str, bytes]:
    """Name -> golden file of coefficients that no picture belongs to."""
    large = Architecture((6, 6, 5, 4), 3, "cos_sin", "quantized", 0.75)
    small = Architecture((3, 2), 1, "cas", "quantized", 1.0)
    sizes = {large: (400, 300, 0xDEADBEEF)}
    architectures = {
        "v2_quantized_cos_sin": large,
        "v2_quantized_cas": small,
        "v2_float16_cos_sin": dataclasses.replace(small, basis="cos_sin", precision="float16", channels=3),
        "v2_float32_cas": dataclasses.replace(small, precision="float32"),
    }
    files = {}
    for name, architecture in architectures.items():
        width, height, checksum = sizes.get(architecture, (13, 7, 0x01234567))
        header = container.Header(width, height, architecture.channels, "weights", checksum)
        files[name] = container.write(header, payload.pack(Net(architecture, golden_coefficients(architecture))))
    return files


def fit_picture(photograph: str, height: int, width: int, channels: int, **options: Any) -> bytes:
    """A corner of one of scikit-learn's photographs, 48 pixels wide, as a file; grey is its green."""
    from sklearn.datasets import load_sample_image

    picture = downscale(load_sample_image(photograph), 48)[:height, :width]
    return codec.encode(picture if channels == 3 else picture[..., 1:2], **options)


def describe(data: bytes) -> dict:
    """What NAME.json holds."""
    header, packed = container.read(data)
    net = payload.unpack(packed, header.channels)
    return {
        "header": dataclasses.asdict(header) | dataclasses.asdict(net.architecture),
        "step_indices": [layer.step_index for layer in net.layers if isinstance(layer, QuantizedLayer)],
        "coefficients_sha256": payload.coefficients_sha256(net),
    }


def describe_latents(data: bytes) -> dict:
    """What NAME.json holds of a file of the profile latents."""
    header, packed = container.read(data)
    content = latents_payload.unpack(packed, header.shape)
    level = min(latents_payload.COARSE_LEVEL, content.layout.grids - 1)
    preview = latents_payload.paint(content, level)
    return {
        "header": dataclasses.asdict(header),
        "content_sha256": latents_payload.content_sha256(content),
        "preview_level": level,
        "preview_sha256": hashlib.sha256(preview.tobytes()).hexdigest(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=GOLDEN_DIR)
    output_dir = parser.parse_args().output_dir
    output_dir.mkdir(parents=True, exist_ok=True)
    makers = {name: partial(lambda data: data, data) for name, data in golden_files().items()}
    makers |= {name: partial(fit_picture, **arguments) for name, arguments in GOLDEN_PICTURES.items()}
    makers |= {name: partial(fit_picture, profile="latents", **given) for name, given in GOLDEN_LATENTS.items()}
    for name, make in makers.items():
        path = output_dir / f"{name}.dfm"
        if path.exists():
            print(f"{path} exists: kept")
            continue
        data = make()
        path.write_bytes(data)
        facts = describe_latents(data) if name in GOLDEN_LATENTS else describe(data)
        path.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n")
        if name in GOLDEN_PICTURES or name in GOLDEN_LATENTS:
            save_picture(path.with_suffix(".png"), codec.decode(data))
        print(f"{path}: {len(data)} bytes")


if __name__ == "__main__":
    main()
