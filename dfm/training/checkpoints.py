"""Checkpoints by orbax: written in the background, complete or absent, the last few and the best kept."""

import contextlib
import dataclasses
import errno
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfm.errors import UserError
from dfm.training.run_folder import CHECKPOINTS

CHECKSUMS = "crc32"  # in the progress of a checkpoint

# orbax is imported where it is used: it takes seconds


class Checkpoints:
    """The checkpoints of one run.

    A save returns as soon as the state is copied; steps go on, and donate it, while files are written. `close` (or
    leaving the `with`) waits for them.
    """

    def __init__(self, workdir: str | Path, keep_last: int, keep_best: int):
        import orbax.checkpoint as ocp
        from absl import logging

        logging.set_verbosity(logging.ERROR)  # orbax says every step of a save
        score = lambda metrics: metrics["score"]  # noqa: E731
        policies = [ocp.checkpoint_managers.LatestN(keep_last)]
        if keep_best:
            policies.append(ocp.checkpoint_managers.BestN(get_metric_fn=score, reverse=True, n=keep_best))
        self._args = ocp.args
        self._folder = (Path(workdir) / CHECKPOINTS).absolute()
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                best_fn=score,
                best_mode="min",
                create=True,
                cleanup_tmp_directories=True,
                preservation_policy=ocp.checkpoint_managers.AnyPreservationPolicy(policies),
            ),
        )

    @property
    def latest_step(self) -> int | None:
        return self._manager.latest_step()

    @property
    def steps(self) -> list[int]:
        """All there are, the latest first."""
        return sorted(self._manager.all_steps(), reverse=True)

    def save(self, step: int, state: Any, progress: dict, score: float) -> None:
        """Starts a save, unless this step is saved already; the arrays' checksums go into it.

        Args:
            progress: what else continues exactly, as JSON (metrics of an interval that is not over).
            score: the smaller, the better: decides which checkpoint is the best one.
        """
        if step in self._manager.all_steps():
            return
        progress = {**progress, CHECKSUMS: checksums(state)}
        args = self._args.Composite(state=self._args.StandardSave(state), progress=self._args.JsonSave(progress))
        with self._explained():
            self._manager.save(step, args=args, metrics={"score": score}, force=True)

    def restore(self, step: int, like: Any, sharding: jax.sharding.Sharding) -> tuple[Any, dict]:
        """(state, progress) of a step, in the tree of `like`, placed as `sharding` says: any number of devices.

        Raises:
            UserError: it is damaged, or does not fit.
        """
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), like)
        args = self._args.Composite(state=self._args.StandardRestore(shapes), progress=self._args.JsonRestore())
        try:
            restored = self._manager.restore(step, args=args)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{self._folder / str(step)}: cannot be restored into this model, or is damaged ({first_line(error)})"
            ) from error
        progress = restored["progress"]
        check_checksums(progress.pop(CHECKSUMS, {}), restored["state"], self._folder / str(step))
        return restored["state"], progress

    def set_aside(self, step: int) -> Path:
        """Moves the folder of a damaged checkpoint out of the way; returns where to."""
        place = self._folder.parent / f"damaged-checkpoint-{step}"
        for number in range(2, 1000):
            if not place.exists():
                break
            place = place.with_name(f"damaged-checkpoint-{step}-{number}")
        (self._folder / str(step)).rename(place)
        self._manager.reload()
        return place

    def wait(self) -> None:
        """Returns when everything is on the disk."""
        with self._explained():
            self._manager.wait_until_finished()

    def close(self) -> None:
        with self._explained():
            self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """What a full disk or a folder that may not be written to makes of a save, in one line."""
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:  # tensorstore raises a ValueError, of hundreds of lines
            kept = [step for step in self.steps if (self._folder / str(step)).is_dir()]
            last = f"; the checkpoint of step {kept[0]} is kept" if kept else ""
            raise UserError(f"{self._folder}: a checkpoint could not be written ({reason(error)}){last}") from error


def reason(error: Exception) -> str:
    """What the system says, out of whatever was made of it."""
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EIO):
        if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
            return os.strerror(number)
    return first_line(error)


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def checksums(tree: Any) -> dict[str, str]:
    """{"params/decoder": CRC32 of its arrays, ...} of every part of a state: 0.2 s a gigabyte of one core.

    Parts are a state's fields, and their groups where there are any.
    """
    found: dict[str, str] = {}
    for name, part in tree.items():
        part = vars(part) if dataclasses.is_dataclass(part) else part
        groups = part if isinstance(part, dict) else {"": part}
        for group, values in groups.items():
            if part is not None:
                found[f"{name}/{group}".rstrip("/")] = _crc32(values)
    return found


def check_checksums(saved: dict[str, str], tree: Any, where: Path) -> None:
    """UserError where a part that was read is not what was saved; parts that were not read, or saved, pass."""
    for name, value in checksums(tree).items():
        if saved.get(name, value) != value:
            raise UserError(f"{where}: is damaged ({name} is not what was saved)")


def _crc32(tree: Any) -> str:
    value = 0
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        local = leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf
        value = zlib.crc32(np.ascontiguousarray(local).view(np.uint8).data, value)
    return f"{value:08x}"
