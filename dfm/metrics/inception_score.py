"""Inception Score, exp(mean KL(p(class | picture) || p(class))) (Salimans et al. 2016)."""

import numpy as np
from jaxtyping import Float

from dfm.shapes import typechecked

SPLITS = 10
SHUFFLE_SEED = 2020  # that of torch-fidelity, whose IS of CIFAR-10 (11.23678) is the one to compare with


@typechecked
def inception_score(logits: Float[np.ndarray, "sample class"], splits: int = SPLITS) -> tuple[float, float]:
    """Mean and standard deviation over splits, after a shuffle with a fixed seed; 1 at worst, the classes at best."""
    if len(logits) < splits:
        raise ValueError(f"{splits} splits need at least {splits} pictures")
    order = np.random.RandomState(SHUFFLE_SEED).permutation(len(logits))
    scores = []
    for i in range(splits):
        part = order[len(logits) * i // splits : len(logits) * (i + 1) // splits]
        scaled = logits[part].astype(np.float64)
        scaled -= scaled.max(axis=1, keepdims=True)
        log_p = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
        p = np.exp(log_p)
        log_marginal = np.log(np.maximum(p.mean(axis=0), np.finfo(np.float64).tiny))  # a class that never comes
        scores.append(np.exp((p * (log_p - log_marginal)).sum(axis=1).mean()))
    return float(np.mean(scores)), float(np.std(scores))
