"""Metrics by name: from what was measured of samples and references to values with their spread."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dfm.evaluation.measure import Measured
from dfm.metrics.features import FeatureNetwork

FEW_SAMPLES = 2048


@dataclass(frozen=True)
class Value:
    """A number, how far it scatters and over what, and the numbers it is made of."""

    value: float | None
    spread: float | None = None
    spread_over: str | None = None  # "subsets", "splits" or "repeats"
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """What a metric may look at."""

    network: FeatureNetwork
    samples: Measured
    reference: Measured | None
    seed: int


@dataclass(frozen=True)
class Metric:
    """How to compute it and what it needs beyond the samples' moments."""

    compute: Callable[[Job], dict[str, Value]]
    about: str
    reference: bool = True
    sample_features: bool = False
    reference_features: bool = False
    logits: bool = False
    smallest: int = 2  # pictures on each side


def _fid(job: Job) -> dict[str, Value]:
    from dfm.metrics.frechet import frechet_distance

    assert job.reference is not None
    result = frechet_distance(job.reference.moments, job.samples.moments)
    details = {
        "mean_term": result.mean_term,
        "covariance_term": result.covariance_term,
        "most_negative_eigenvalue": result.most_negative_eigenvalue,
    }
    return {"fid": Value(result.value, details=details)}


def _fid_infinity(job: Job) -> dict[str, Value]:
    from dfm.metrics.frechet import FrechetReference, extrapolated_distance

    assert job.reference is not None and job.samples.features is not None
    reference = FrechetReference(job.reference.moments)
    value, sizes, distances = extrapolated_distance(reference, job.samples.features, job.seed)
    return {"fid_infinity": Value(value, details={"sizes": sizes, "distances": distances, "subset_seed": job.seed})}


def _kid(job: Job) -> dict[str, Value]:
    from dfm.metrics.kernel import SUBSET_SIZE, SUBSETS, kernel_inception_distance

    x, y = _both(job)
    value, spread = kernel_inception_distance(x, y, job.seed)
    size = min(SUBSET_SIZE, len(x), len(y))
    details = {"subsets": SUBSETS, "subset_size": size, "subset_seed": job.seed}
    if size == max(len(x), len(y)):  # every subset is the whole
        return {"kid": Value(value, details=details)}
    return {"kid": Value(value, spread, "subsets", details)}


def _inception_score(job: Job) -> dict[str, Value]:
    from dfm.metrics.inception_score import SHUFFLE_SEED, SPLITS, inception_score

    assert job.network.logits is not None and job.samples.features is not None
    value, spread = inception_score(job.network.logits(job.samples.features))
    details = {"splits": SPLITS, "shuffle_seed": SHUFFLE_SEED, "head_sha256": job.network.head_sha256}
    return {"is": Value(value, spread, "splits", details)}


def _precision_recall(job: Job) -> dict[str, Value]:
    from dfm.metrics.neighbours import precision_recall

    result = precision_recall(*_both(job))
    return {name: Value(getattr(result, name), details={"k": 3}) for name in ("precision", "recall")}


def _density_coverage(job: Job) -> dict[str, Value]:
    from dfm.metrics.neighbours import density_coverage

    result = density_coverage(*_both(job))
    return {name: Value(getattr(result, name), details={"k": 5}) for name in ("density", "coverage")}


def _mmd(job: Job) -> dict[str, Value]:
    from dfm.metrics.kernel import gaussian_kernel, median_distance, squared_mmd

    x, y = _both(job)
    bandwidth = median_distance(y, job.seed)
    value = squared_mmd(x, y, gaussian_kernel(bandwidth))
    return {"mmd": Value(value, details={"kernel": "gaussian", "bandwidth": bandwidth})}


def _mind(job: Job) -> dict[str, Value]:
    from dfm.metrics.sliced import PROJECTIONS, mind

    value = mind(*_both(job), job.seed)
    return {"mind": Value(value, details={"projections": PROJECTIONS, "projection_seed": job.seed})}


def _both(job: Job) -> tuple[np.ndarray, np.ndarray]:
    assert job.samples.features is not None and job.reference is not None and job.reference.features is not None
    return job.samples.features, np.asarray(job.reference.features)


METRICS: dict[str, Metric] = {
    "fid": Metric(_fid, "Frechet distance of Gaussians"),
    "fid_infinity": Metric(
        _fid_infinity, "FID extrapolated to infinitely many samples", sample_features=True, smallest=20
    ),
    "kid": Metric(_kid, "kernel distance, cubic kernel", sample_features=True, reference_features=True),
    "is": Metric(_inception_score, "Inception Score", reference=False, sample_features=True, logits=True, smallest=10),
    "precision_recall": Metric(
        _precision_recall,
        "shares inside of each other's neighbourhoods, k = 3",
        sample_features=True,
        reference_features=True,
        smallest=4,
    ),
    "density_coverage": Metric(
        _density_coverage,
        "the same from the references' neighbourhoods, k = 5",
        sample_features=True,
        reference_features=True,
        smallest=6,
    ),
    "mmd": Metric(
        _mmd,
        "kernel distance, Gaussian kernel of the references' median distance",
        sample_features=True,
        reference_features=True,
    ),
    "mind": Metric(_mind, "sliced 2-Wasserstein distance", sample_features=True, reference_features=True),
}

# With a network other than FID's Inception the famous names are not used
OTHER_NAMES = {"fid": "fd", "rfid": "rfd", "fid_infinity": "fd_infinity", "kid": "kd", "is": "classifier_score"}


def result_name(metric: str, network: str) -> str:
    """`fid` for FID's Inception, `fd-digits` for the digits' classifier."""
    return metric if network == "inception" else f"{OTHER_NAMES.get(metric, metric)}-{network}"
