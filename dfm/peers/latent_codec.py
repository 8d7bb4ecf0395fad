"""The loss of dfm/codec/latents/model.py in PyTorch eager, as one writes it there: all frequencies, conv2d."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional

from dfm.codec.latents import model, shapes

Tensors = Mapping[str, Any]


def loss(networks: Tensors, grids: Sequence[Any], target: Any, rate_weight: float) -> Any:
    """Mean squared error, clamped straight through, + rate_weight * bits per pixel; `target` [channels, h, w]."""
    painted = paint(networks, grids)
    clamped = painted + (painted.clamp(0, 1) - painted).detach()
    error = ((clamped - target) ** 2).mean()
    return error + rate_weight * rate(networks, grids) / (target.shape[1] * target.shape[2])


def paint(networks: Tensors, grids: Sequence[Any]) -> Any:
    """model.paint."""
    height, width = grids[0].shape
    features = _upsample(grids, networks.get("upsampling")).reshape(len(grids), -1)
    hidden = torch.relu(networks["hidden_weights"] @ features + networks["hidden_bias"][:, None])
    y = networks["linear"] @ features + networks["output_weights"] @ hidden
    turns = networks["input_scale"][:, None] * features
    first, second = (list(places) for places in zip(*shapes.frequency_pairs(len(grids)), strict=True))
    single, pairs = 2 * math.pi * turns, 2 * math.pi * (turns[first] + turns[second])
    y = y + networks["single"] @ torch.cat([single.cos(), single.sin()])
    y = y + networks["pair_cos"] @ pairs.cos() + networks["pair_sin"] @ pairs.sin()
    y = y.reshape(1, -1, height, width)
    y = y + _convolve(networks["filter_1"], y)
    y = y + _convolve(networks["filter_2"], torch.relu(y + networks["filter_bias"][:, None, None]))
    return y[0] + networks["bias"][:, None, None]


def rate(networks: Tensors, grids: Sequence[Any]) -> Any:
    """model.rate."""
    inputs = torch.cat([_context(grids, k) for k in range(len(grids))], 1)
    for layer in (1, 2):
        weights, bias = networks[f"context_weights_{layer}"], networks[f"context_bias_{layer}"]
        inputs = inputs + torch.relu(weights @ inputs + bias[:, None])
    mean, log2_scale = networks["context_weights_3"] @ inputs + networks["context_bias_3"][:, None]
    offsets = torch.cat([networks["grid_scale"][k].expand(grid.numel()) for k, grid in enumerate(grids)])
    scale = 2.0 ** (log2_scale + offsets).clamp(*model.LOG2_SCALE_RANGE)
    distance = (torch.cat([grid.reshape(-1) for grid in grids]) - mean).abs()
    near, far = ((-(distance - 0.5).abs() / scale).exp(), (-(distance + 0.5) / scale).exp())
    centre = -torch.log(1 - 0.5 * torch.where(distance < 0.5, near + far, 1.0))
    tail = (distance - 0.5) / scale - torch.log(0.5 - 0.5 * (-1 / scale).exp())
    return torch.where(distance < 0.5, centre, tail).sum() / math.log(2)


def _upsample(grids: Sequence[Any], taps: Any) -> Any:
    stack = grids[-1][None, None]
    for k in range(len(grids) - 2, -1, -1):
        rows, columns = grids[k].shape
        kernel = torch.zeros(8).index_put((torch.arange(0, 8, 2),), taps[k])
        kernel = kernel.index_put((torch.arange(1, 8, 2),), taps[k].flip(0))
        for axis, size in ((2, rows), (3, columns)):
            shape = (8, 1) if axis == 2 else (1, 8)
            pad = (0, 0, 2, 2) if axis == 2 else (2, 2, 0, 0)
            stride, cut = ((2, 1), (7, 0)) if axis == 2 else ((1, 2), (0, 7))
            weights = kernel.reshape(1, 1, *shape).repeat(stack.shape[1], 1, 1, 1)
            padded = functional.pad(stack, pad, mode="replicate")
            stack = functional.conv_transpose2d(padded, weights, stride=stride, padding=cut, groups=stack.shape[1])
            stack = stack.narrow(axis, 0, size)
        stack = torch.cat([grids[k][None, None], stack], 1)
    return stack[0]


def _convolve(kernel: Any, y: Any) -> Any:
    return functional.conv2d(functional.pad(y, (1, 1, 1, 1), mode="replicate"), kernel)


def _context(grids: Sequence[Any], k: int) -> Any:
    rows, columns = grids[k].shape
    padded = functional.pad(grids[k], (shapes.REACH_LEFT, shapes.REACH_RIGHT, shapes.REACH_UP, 0))
    inputs = [padded[shapes.REACH_UP + dy :, shapes.REACH_LEFT + dx :][:rows, :columns] for dx, dy in shapes.NEIGHBOURS]
    if k + 1 == len(grids):
        return torch.stack([*inputs, *[torch.zeros_like(grids[k])] * shapes.PARENTS]).reshape(len(inputs) + 4, -1)
    coarse = functional.pad(grids[k + 1], (1, 1, 1, 1))
    y, x = torch.arange(rows), torch.arange(columns)
    own_y, own_x = y // 2 + 1, x // 2 + 1
    near_y, near_x = own_y + 2 * (y % 2) - 1, own_x + 2 * (x % 2) - 1
    for place_y, place_x in ((own_y, own_x), (own_y, near_x), (near_y, own_x), (near_y, near_x)):
        inputs.append(coarse[place_y][:, place_x])
    return torch.stack(inputs).reshape(len(inputs), -1)
