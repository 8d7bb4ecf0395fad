"""Objectives by name: what a model is trained for. Batch in, gradients and metrics out (dfm/objectives/protocol.py)."""

from collections.abc import Mapping
from typing import Any

from dfm.models.protocol import Model
from dfm.objectives.protocol import Objective
from dfm.registry import construct

OBJECTIVES = {
    "reconstruction": "dfm.objectives.reconstruction:Reconstruction",
    "autoencoder": "dfm.objectives.autoencoder:Autoencoder",
}


def build(config: Mapping[str, Any], model: Model) -> Objective:
    """The objective of config["name"] for this model, with the other keys as its attributes.

    Raises:
        UserError: an unknown objective, an unknown or missing key, or a value that cannot be.
    """
    return construct("objective", OBJECTIVES, config, model)
