"""How a row is measured: samples, features and statistics once, and all numbers out of them."""

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from dfm.array_files import read_arrays, write_npz
from dfm.arrays import grid
from dfm.data import load
from dfm.evaluation.protocols import PROTOCOLS
from dfm.metrics import networks
from dfm.metrics.features import Extractor
from dfm.metrics.frechet import FrechetReference
from dfm.metrics.moments import Moments
from dfm.metrics.neighbours import precision_recall
from dfm.metrics.picture_quality import decibels
from dfm.metrics.weight_files import WeightFiles
from dfm.picture_files import save_picture
from dfm.priors.prior import Prior
from dfm.sampling import Painter, RunData, draw, stored_or_fitted
from dfm.sampling.interpolation import between

SAMPLES = {"trial": 512, "small": 10_000, "wide": 10_000}
SHORT = 2_048  # samples of fid-2k, and test pictures that are reconstructed by inversion where there is no encoder
SHOWN, SIDES = 64, (32, 128, 512)
NEIGHBOURS, NEAREST = 16, 3
INVERT_STEPS, INVERT_STARTS = {"trial": 20, "small": 300, "wide": 300}, 2
DATASET = "cifar10"


class Inception:
    """The feature network, loaded once, and what is known of real pictures, kept in a file."""

    def __init__(self, folder: Path, size: str, data_dir: str | None, weights: str | None):
        self.size = size
        self._extractor = Extractor(networks.load("inception", WeightFiles(weights)))
        path = folder / ("reference-trial.npz" if size == "trial" else "reference.npz")
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_npz(path, self._reference(data_dir))
        known = read_arrays(path)
        self.test_features = known["test_features"]
        self._distance = {split: FrechetReference(_moments(known, split)) for split in ("train", "test")}

    def features(self, batches: Iterator[np.ndarray]) -> Float[np.ndarray, "n features"]:
        return np.concatenate(list(self._extractor(batches)))

    def distance(self, features: np.ndarray, split: str) -> float:
        return self._distance[split].distance(Moments.of(features)).value

    def of_samples(self, pictures: np.ndarray) -> dict[str, Any]:
        """FID by each protocol, precision and recall, of samples 0, 1, ..."""
        features = self.features(iter([pictures]))
        found: dict[str, Any] = {"samples": len(pictures)}
        if self.size != "trial":
            found |= {"fid-10k": self.distance(features, "train"), "rae-2020": self.distance(features, "test")}
            found["fid-2k"] = self.distance(features[:SHORT], "train")
            stretched = (PROTOCOLS["dai-wipf-2019"].change_samples or np.asarray)(pictures)
            found["dai-wipf-2019"] = self.distance(self.features(iter([stretched])), "test")
        else:
            found["fid_of_few"] = self.distance(features, "test")
        return found | dataclasses.asdict(precision_recall(features, self.test_features))

    def _reference(self, data_dir: str | None) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for split in ("train", "test"):
            pictures = load(DATASET, split, data_dir)
            rows = np.arange(SAMPLES["trial"] if self.size == "trial" else len(pictures))
            features = self.features(iter([pictures.take(rows)]))
            moments = Moments.of(features)
            found |= {f"{split}_count": np.array(moments.count), f"{split}_mean": moments.mean}
            found[f"{split}_covariance"] = moments.covariance
        return found | {"test_features": features}


def _moments(known: dict[str, np.ndarray], split: str) -> Moments:
    count, mean, covariance = (known[f"{split}_{name}"] for name in ("count", "mean", "covariance"))
    return Moments.from_covariance(int(count), mean, covariance)


def samples(data: RunData, prior: Prior, count: int) -> np.ndarray:
    return np.concatenate(list(draw(data.run, prior, 0, 0, count, batch_size=min(256, count))))


