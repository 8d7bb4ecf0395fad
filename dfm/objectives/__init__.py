"""Objectives by name: what a model is trained for. Batch in, one loss and metrics a picture out."""

from collections.abc import Mapping
from typing import Any


def _reconstruction() -> type:
    from dfm.objectives.reconstruction import Reconstruction

    return Reconstruction


def _autoencoder() -> type:
    from dfm.objectives.autoencoder import Autoencoder

    return Autoencoder


OBJECTIVES = {"reconstruction": _reconstruction, "autoencoder": _autoencoder}


def build(config: Mapping[str, Any], model: Any) -> Any:
    """The objective of config["name"] for this model, with the other keys as its attributes.

    Raises:
        UserError: an unknown objective, an unknown or missing key, or a value that cannot be.
    """
    from dfm.registry import construct

    return construct("objective", OBJECTIVES, config, model)
