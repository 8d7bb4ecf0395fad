"""Evaluations: sets of pictures in, one JSON line a metric out (`python -m dfm.evaluate`).

    from dfm.evaluation import evaluate
    lines = evaluate(pictures, reference="cifar10:train", metrics=("fid", "kid"))     # uint8 [N, H, W, C]

sources.py and given.py (folders, .npz, data sets, samples; what a program has) -> measure.py (features and moments) ->
registry.py (metrics by name) -> report.py (lines). Metrics are entries of one kind (metric.py): on samples, on
reconstructions, on the model. plan.py says beforehand what cannot be done, evaluation.py does the rest; references.py
keeps statistics, protocols.py knows the legacy modes. entry.py is the way in.
"""

from dfm.evaluation.entry import evaluate, evaluate_autoencoder, evaluate_run, make_statistics
from dfm.evaluation.options import Options

__all__ = ["Options", "evaluate", "evaluate_autoencoder", "evaluate_run", "make_statistics"]
