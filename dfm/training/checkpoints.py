"""Checkpoints by orbax: written in the background, complete or absent, the last few and the best kept."""

import asyncio
import contextlib
import dataclasses
import errno
import json
import os
import shutil
import sys
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
        if jax.process_index() == 0:
            # orbax would do it on a thread for which nobody waits, with a traceback where the program ends before it
            for unfinished in self._folder.glob(f"*{ocp.path.step.TMP_DIR_SUFFIX}*"):
                shutil.rmtree(unfinished, ignore_errors=True)
            for score_file in damaged_scores(self._folder):
                score_file.unlink()
                print(f"{score_file}: was damaged; this checkpoint has no score now", file=sys.stderr)
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                best_fn=score,
                best_mode="min",
                create=True,
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
        with reading(self._folder / str(step)):
            return restore(self._manager, step, args)

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


@contextlib.contextmanager
def reading(where: Path) -> Iterator[None]:
    """Whatever reading a checkpoint raises as a UserError of one line.

    Raises:
        UserError: damage in any of its files, or another model's: orbax raises all kinds, a bare Exception too.
        MemoryError: no fault of the checkpoint's.
    """
    try:
        with _patient_loops():
            yield
    except UserError:
        raise
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, MemoryError) or "RESOURCE_EXHAUSTED" in str(cause):
            raise MemoryError(first_line(cause)) from error
        raise UserError(f"{where}: cannot be restored into this model, or is damaged ({first_line(cause)})") from error


def restore(manager: Any, step: int, args: Any) -> tuple[Any, dict]:
    """(state, progress) of a step, as `args` asks for them, compared with the checksums; to be called in `reading`."""
    restored = manager.restore(step, args=args)
    progress = restored["progress"] or {}
    check_checksums(progress.pop(CHECKSUMS, {}), restored["state"], Path(manager.directory) / str(step))
    return restored["state"], progress


class _PatientLoop(asyncio.SelectorEventLoop):
    """An event loop that finishes what it has begun before it closes.

    orbax closes the loop of a restore at the first array that cannot be read, while threads of tensorstore still read
    the others: each would find the loop closed, and Python would print a traceback an array.
    """

    def close(self) -> None:
        while not self.is_closed() and (tasks := asyncio.all_tasks(self)):
            self.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        super().close()


@contextlib.contextmanager
def _patient_loops() -> Iterator[None]:
    usual = asyncio.new_event_loop
    asyncio.new_event_loop = _PatientLoop
    try:
        yield
    finally:
        asyncio.new_event_loop = usual


def damaged_scores(folder: Path) -> list[Path]:
    """Files of scores, by which checkpoints are ranked, that do not hold one: with these orbax opens no folder."""
    return [path for path in sorted(folder.glob("*/metrics/metrics")) if not _holds_score(path)]


def _holds_score(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_bytes())["score"], int | float)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def reason(error: Exception) -> str:
    """What the system says, out of whatever was made of it."""
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EIO):
        if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
            return os.strerror(number)
    return first_line(error)


def first_line(error: BaseException) -> str:
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
