"""python -m dfm.metrics.convert_inception SOURCE OUTPUT.npz: the public FID Inception files as an .npz for dfm.

SOURCE is PyTorch's copy (pt_inception-2015-12-05-6726825d.pth; needs torch, which reads it with weights_only=True, so
nothing in the file is run), TensorFlow's frozen graph (classify_image_graph_def.pb; needs nothing), or any .npz or
.safetensors with one of the known namings. The result is checked against the pinned fingerprint.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dfm.array_files import Arrays, read_arrays, write_npz
from dfm.command_line import Parser, run_command
from dfm.errors import UserError
from dfm.files import refuse_same_file
from dfm.metrics.inception_weights import KNOWN_FINGERPRINTS, canonical_arrays, fingerprint

PYTORCH_PARTS = {"beta": "bias", "mean": "running_mean", "var": "running_var"}


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command("dfm.metrics.convert_inception", _run, arguments)


def _run(arguments: Sequence[str] | None) -> None:
    parser = Parser(prog="dfm.metrics.convert_inception", description=__doc__.partition("\n")[0])
    parser.add_argument("source", help=".pth, .pb, .npz or .safetensors")
    parser.add_argument("output", help=".npz to write")
    parser.add_argument("--float16", action="store_true", help="kernels as float16: half the size, FID off by 0.02")
    parser.add_argument("--unpublished", action="store_true", help="allow weights other than the published ones")
    args = parser.parse_args(arguments)
    refuse_same_file(args.output, [args.source])
    stored = convert(args.source, args.float16, args.unpublished)
    write_npz(args.output, stored)
    head = "with" if "fc.weight" in stored else "without"
    print(f"{args.output}: {os.path.getsize(args.output):,} bytes, {head} the 1008-way head")


def convert(source: str, float16: bool = False, unpublished: bool = False) -> Arrays:
    """Arrays by PyTorch's names, kernels OIHW, as they are to be stored."""
    reader = {".pth": read_pth, ".pt": read_pth, ".pb": read_graph}.get(Path(source).suffix.lower(), read_arrays)
    arrays, head = canonical_arrays(reader(source), source)
    if not unpublished and fingerprint(arrays) not in KNOWN_FINGERPRINTS:
        raise UserError(f"{source}: not the published FID Inception; --unpublished converts it all the same")
    stored: Arrays = {}
    for name, array in arrays.items():
        convolution, _, part = name.rpartition(".")
        if part == "kernel":
            kernel = array.transpose(3, 2, 0, 1)
            stored[f"{convolution}.conv.weight"] = kernel.astype(np.float16) if float16 else kernel
        else:
            stored[f"{convolution}.bn.{PYTORCH_PARTS[part]}"] = array
    if head is not None:
        stored["fc.weight"] = head.T
    return stored


def read_pth(path: str) -> Arrays:
    try:
        import torch
    except ImportError:
        raise UserError(f"{path}: reading .pth needs torch (pip install 'dfm[peers]')") from None
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        return {name: tensor.numpy() for name, tensor in tensors.items()}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # torch raises a dozen kinds on damaged files, and on pickles with code in them
        raise UserError(f"{path}: not a file of plain tensors ({' '.join(str(error).split())[:100]})") from None


# Just enough of Protocol Buffers for a frozen graph. Field numbers of TensorFlow's graph.proto, node_def.proto,
# attr_value.proto and tensor.proto.
GRAPH_NODE, NODE_NAME, NODE_OP, NODE_ATTRIBUTE = 1, 1, 2, 5
ENTRY_KEY, ENTRY_VALUE, VALUE_TENSOR = 1, 2, 8
TENSOR_TYPE, TENSOR_SHAPE, TENSOR_CONTENT, SHAPE_DIMENSION, DIMENSION_SIZE = 1, 2, 4, 2, 1
FLOAT = 1
WEIGHTS = ("conv2d_params", "beta", "gamma", "moving_mean", "moving_variance", "softmax/weights")


def read_graph(path: str) -> Arrays:
    """The constants of a frozen TensorFlow graph that hold weights of convolutions and of the head."""
    try:
        data = Path(path).read_bytes()
        arrays = {}
        for _, node in _fields(data, GRAPH_NODE):
            parts = dict(_fields(node, NODE_NAME, NODE_OP))
            name = bytes(parts.get(NODE_NAME, b"")).decode()
            if bytes(parts.get(NODE_OP, b"")) == b"Const" and name.endswith(WEIGHTS):
                arrays[name] = _constant(node)
        return arrays
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, IndexError, KeyError) as error:
        raise UserError(f"{path}: not a frozen TensorFlow graph ({error})") from None


def _constant(node: bytes) -> np.ndarray:
    for _, attribute in _fields(node, NODE_ATTRIBUTE):
        entry = dict(_fields(attribute, ENTRY_KEY, ENTRY_VALUE))
        if bytes(entry[ENTRY_KEY]) == b"value":
            tensor = dict(_fields(entry[ENTRY_VALUE], VALUE_TENSOR))[VALUE_TENSOR]
            parts = dict(_fields(tensor, TENSOR_TYPE, TENSOR_SHAPE, TENSOR_CONTENT))
            if parts[TENSOR_TYPE] != FLOAT:
                raise ValueError("a weight is not float32")
            dimensions = [dict(_fields(d, DIMENSION_SIZE)) for _, d in _fields(parts[TENSOR_SHAPE], SHAPE_DIMENSION)]
            shape = [dimension[DIMENSION_SIZE] for dimension in dimensions]
            return np.frombuffer(parts[TENSOR_CONTENT], "<f4").reshape(shape)
    raise ValueError("a constant without a value")


def _fields(data: bytes, *wanted: int) -> Iterator[tuple[int, Any]]:
    """(field number, integer or bytes) of one message, only for the wanted fields."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        field, kind = tag >> 3, tag & 7
        value: Any
        if kind == 0:
            value, position = _varint(data, position)
        else:
            size = {1: 8, 5: 4}.get(kind)
            if kind == 2:
                size, position = _varint(data, position)
            if size is None or position + size > len(data):
                raise ValueError("damaged")
            value, position = data[position : position + size], position + size
        if field in wanted:
            yield field, value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position


if __name__ == "__main__":
    sys.exit(main())
