"""How much of a VQ-VAE's codebook the pictures of the reference use."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfm.arrays import padded_batches, to_float
from dfm.evaluation.metric import MODEL, Inputs, Metric, Value, no_value
from dfm.models.bottlenecks import code_usage

CHUNK = 250


def _code_usage(inputs: Inputs) -> dict[str, Value]:
    """Share of the codes that are chosen at least once, and exp of the entropy of how often each is."""
    assert inputs.data is not None and inputs.originals is not None
    run, source = inputs.data.run, inputs.originals
    model: Any = run.model
    if getattr(model, "bottleneck", None) != "vq":
        return dict.fromkeys(("code_usage", "code_perplexity"), no_value("the model has no codes"))

    @jax.jit
    def quantize(images: Any, labels: Any) -> jax.Array:
        found: Any = model.apply(run.variables, to_float(images), labels, method="quantize")
        return found.codes

    counts, position = np.zeros(model.codes), 0
    for pictures in source.batches(0, source.count):
        labels = np.zeros(len(pictures), np.int32)
        if source.labels is not None:
            labels = source.labels[position : position + len(pictures)]
        both = zip(padded_batches(pictures, CHUNK), padded_batches(labels, CHUNK), strict=True)
        for (images, count), (own, _) in both:
            codes = np.asarray(quantize(images, own if model.classes else None))[:count]
            counts += np.bincount(codes.reshape(-1), minlength=len(counts))
        position += len(pictures)
    details = {"codes": len(counts), "count": position, "codes_a_picture": int(counts.sum()) // position}
    return {name: Value(float(value), details=details) for name, value in code_usage(jnp.asarray(counts)).items()}


CODE_METRICS: dict[str, Metric] = {
    "code_usage": Metric(_code_usage, "share of a VQ-VAE's codes in use, and their perplexity", MODEL)
}
