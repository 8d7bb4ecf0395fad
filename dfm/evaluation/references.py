"""The other side of a distance: statistics in .npz files, and features of data sets kept under the data directory."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from dfm.array_files import hash_pictures, picture_digest, read_arrays, write_npz
from dfm.errors import UserError
from dfm.evaluation.measure import Measured, Report, everywhere, measure
from dfm.evaluation.sources import PICTURE_NAMES, DatasetSource, Source, open_source
from dfm.files import write_atomically
from dfm.metrics.features import Extractor, FeatureNetwork
from dfm.metrics.moments import Moments
from dfm.metrics.principal_components import moments_of

SCHEMA = 1
# ours; pytorch-fid's, TTUR's and torch-fidelity's; RAE's
STATISTICS_NAMES = (("mean", "covariance"), ("mu", "sigma"), ("m", "s"))
ASYMMETRY = 1e-5  # of a covariance, relative to its largest entry: float32 products leave less


class Statistics:
    """Moments, and perhaps features, that were measured before."""

    def __init__(self, path: str, arrays: dict[str, np.ndarray]):
        self.path, self.arrays = path, arrays
        self.facts = self._facts()
        self.has_features = "features" in arrays

    @property
    def extractor(self) -> str | None:
        return self.facts.get("extractor")

    def _facts(self) -> dict[str, Any]:
        if "facts" not in self.arrays:
            return {}
        try:
            return json.loads(str(self.arrays["facts"]))
        except ValueError:
            raise UserError(f"{self.path}: its facts are no JSON") from None

    @property
    def count(self) -> int | None:
        """Pictures that were measured, where the file says so."""
        return self.facts.get("count", self.feature_count)

    @property
    def feature_count(self) -> int | None:
        return len(self.arrays["features"]) if self.has_features else None

    def measured(self, network: FeatureNetwork) -> Measured:
        """UserError where they belong to another network, or are no statistics."""
        warnings = []
        if not self.facts:
            warnings.append(f"{self.path}: says neither its network nor its count; taken for those of {network.name}")
        elif self.facts.get("extractor") != network.name:
            raise UserError(f"{self.path}: made with {self.facts.get('extractor')}, not with {network.name}")
        else:
            for fact, value in network.describe().items():
                if self.facts.get(fact) != value:
                    warnings.append(f"{self.path}: its {fact} is {self.facts.get(fact)}, not {value}")
        mean, covariance = self._mean_and_covariance(network.size)
        count = self.count
        return Measured(
            id=self.facts.get("id", Path(self.path).name),
            count=count,
            moments=Moments.from_covariance(count or 2, mean, covariance),
            sha256=self.facts.get("sha256"),
            features=self._features(network.size),
            warnings=warnings,
        )

    def _mean_and_covariance(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        for names in STATISTICS_NAMES:
            if all(name in self.arrays for name in names):
                mean, covariance = (self.arrays[name] for name in names)
                break
        else:
            raise UserError(f"{self.path}: holds neither images nor mean and covariance")
        if mean.shape != (size,) or covariance.shape != (size, size):
            shapes = f"{list(mean.shape)} and {list(covariance.shape)}"
            raise UserError(f"{self.path}: mean and covariance have shapes {shapes}, not [{size}] and [{size}, {size}]")
        if not (np.all(np.isfinite(mean)) and np.all(np.isfinite(covariance))):
            raise UserError(f"{self.path}: mean or covariance hold NaN")
        asymmetry = float(np.abs(covariance - covariance.T).max())
        if asymmetry > ASYMMETRY * float(np.abs(covariance).max()):
            raise UserError(f"{self.path}: its covariance is not symmetric (off by {asymmetry:.3g})")
        return mean, covariance

    def _features(self, size: int) -> np.ndarray | None:
        features, count = self.arrays.get("features"), self.facts.get("count")
        if features is None:
            return None
        if features.ndim != 2 or features.shape[1] != size or (count is not None and len(features) != count):
            wanted = f"[{'N' if count is None else count}, {size}]"
            raise UserError(f"{self.path}: features have shape {list(features.shape)}, not {wanted}")
        if features.dtype.kind != "f" or not np.all(np.isfinite(features)):
            raise UserError(f"{self.path}: features are no finite numbers")
        return features


def save_statistics(path: str | Path, measured: Measured, network: FeatureNetwork, facts: dict[str, Any]) -> None:
    """What `Statistics` reads; features are stored where `measured` kept them."""
    known = {"schema": SCHEMA, "id": measured.id, "count": measured.count, "sha256": measured.sha256}
    facts = known | network.describe() | facts
    arrays: dict[str, Any] = {"mean": measured.moments.mean, "covariance": measured.moments.covariance}
    if measured.features is not None:
        arrays["features"] = measured.features
    write_npz(path, arrays | {"facts": np.array(json.dumps(facts))})


def open_reference(
    spec: str, data_dir: str | None = None, label: int | None = None, size: int | None = None
) -> Source | Statistics:
    """A folder, an .npz of pictures, a data set (cifar10:train), or statistics in an .npz.

    Where a file holds both pictures under another name than `images` and statistics, as those of guided-diffusion do,
    the statistics count: they are of more pictures.
    """
    path = Path(spec).expanduser()
    if size is None and path.suffix.lower() == ".npz" and path.is_file():
        arrays = read_arrays(path)
        holds_statistics = any(all(name in arrays for name in names) for names in STATISTICS_NAMES)
        if "images" not in arrays and (holds_statistics or not any(name in arrays for name in PICTURE_NAMES)):
            if label is not None:
                raise UserError(f"{spec}: label chooses a class of a data set; an .npz has none")
            return Statistics(str(path), arrays)
    return open_source(spec, data_dir, label, size)


def measure_reference(
    reference: Source | Statistics,
    extractor: Extractor,
    keep_features: bool,
    cache: Path | None = None,
    report: Report = lambda done: None,
) -> Measured:
    """Measures a source, or reads what was measured before.

    Args:
        cache: folder where features of data sets are kept, by hash of pictures and network; None: nowhere.
    """
    if isinstance(reference, Statistics):
        return reference.measured(extractor.network)
    if cache is None or not isinstance(reference, DatasetSource):
        return measure(reference, extractor, keep_features, report)
    sha256 = hash_source(reference)
    path = cache_path(cache, reference, extractor.network, sha256)
    kept = _read_features(path, reference.count, extractor.network.size)
    # measuring is a joint act: a process that found nothing would wait for ever for one that found everything
    if everywhere(kept is not None) and kept is not None:
        report(reference.count)
        return Measured(
            reference.id,
            reference.count,
            moments_of(kept),
            sha256,
            kept if keep_features else None,
            warnings=list(reference.warnings),
        )
    measured = measure(reference, extractor, True, report)
    _keep(path, measured)
    assert measured.features is not None
    # the same sums, to the last digit, as those of the features that the next command will find
    return dataclasses.replace(measured, moments=moments_of(measured.features))


def hash_source(source: Source) -> str:
    """sha256 of a source's set of pictures."""
    return hash_pictures(picture_digest(picture) for batch in source.batches(0, source.count) for picture in batch)


def cache_path(folder: Path, source: Source, network: FeatureNetwork, sha256: str) -> Path:
    key = hashlib.sha256(json.dumps([SCHEMA, sha256, network.describe()], sort_keys=True).encode()).hexdigest()[:16]
    return folder / f"{source.id.replace(':', '-').replace('/', '-')}-{network.name}-{key}.npy"


def _read_features(path: Path, count: int, size: int) -> np.ndarray | None:
    try:
        features = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None  # not there, or cut short: measured again
    return features if features.shape == (count, size) and features.dtype == np.float32 else None


def _keep(path: Path, measured: Measured) -> None:
    """A cache that cannot be written is no reason to lose a measurement."""
    import io

    import jax

    if jax.process_index() or measured.features is None:
        return
    buffer = io.BytesIO()
    np.save(buffer, measured.features)
    try:
        os.makedirs(path.parent, exist_ok=True)
        write_atomically(path, buffer.getvalue())
    except (OSError, UserError) as error:
        measured.warnings.append(f"{path.parent}: features could not be kept ({error})")
