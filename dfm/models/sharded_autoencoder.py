"""AutoencoderKL with the height of pictures split over devices: the same result, each device holding its rows.

XLA's partitioner exchanges the rows that convolutions need of their neighbours and adds up group norms' statistics over
all devices; in attention every device sees all keys and values.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array

from dfm.models.autoencoder_kl import AutoencoderKL

AXIS = "height"


def height_sharding(devices: Sequence[Any] | None = None) -> NamedSharding:
    """Rows of [batch, height, width, channels] over these devices, or over all; their number must divide the rows."""
    devices = list(devices or jax.devices())
    mesh = jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)
    return NamedSharding(mesh, PartitionSpec(None, AXIS))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def apply_sharded(model: AutoencoderKL, method: str, sharding: NamedSharding, params: Any, x: Array) -> Any:
    """`model.apply({"params": params}, x, method=method)`, of "moments", "encode" or "decode", by rows.

    Args:
        sharding: from `height_sharding`; its devices must divide the rows of x, and those of the result.
        params: on one device or on all.
    """
    x = jax.lax.with_sharding_constraint(x, sharding)
    y = model.apply({"params": params}, x, method=method)
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, sharding), y)
