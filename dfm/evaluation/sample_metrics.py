"""Metrics on samples: distances of two sets of features, and how the sets lie in each other."""

import numpy as np

from dfm.evaluation.metric import SAMPLES, Inputs, Metric, Value, no_value
from dfm.metrics.frechet import Frechet, frechet_distance

NEGATIVE_EIGENVALUE = -1e-6  # relative to the largest; beyond it the covariance is none


def frechet_value(result: Frechet) -> Value:
    """The distance with its parts, and a warning where a covariance has clearly negative eigenvalues."""
    details = {
        "mean_term": result.mean_term,
        "covariance_term": result.covariance_term,
        "most_negative_eigenvalue": result.most_negative_eigenvalue,
    }
    warnings: tuple[str, ...] = ()
    if result.most_negative_eigenvalue < NEGATIVE_EIGENVALUE:
        warnings = (
            f"an eigenvalue is {result.most_negative_eigenvalue:.3g} times the largest: one of the covariances is none",
        )
    return Value(result.value, details=details, warnings=warnings)


def _fid(inputs: Inputs) -> dict[str, Value]:
    assert inputs.measured is not None and inputs.reference is not None
    return {"fid": frechet_value(frechet_distance(inputs.reference.moments, inputs.measured.moments))}


def _fid_infinity(inputs: Inputs) -> dict[str, Value]:
    from dfm.metrics.frechet import FrechetReference, extrapolated_distance

    assert inputs.reference is not None and inputs.measured is not None and inputs.measured.features is not None
    reference = FrechetReference(inputs.reference.moments)
    value, sizes, distances = extrapolated_distance(reference, inputs.measured.features, inputs.seed)
    return {"fid_infinity": Value(value, details={"sizes": sizes, "distances": distances, "subset_seed": inputs.seed})}


def _kid(inputs: Inputs) -> dict[str, Value]:
    from dfm.metrics.kernel import SUBSET_SIZE, SUBSETS, kernel_inception_distance

    x, y = _both(inputs)
    value, spread = kernel_inception_distance(x, y, inputs.seed)
    size = min(SUBSET_SIZE, len(x), len(y))
    details = {"subsets": SUBSETS, "subset_size": size, "subset_seed": inputs.seed}
    if size == max(len(x), len(y)):  # every subset is the whole
        return {"kid": Value(value, details=details)}
    return {"kid": Value(value, spread, "subsets", details)}


def _inception_score(inputs: Inputs) -> dict[str, Value]:
    from dfm.metrics.inception_score import SHUFFLE_SEED, SPLITS, inception_score

    assert inputs.network is not None and inputs.network.logits is not None
    assert inputs.measured is not None and inputs.measured.features is not None
    value, spread = inception_score(inputs.network.logits(inputs.measured.features))
    details = {"splits": SPLITS, "shuffle_seed": SHUFFLE_SEED, "head_sha256": inputs.network.head_sha256}
    return {"is": Value(value, spread, "splits", details)}


def _precision_recall(inputs: Inputs) -> dict[str, Value]:
    from dfm.metrics.neighbours import precision_recall

    result = precision_recall(*_both(inputs))
    return {name: Value(getattr(result, name), details={"k": 3}) for name in ("precision", "recall")}


def _density_coverage(inputs: Inputs) -> dict[str, Value]:
    from dfm.metrics.neighbours import density_coverage

    result = density_coverage(*_both(inputs))
    return {name: Value(getattr(result, name), details={"k": 5}) for name in ("density", "coverage")}


def _mmd(inputs: Inputs) -> dict[str, Value]:
    from dfm.metrics.kernel import gaussian_kernel, median_distance, squared_mmd

    x, y = _both(inputs)
    bandwidth = median_distance(y, inputs.seed)
    if bandwidth == 0:
        return {"mmd": no_value("most references have the same features: their median distance, the bandwidth, is 0")}
    value = squared_mmd(x, y, gaussian_kernel(bandwidth))
    return {"mmd": Value(value, details={"kernel": "gaussian", "bandwidth": bandwidth})}


def _mind(inputs: Inputs) -> dict[str, Value]:
    from dfm.metrics.sliced import PROJECTIONS, mind

    value = mind(*_both(inputs), inputs.seed)
    return {"mind": Value(value, details={"projections": PROJECTIONS, "projection_seed": inputs.seed})}


def _recognised(inputs: Inputs) -> dict[str, Value]:
    from dfm.metrics.confidence import PERCENTILE, recognised_share

    assert inputs.network is not None and inputs.network.logits is not None
    share, threshold = recognised_share(*map(inputs.network.logits, _both(inputs)))
    details = {"percentile": PERCENTILE, "confidence_threshold": threshold, "head_sha256": inputs.network.head_sha256}
    return {"recognised": Value(share, details=details)}


def _both(inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
    assert inputs.measured is not None and inputs.measured.features is not None
    assert inputs.reference is not None and inputs.reference.features is not None
    return inputs.measured.features, np.asarray(inputs.reference.features)


SAMPLE_METRICS: dict[str, Metric] = {
    "fid": Metric(_fid, "Frechet distance of Gaussians", SAMPLES, features=True, smallest=2),
    "fid_infinity": Metric(
        _fid_infinity,
        "FID extrapolated to infinitely many samples",
        SAMPLES,
        features=True,
        sample_features=True,
        smallest=20,
    ),
    "kid": Metric(
        _kid,
        "kernel distance, cubic kernel",
        SAMPLES,
        features=True,
        sample_features=True,
        reference_features=True,
        smallest=2,
    ),
    "is": Metric(
        _inception_score,
        "Inception Score",
        SAMPLES,
        features=True,
        reference=False,
        sample_features=True,
        logits=True,
        smallest=10,
    ),
    "precision_recall": Metric(
        _precision_recall,
        "shares inside of each other's neighbourhoods, k = 3",
        SAMPLES,
        features=True,
        sample_features=True,
        reference_features=True,
        smallest=4,
    ),
    "density_coverage": Metric(
        _density_coverage,
        "the same from the references' neighbourhoods, k = 5",
        SAMPLES,
        features=True,
        sample_features=True,
        reference_features=True,
        smallest=6,
    ),
    "mmd": Metric(
        _mmd,
        "kernel distance, Gaussian kernel of the references' median distance",
        SAMPLES,
        features=True,
        sample_features=True,
        reference_features=True,
        smallest=2,
    ),
    "mind": Metric(
        _mind,
        "sliced 2-Wasserstein distance",
        SAMPLES,
        features=True,
        sample_features=True,
        reference_features=True,
        smallest=2,
    ),
    "recognised": Metric(
        _recognised,
        "share of samples with a classifier's confidence above the references' tenth percentile",
        SAMPLES,
        features=True,
        sample_features=True,
        reference_features=True,
        logits=True,
        smallest=10,
    ),
}
