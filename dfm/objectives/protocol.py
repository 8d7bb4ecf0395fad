"""What a model is trained for: gradients and metrics of a batch, and what becomes of each group of parameters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from jaxtyping import Array, Float

from dfm.data import Dataset
from dfm.models.protocol import Model

Params = dict[str, Any]  # groups of parameters by name: top-level keys
Statistics = dict[str, Any]  # what is averaged over steps, by name
Metrics = dict[str, Array]
Batch = Mapping[str, Any]

LATENTS = "latents"  # the group of a learnable table of latents, which the training owns


@dataclass(frozen=True)
class Group:
    """What becomes of a group of parameters.

    Attributes:
        learns: it has gradients and an optimizer; otherwise its bytes stay.
        player: groups of one player share gradient norm and clipping; also the prefix of these metrics' names.
        averaged: its moving average is kept where config.ema_decay asks for one.
        kept: it outlives the training: it is in loaded runs and can be started from.
        fitted: `start_from_pictures` computes it whole: it need not learn.
    """

    learns: bool = True
    player: str = ""
    averaged: bool = True
    kept: bool = True
    fitted: bool = False


class Objective(Protocol):
    """One objective; dfm/objectives/per_example.py adapts a loss of one number an example.

    Attributes:
        model: what is trained.
        groups: by name, those that differ from Group(), and those that exist under other settings only.
        model_statistics: which of the statistics are collections of the model's variables (running batch norms, a
            codebook by moving averages): these outlive the training. Others are the training's own.
        needs_lpips: whether the field `lpips` must be set before training.
        smallest_batch: pictures that a step must have, at the least.
        frozen_encoder: groups of an encoder that does not learn, all that the model's `moments` needs: a training may
            then compute these once a picture, and batches have them as "moments". (): the encoder learns.
    """

    @property
    def model(self) -> Model: ...
    @property
    def groups(self) -> Mapping[str, Group]: ...
    @property
    def model_statistics(self) -> tuple[str, ...]: ...
    @property
    def needs_lpips(self) -> bool: ...
    @property
    def smallest_batch(self) -> int: ...
    @property
    def frozen_encoder(self) -> tuple[str, ...]: ...

    def check_pictures(self, shape: tuple[int, int, int], examples: int) -> None:
        """UserError for so many pictures (height, width, channels) that this cannot be trained on."""

    def init(self, key: Array) -> Params:
        """The first parameters."""

    def init_statistics(self, key: Array) -> Statistics | None:
        """The first statistics, None where there are none; `key` is that of `init`."""

    def init_latents(self, key: Array, examples: int) -> Float[Array, "examples latent"] | None:
        """A learnable table of latents, one row a training picture; None: no table."""

    def start_from_pictures(
        self, params: Params, latents: Float[Array, "examples latent"] | None, dataset: Dataset, seed: int
    ) -> tuple[Params, Float[Array, "examples latent"] | None]:
        """The first parameters and table with what is fitted to the pictures in their place: the same objects where
        nothing is."""

    def phase(self, step: int) -> str:
        """What the step after `step` steps does; each phase is compiled by itself."""

    def gradients(
        self,
        params: Params,
        statistics: Statistics | None,
        batch: Batch,
        key: Array,
        phase: str,
        compute_dtype: str = "float32",
        rows: Float[Array, "batch latent"] | None = None,
    ) -> tuple[Metrics, Params, Statistics | None]:
        """(means over the batch of "loss" and other metrics, gradients of the groups that learn in this phase, new
        statistics). A metric "mse", of pictures in [-1, 1], is logged as PSNR too, and chooses the best checkpoint.

        Args:
            batch: "image" float32 in [-1, 1], "label", "index".
            key: of this step.
            compute_dtype: "float32" or "bfloat16"; metrics and gradients are float32.
            rows: of the table of latents, whose gradients are the group LATENTS.
        """


def group_of(objective: Objective, name: str) -> Group:
    return objective.groups.get(name, Group())
