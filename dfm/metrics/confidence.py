"""How many samples a classifier recognises: is as sure of as it is of all but the least clear pictures of the data."""

import numpy as np
from jaxtyping import Float

from dfm.shapes import typechecked

PERCENTILE = 10  # of the references' confidence: so nine of ten of them are recognised


@typechecked
def log_confidence(logits: Float[np.ndarray, "picture class"]) -> Float[np.ndarray, " picture"]:
    """log of each picture's largest class probability, exact near 0, where a good classifier's are."""
    below = np.sort(logits.astype(np.float64), axis=1)
    below -= below[:, -1:]
    return -np.log1p(np.exp(below[:, :-1]).sum(axis=1))


@typechecked
def recognised_share(
    samples: Float[np.ndarray, "sample class"], references: Float[np.ndarray, "reference class"]
) -> tuple[float, float]:
    """(share of samples whose confidence is above the references' tenth percentile, that percentile as a probability).

    Args:
        samples, references: logits.
    """
    threshold = float(np.percentile(log_confidence(references), PERCENTILE))
    return float(np.mean(log_confidence(samples) > threshold)), float(np.exp(threshold))
