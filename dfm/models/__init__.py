"""Models by name: Flax modules that know neither configs nor losses nor files. `build` imports what a name needs."""

from collections.abc import Mapping
from typing import Any


def _deep_fourier_machine() -> type:
    from dfm.models.dfm import DeepFourierMachine

    return DeepFourierMachine


def _autoencoder_kl() -> type:
    from dfm.models.autoencoder_kl import AutoencoderKL

    return AutoencoderKL


MODELS = {"dfm": _deep_fourier_machine, "autoencoder_kl": _autoencoder_kl}


def build(config: Mapping[str, Any]) -> Any:
    """The module of config["name"] with the other keys as its attributes.

    Raises:
        UserError: an unknown model, an unknown or missing key, or a value that cannot be.
    """
    from dfm.registry import construct

    return construct("model", MODELS, config)
