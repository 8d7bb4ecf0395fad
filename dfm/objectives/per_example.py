"""The adapter of losses that are one number an example: their mean is differentiated for all groups that learn."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dfm.data import Dataset
from dfm.objectives.protocol import LATENTS, Batch, Group, Metrics, Params, Statistics, group_of

Rows = Float[Array, "batch latent"] | None
Losses = Float[Array, " batch"]


class PerExampleWithStatistics(ABC):
    """An objective (dfm/objectives/protocol.py) of a loss: a subclass is a dataclass whose first field is `model`, the
    others being keys of the config, and has `losses`, or, without statistics, derives from `PerExample`.

    One player, one phase, the model's parameters, no statistics and no table, unless it says otherwise.
    """

    model: Any

    @property
    def groups(self) -> Mapping[str, Group]:
        return {}

    @property
    def model_statistics(self) -> tuple[str, ...]:
        return ()

    @property
    def needs_lpips(self) -> bool:
        return False

    @property
    def smallest_batch(self) -> int:
        return 1

    @property
    def frozen_encoder(self) -> tuple[str, ...]:
        return ()

    def check_pictures(self, shape: tuple[int, int, int], examples: int) -> None:  # noqa: B027  # a hook
        """Any will do."""

    def init(self, key: Array) -> Params:
        """The model's, from a call of it with one picture."""
        model = self.model
        return dict(model.init(key, jnp.zeros((1, model.height, model.width, model.channels)))["params"])

    def init_statistics(self, key: Array) -> Statistics | None:
        return None

    def init_latents(self, key: Array, examples: int) -> Float[Array, "examples latent"] | None:
        return None

    def start_from_pictures(self, params: Params, latents: Rows, dataset: Dataset, seed: int) -> tuple[Params, Rows]:
        return params, latents

    def phase(self, step: int) -> str:
        return ""

    @abstractmethod
    def losses(
        self, params: Params, statistics: Statistics | None, rows: Rows, batch: Batch, key: Array
    ) -> tuple[Losses, Metrics, Statistics | None]:
        """(loss of each example, metrics of each example or of the batch, new statistics).

        Args:
            rows: latents of the examples from the table, None where there is none.
            batch, key: as in the protocol's `gradients`.
        """

    def gradients(
        self,
        params: Params,
        statistics: Statistics | None,
        batch: Batch,
        key: Array,
        phase: str,
        compute_dtype: str = "float32",
        rows: Rows = None,
    ) -> tuple[Metrics, Params, Statistics | None]:
        """See the protocol; gradients of the mean loss, taken in float32 of parameters cast to `compute_dtype`."""
        learning = {name: params[name] for name in params if group_of(self, name).learns}

        def mean_loss(learning: Params, rows: Rows) -> tuple[Array, tuple[Metrics, Statistics | None]]:
            whole = _cast({**params, **learning}, compute_dtype)
            losses, metrics, new = self.losses(whole, statistics, _cast(rows, compute_dtype), batch, key)
            means = {name: values.astype(jnp.float32).mean() for name, values in {"loss": losses, **metrics}.items()}
            return means["loss"], (means, new)

        (gradients, of_rows), (means, new) = jax.grad(mean_loss, argnums=(0, 1), has_aux=True)(learning, rows)
        return means, gradients if rows is None else {**gradients, LATENTS: of_rows}, new


class PerExample(PerExampleWithStatistics, ABC):
    """One without statistics: a subclass has `__call__`."""

    @abstractmethod
    def __call__(self, params: Params, rows: Rows, batch: Batch, key: Array) -> tuple[Losses, Metrics]:
        """(loss, metrics) of each example; arguments as of `losses`."""

    def losses(
        self, params: Params, statistics: Statistics | None, rows: Rows, batch: Batch, key: Array
    ) -> tuple[Losses, Metrics, Statistics | None]:
        """Those of `__call__`."""
        return *self(params, rows, batch, key), statistics


def _cast(tree: Any, dtype: str) -> Any:
    if dtype == "float32":
        return tree
    floating = lambda leaf: jnp.issubdtype(leaf.dtype, jnp.floating)  # noqa: E731
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if floating(leaf) else leaf, tree)
