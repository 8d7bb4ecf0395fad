"""Checkpoints by orbax: written in the background, complete or absent, the last few and the best kept."""

from pathlib import Path
from typing import Any

import jax

from dfm.errors import UserError
from dfm.training.run_folder import CHECKPOINTS

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

    def save(self, step: int, state: Any, progress: dict, score: float) -> None:
        """Starts a save, unless this step is saved already.

        Args:
            progress: what else continues exactly, as JSON (metrics of an interval that is not over).
            score: the smaller, the better: decides which checkpoint is the best one.
        """
        if step in self._manager.all_steps():
            return
        args = self._args.Composite(state=self._args.StandardSave(state), progress=self._args.JsonSave(progress))
        try:
            self._manager.save(step, args=args, metrics={"score": score}, force=True)
        except OSError as error:
            raise self._failed(error) from error

    def restore(self, step: int, like: Any, sharding: jax.sharding.Sharding) -> tuple[Any, dict]:
        """(state, progress) of a step, in the tree of `like`, placed as `sharding` says: any number of devices."""
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), like)
        args = self._args.Composite(state=self._args.StandardRestore(shapes), progress=self._args.JsonRestore())
        try:
            restored = self._manager.restore(step, args=args)
        except (OSError, ValueError, TypeError, KeyError) as error:
            first_line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise UserError(f"{self._folder / str(step)}: cannot be restored into this model ({first_line})") from error
        return restored["state"], restored["progress"]

    def wait(self) -> None:
        """Returns when everything is on the disk."""
        try:
            self._manager.wait_until_finished()
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _failed(self, error: OSError) -> UserError:
        return UserError(f"{self._folder}: the checkpoint could not be written ({error.strerror or error})")
