"""Metrics on reconstructions: how near each picture comes back, and the floor that they put under samples' FID."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dfm.arrays import padded_batches
from dfm.evaluation.metric import RECONSTRUCTIONS, Inputs, Metric, PairMeasure, Pictures, Value, no_value
from dfm.evaluation.sample_metrics import frechet_value
from dfm.evaluation.sources import Shape
from dfm.metrics.frechet import frechet_distance
from dfm.metrics.picture_quality import MS_SSIM_SMALLEST_SIDE, PEAK, SSIM_WINDOW, decibels, ms_ssim, psnr, ssim
from dfm.metrics.weight_files import WeightFiles

LPIPS_BATCH = 64


def _each(function: Callable[..., float | None], smallest_side: int, files: WeightFiles, shape: Shape) -> PairMeasure:
    """The function of one picture and its reconstruction, for all; none of pictures that are too small for it."""
    side = min(shape[:2])
    if side < smallest_side:
        why = f"pictures of {side} pixels are smaller than the {smallest_side} that it needs"
        return PairMeasure(lambda a, b: np.full(len(a), np.nan), {"why_null": why})

    def measure(originals: Pictures, reconstructions: Pictures) -> Float[np.ndarray, " n"]:
        return np.array([function(a, b) for a, b in zip(originals, reconstructions, strict=True)], np.float64)

    return PairMeasure(measure)


def _lpips(files: WeightFiles, shape: Shape) -> PairMeasure:
    from dfm.metrics.lpips import input_size, load_lpips

    lpips = load_lpips(files.lpips, files.lpips_sha256)
    distance = jax.jit(lambda a, b: lpips(a, b))

    def measure(originals: Pictures, reconstructions: Pictures) -> Float[np.ndarray, " n"]:
        batches = zip(*(padded_batches(side, LPIPS_BATCH) for side in (originals, reconstructions)), strict=True)
        found = [np.asarray(distance(jnp.asarray(a), jnp.asarray(b)))[:count] for (a, count), (b, _) in batches]
        return np.concatenate(found).astype(np.float64)

    return PairMeasure(
        measure, {"net": lpips.name, "weights_sha256": lpips.sha256, "input_size": list(input_size(*shape[:2]))}
    )


def _mean(name: str, inputs: Inputs) -> dict[str, Value]:
    """Mean and standard deviation over the pictures that have a finite number."""
    assert inputs.pairs is not None
    finite = inputs.pairs[np.isfinite(inputs.pairs)]
    infinite = int(np.isinf(inputs.pairs).sum())
    if len(finite) == 0:
        if infinite:
            return {name: no_value(f"all {infinite} reconstructions equal their originals", infinite=infinite)}
        return {name: Value(None, details=dict(inputs.pair_details))}
    details = dict(inputs.pair_details) | ({"infinite": infinite} if infinite else {})
    return {name: Value(float(finite.mean()), float(finite.std()), "pictures", details)}


def _psnr(inputs: Inputs) -> dict[str, Value]:
    found = _mean("psnr", inputs)
    assert inputs.pairs is not None
    error = float(np.mean(PEAK**2 * 10 ** (-inputs.pairs / 10)))
    found["psnr"].details["psnr_of_mean_mse"] = decibels(error) if error else None
    return found


def _rfid(inputs: Inputs) -> dict[str, Value]:
    assert inputs.measured is not None and inputs.reference is not None
    return {"rfid": frechet_value(frechet_distance(inputs.reference.moments, inputs.measured.moments))}


def _by_pairs(name: str, about: str, function: Callable[..., float | None], smallest_side: int) -> Metric:
    pairs = functools.partial(_each, function, smallest_side)
    return Metric(functools.partial(_mean, name), about, RECONSTRUCTIONS, ("reconstruction",), pairs=pairs)


RECONSTRUCTION_METRICS: dict[str, Metric] = {
    "psnr": Metric(
        _psnr,
        "peak signal-to-noise ratio, dB",
        RECONSTRUCTIONS,
        ("reconstruction",),
        pairs=functools.partial(_each, psnr, 1),
    ),
    "ssim": _by_pairs("ssim", "structural similarity", ssim, SSIM_WINDOW),
    "ms_ssim": _by_pairs("ms_ssim", "the same over five scales", ms_ssim, MS_SSIM_SMALLEST_SIDE),
    "lpips": Metric(
        functools.partial(_mean, "lpips"),
        "learned perceptual distance",
        RECONSTRUCTIONS,
        ("reconstruction",),
        pairs=_lpips,
        options=("lpips_weights", "lpips_sha256"),
    ),
    "rfid": Metric(_rfid, "FID of reconstructions", RECONSTRUCTIONS, ("reconstruction",), features=True, smallest=2),
}
