"""Data parallelism: the batch is split over all devices of all processes, the state is on each of them.

jit inserts the sums of gradients between devices. The global batch is what the config says, whatever the devices.
"""

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from dfm.errors import UserError


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """All devices in a row, along the axis "data"."""
    devices = jax.devices() if devices is None else devices
    # Auto: with the default, Explicit, contracting over the batch raises
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def check_batch_size(batch_size: int, mesh: Mesh, accumulation_steps: int = 1) -> None:
    if batch_size % mesh.size:
        raise UserError(f"batch_size {batch_size} is not divisible by {mesh.size} devices")
    if batch_size // mesh.size % accumulation_steps:
        raise UserError(
            f"batch_size {batch_size} on {mesh.size} devices is not divisible into "
            f"{accumulation_steps} parts (accumulation_steps)"
        )


def on_each_device(mesh: Mesh) -> NamedSharding:
    """The sharding of the state."""
    return NamedSharding(mesh, PartitionSpec())


def split_over_devices(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: by its first axis."""
    return NamedSharding(mesh, PartitionSpec("data"))


def place_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's part of a batch, onto its devices: one global array an entry, uint8 staying uint8."""
    sharding = split_over_devices(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, values) for name, values in batch.items()}


def on_this_process(tree):
    """A replicated tree as arrays of one local device, for what one process does by itself (pictures)."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)
