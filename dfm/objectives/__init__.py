"""Objectives by name: what a model is trained for. Batch in, gradients and metrics out (dfm/objectives/protocol.py)."""

from collections.abc import Mapping
from typing import Any

from dfm.models.protocol import Model
from dfm.objectives.protocol import Objective
from dfm.registry import check_offers, construct

OBJECTIVES = {
    "reconstruction": "dfm.objectives.reconstruction:Reconstruction",
    "autoencoder": "dfm.objectives.autoencoder:Autoencoder",
    "autoencoding": "dfm.objectives.autoencoding:Autoencoding",
    "principal_components": "dfm.objectives.principal:PrincipalComponents",
    "elbo": "dfm.objectives.elbo:Elbo",
    "vector_quantized": "dfm.objectives.quantized:VectorQuantized",
    "code_likelihood": "dfm.objectives.code_likelihood:CodeLikelihood",
    "flow_matching": "dfm.objectives.flow_matching:FlowMatching",
    "gan": "dfm.objectives.gan:Gan",
}


def build(config: Mapping[str, Any], model: Model) -> Objective:
    """The objective of config["name"] for this model, with the other keys as its attributes.

    Raises:
        UserError: an unknown objective, an unknown or missing key, a value that cannot be, or a class that lacks what
            the protocol asks for.
    """
    objective = construct("objective", OBJECTIVES, config, model)
    check_offers(f"the objective '{config['name']}'", objective, Objective)
    return objective
