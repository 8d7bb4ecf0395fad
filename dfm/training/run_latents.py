"""The latents of a finished run as a data set, `latents:RUN`: what a prior that is trained by dfm.train learns from.

They are the encodings of the pictures that RUN was trained on, or its table, normalised to mean 0 and deviation 1 of
each channel; a latent that is no grid is a grid of one place. Encodings are kept in RUN/latents/, and the folder of the
prior's training has latents.json: whose latents these are, and what brings them back.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from dfm import results
from dfm.arrays import padded_batches, to_float
from dfm.command_line import say
from dfm.data import Dataset, load
from dfm.data.dataset import ArrayPictures
from dfm.data.prepared import writing
from dfm.errors import UserError
from dfm.files import write_atomically
from dfm.models import latent_vectors
from dfm.progress import Progress
from dfm.training.runs import Run, load_run

PREFIX, FACTS, FOLDER = "latents:", "latents.json", "latents"
AT_ONCE = 256  # pictures that go through the encoder together
LEAST_DEVIATION = 1e-6  # of a channel that says nothing


class RunLatents(Dataset):
    """See above.

    Attributes:
        facts: of latents.json: "run", "step", "params_sha256", "latent_shape", and of each channel "mean" and
            "standard_deviation".
    """

    def __init__(self, name: str, split: str, latents: Float[np.ndarray, "n rows columns channels"], dataset: Dataset):
        super().__init__(name, split, [ArrayPictures(latents)], dataset.labels, dataset.label_names)
        self.facts: dict[str, Any] = {}


def names_latents(name: str) -> bool:
    """Whether a data set's name is that of a run's latents."""
    return name.startswith(PREFIX)


def load_latents(name: str, split: str, data_dir: str | None, label: int | None = None) -> RunLatents:
    """The normalised latents of a run.

    Args:
        name: latents:RUN, of its latest checkpoint.
        split: that of the run's training.

    Raises:
        UserError: no run, latents that it does not have, or another split.
    """
    run = load_run(name.removeprefix(PREFIX))
    settings = run.config.dataset
    if split != settings.split:
        raise UserError(f"config: {name} are of the split {settings.split!r}, which the run was trained on")
    if label is not None:
        raise UserError("config: dataset.label chooses no latents: train the run, or a conditional flow, by class")
    dataset = load(settings.name, split, data_dir, None if settings.label < 0 else settings.label)
    vectors = np.asarray(run.latents, np.float32) if run.latents is not None else _encodings(run, dataset)
    if len(vectors) != len(dataset):
        raise UserError(f"{name}: {len(vectors)} latents for {len(dataset)} pictures: not the data of the training")
    grids = vectors.reshape(-1, *grid_shape(run.model))
    mean, deviation = grids.mean((0, 1, 2), np.float64), grids.std((0, 1, 2), dtype=np.float64)
    deviation = np.maximum(deviation, LEAST_DEVIATION)
    normalised = ((grids - mean.astype(np.float32)) / deviation.astype(np.float32)).astype(np.float32)
    found = RunLatents(name, split, normalised, dataset)
    found.facts = {
        "run": Path(run.workdir).name,
        "step": int(run.step),
        "params_sha256": run.sha256,
        "latent_shape": grid_shape(run.model),
        "mean": mean.tolist(),
        "standard_deviation": deviation.tolist(),
    }
    return found


def grid_shape(model: Any) -> tuple[int, int, int]:
    """(rows, columns, channels) of a model's latents; (1, 1, size) of those that are no grid."""
    shape = model.latent_shape
    if isinstance(shape, tuple) and len(shape) == 3 and all(isinstance(size, int) for size in shape):
        return shape
    return 1, 1, latent_vectors.latent_size(model)


def write_facts(workdir: str | Path, latents: RunLatents) -> None:
    write_atomically(Path(workdir) / FACTS, (results.dump(latents.facts, indent=2) + "\n").encode())


def read_facts(workdir: str | Path) -> dict[str, Any]:
    """latents.json; UserError where the folder has none."""
    try:
        return json.loads((Path(workdir) / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{workdir}: no trained prior ({FACTS} is missing or damaged)") from None


def _encodings(run: Run, dataset: Dataset) -> Float[np.ndarray, "n size"]:
    """Latents of all pictures, from RUN/latents/ where they are kept."""
    if not run.model.encodes:
        raise UserError(f"{run.workdir}: the pictures of this training have no latents (no encoder, no table)")
    parts = (run.sha256, json.dumps(dataset.fingerprint(), sort_keys=True))
    path = run.workdir / FOLDER / f"{dataset.split}-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:16]}.npy"
    shape = (len(dataset), latent_vectors.latent_size(run.model))
    try:
        kept = np.load(path, mmap_mode="r", allow_pickle=False)
        if kept.shape == shape and kept.dtype == np.float32:
            return kept
    except (OSError, ValueError, EOFError):
        pass
    vectors = _encode(run, dataset, np.empty(shape, np.float32))
    try:
        with writing(path, shape, np.float32) as kept:
            kept[:] = vectors
    except UserError as error:  # a folder that may only be read
        say(f"dfm.train: {error}: pictures are encoded again at the next start")
    return vectors


def _encode(run: Run, dataset: Dataset, vectors: np.ndarray) -> np.ndarray:
    model, variables = run.model, run.variables

    @jax.jit
    def encode(images: Array, labels: Array) -> Array:
        return latent_vectors.encode(model, variables, to_float(images), labels if model.classes else None)

    starts = range(0, len(dataset), AT_ONCE)
    with Progress(len(starts), "encoding", "batch") as progress:
        for start in progress.over(starts):
            rows = np.arange(start, min(start + AT_ONCE, len(dataset)))
            (images, count), *_ = padded_batches(dataset.take(rows), AT_ONCE)
            labels = np.resize(dataset.labels[rows], AT_ONCE)
            vectors[rows] = np.asarray(encode(images, labels))[:count]
    return vectors