def reconstructions(data: RunData, size: str, inception: Inception) -> dict[str, Any]:
    """PSNR of the mean squared error and rFID against the same test pictures."""
    by_inversion = not data.run.model.encodes
    count = SAMPLES[size] if not by_inversion else min(SHORT, SAMPLES[size])
    originals = data.test.take(np.arange(count))
    if by_inversion:
        from dfm.sampling import invert

        latents = invert(data, originals, steps=INVERT_STEPS[size], starts=INVERT_STARTS).latents
    else:
        latents = data.painter.encode(originals)
    painted = data.painter.paint(latents)
    error = np.square(originals.astype(np.float64) - painted).mean()
    reference = FrechetReference(Moments.of(inception.test_features[:count]))
    return {
        "reconstructed": count,
        "latents_by": "inversion" if by_inversion else "encoder",
        "psnr": float(decibels(error)),
        "rfid": reference.distance(Moments.of(inception.features(iter([painted])))).value,
    }


def facts(workdir: Path) -> dict[str, Any]:
    """Parameters of a training's groups, and the seconds that it took."""
    from dfm.experiments import training_facts

    known = json.loads((workdir / "run.json").read_text(encoding="utf-8"))
    parameters = {name: count for name, count in known["parameters"].items() if name != "latents"}
    return {"parameters": parameters, "seconds_of_training": training_facts(workdir)["training_seconds"]}


def pictures(data: RunData, prior: Prior, drawn: np.ndarray, folder: Path, label: str) -> None:
    """PNG grids: uncurated samples, nearest training pictures, interpolations, and one latent at several sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    save_picture(folder / f"samples-{label}.png", grid(drawn[:SHOWN], 8))
    nearest = data.nearest_in_training(drawn[:NEIGHBOURS], NEAREST)
    found = data.train.take(nearest.ravel()).reshape(NEIGHBOURS, NEAREST, *drawn.shape[1:])
    rows = np.concatenate([drawn[:NEIGHBOURS, None], found], 1)
    save_picture(folder / f"neighbours-{label}.png", grid(rows.reshape(-1, *drawn.shape[1:]), 4 * (NEAREST + 1)))
    latents = _latents(data, prior, 16)
    paths = np.concatenate([between(a, b, 8, "spherical") for a, b in zip(latents[::2], latents[1::2], strict=True)])
    save_picture(folder / f"interpolations-{label}.png", grid(data.painter.paint(paths), 8))
    if data.run.config["model"]["name"] in ("dfm", "local_dfm", "fourier_gan"):
        for side in SIDES:
            painter = Painter(data.run, side, side)
            save_picture(folder / f"size-{side}-{label}.png", grid(painter.paint(latents[:4]), 2))


def _latents(data: RunData, prior: Prior, count: int) -> np.ndarray:
    batches = data.painter.latent_batches(prior, 0, 0, count)
    return np.concatenate([np.asarray(batch) for batch in batches])[:count]


def measure(
    data: RunData, name: str, priors: dict[str, str], size: str, inception: Inception, folder: Path
) -> Iterator[tuple[str, dict[str, Any], float]]:
    """(what, metrics, seconds): of reconstructions first, then of the samples of each prior, whose pictures are kept.

    Args:
        priors: what each is called -> its name for `stored_or_fitted`.
    """
    if data.training_has_latents:
        yield _timed("reconstructions", lambda: reconstructions(data, size, inception))
    for label, prior_name in priors.items():

        def of_prior(label: str = label, prior_name: str = prior_name) -> dict[str, Any]:
            prior = stored_or_fitted(data, prior_name)
            drawn = samples(data, prior, SAMPLES[size])
            pictures(data, prior, drawn, folder, f"{name}-{label}")
            return inception.of_samples(drawn)

        yield _timed(label, of_prior)


def _timed(what: str, function: Callable[[], dict[str, Any]]) -> tuple[str, dict[str, Any], float]:
    start = time.perf_counter()
    return what, function(), round(time.perf_counter() - start, 1)
