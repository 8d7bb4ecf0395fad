"""The rows of the study: which config trains each, how long at which size, and which priors it is drawn from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dfm.config import apply, config_module, resolve
from dfm.experiments import steps_per_call
from dfm.registry import find

CONFIGS = Path(__file__).parents[2] / "configs"
FLOW = "flow"  # beside the names of fitted priors: a flow of this row's latents, trained by itself
SIZES = ("trial", "small", "wide")
FLOW_STEPS = 20_000
TRIAL_STEPS = 200  # of every training at the size `trial`, which shows that a row runs and no more


@dataclass(frozen=True)
class Row:
    """One model.

    Attributes:
        config: file of configs/ without its ending.
        word: its argument; wide: the same at the size `wide`, for an accelerator, None: there is one size.
        priors: fitted families, or FLOW.
        settings: of the config, beside what the word says.
        patch: side of the square of places that are a token of the flow.
    """

    config: str
    word: str
    priors: tuple[str, ...]
    wide: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    patch: int = 1


FITTED = ("normal", "gaussian", "gmm")


def _components(count: int, *priors: str) -> Row:
    """Principal components: what a linear code of as many numbers gives back."""
    return Row("autoencoders", "pca,dataset=cifar10", priors, settings={"model.latent": (count,)})


ROWS = {
    "pca-110": _components(110, "gaussian", "gmm"),
    "pca-256": _components(256, "gaussian", "gmm"),
    "pca-1024": _components(1024, "gaussian"),
    "dfm": Row("dfm_cifar10", "tuned", FITTED),
    "dfm-encoder": Row("dfm_cifar10", "encoder", FITTED),
    "local-256": Row("local_dfm", "4x4x16", ("gaussian", "gmm", FLOW), "4x4x16:wide"),
    "local-1024": Row("local_dfm", "8x8x16", ("gaussian",), "8x8x16:wide"),
    "local-256-perceptual": Row(
        "local_dfm", "8x8x4:perceptual:noisy", ("gaussian", "gmm", FLOW), "8x8x4:wide:perceptual:noisy", patch=2
    ),
    "cells": Row("adversarial", "cells", ("normal",), "cells:wide"),
    "machine": Row("adversarial", "machine", ("normal",), "machine:wide"),
    "sngan": Row("adversarial", "sngan", ("normal",), "sngan:wide"),
}


def find_row(name: str) -> Row:
    return find("row", name, ROWS)


def training_config(name: str, size: str, factor: float = 1.0) -> ConfigDict:
    """The config of a row's training; `factor` times the steps and the warm-up."""
    row = find_row(name)
    word = row.wide if size == "wide" and row.wide is not None else row.word
    config = apply(config_module(CONFIGS / f"{row.config}.py").get_config(word), dict(row.settings))
    return _with_steps(config, config.total_steps, size, factor)


def flow_config(name: str, workdir: Path, size: str, factor: float = 1.0) -> ConfigDict:
    """The config of the flow of a row's latents."""
    word = "wide" if size == "wide" else "small"
    config = config_module(CONFIGS / "latent_flow.py").get_config(f"{word},classes=10,patch={find_row(name).patch}")
    config.dataset.name = f"latents:{workdir / name}"
    return _with_steps(config, FLOW_STEPS, size, factor)


def _with_steps(config: ConfigDict, steps: int, size: str, factor: float) -> ConfigDict:
    wanted = steps if steps == 1 else max(1, round(factor * (TRIAL_STEPS if size == "trial" else steps)))
    together = steps_per_call() if wanted >= steps_per_call() else 1
    wanted = wanted // together * together
    config.optimizer.warmup_steps = min(config.optimizer.warmup_steps, max(1, wanted // 10))
    config.total_steps, config.steps_per_call = wanted, together
    config.checkpoint_every_steps = max(1, wanted // 10 // together) * together
    config.sample_every_steps, config.keep_best, config.keep_last = 0, 0, 1
    return resolve(config)
