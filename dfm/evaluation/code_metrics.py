"""How much of a VQ-VAE's codebook the pictures of the reference use."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from dfm.evaluation.metric import MODEL, Inputs, Metric, Value, no_value
from dfm.evaluation.models import source_dataset
from dfm.models.bottlenecks import code_usage


def _code_usage(inputs: Inputs) -> dict[str, Value]:
    """Share of the codes that are chosen at least once, and exp of the entropy of how often each is."""
    from dfm.training.codes import code_maps

    assert inputs.data is not None and inputs.originals is not None
    run, count = inputs.data.run, inputs.originals.count
    model: Any = run.model
    if getattr(model, "bottleneck", None) != "vq":
        return dict.fromkeys(("code_usage", "code_perplexity"), no_value("the model has no codes"))
    codes = code_maps(run, source_dataset(inputs.originals))
    counts = np.bincount(codes.reshape(-1), minlength=model.codes)
    details = {"codes": len(counts), "count": count, "codes_a_picture": codes[0].size}
    return {name: Value(float(value), details=details) for name, value in code_usage(jnp.asarray(counts)).items()}


CODE_METRICS: dict[str, Metric] = {
    "code_usage": Metric(_code_usage, "share of a VQ-VAE's codes in use, and their perplexity", MODEL)
}
