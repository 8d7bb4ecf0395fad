"""Pictures during training: reconstructions beside their originals, and samples, as PNG grids."""

import functools
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, UInt8

from dfm.arrays import grid, padded_batches, to_float, to_uint8
from dfm.data import Batches
from dfm.metrics.principal_components import principal_components
from dfm.models import latent_vectors
from dfm.objectives.protocol import Objective
from dfm.picture_files import save_picture
from dfm.shapes import typechecked
from dfm.training.latent_scale import has_scale, latent_scale, pictures_at_once, write_latent_scale
from dfm.training.run_folder import PICTURES
from dfm.training.sharding import on_this_process
from dfm.training.state import TrainState, model_statistics

COLUMNS = 8
RECONSTRUCTIONS, SAMPLES = 32, 64
MOST_LATENTS = 1_024  # of a picture, for samples: the covariance of more takes minutes
ENCODINGS = 2_000  # pictures whose encodings the density of samples is fitted to
SAMPLE_SEED = 0  # fixed: the samples of two steps, or two runs, differ by their training alone


class Previews:
    """Paints what the model can do so far. Training pictures throughout; nothing here changes the training."""

    def __init__(self, objective: Objective, batches: Batches, workdir: str | Path, measures_scale: bool = True):
        self._folder, self._measures_scale = Path(workdir) / PICTURES, measures_scale
        self._batches, self._objective, self._model = batches, objective, objective.model
        self._at_once = pictures_at_once(*batches.picture_shape[:2])  # always as many, so that it compiles once
        self._decode = jax.jit(functools.partial(latent_vectors.decode, objective.model))
        self._encode = jax.jit(functools.partial(latent_vectors.encode, objective.model))

    def write(self, state: TrainState, step: int) -> None:
        """Writes reconstructions-<step>.png and, of few latents, samples-<step>.png; the first process does.

        Of an autoencoder, the scale of its latents too (latent_scale.json), unless its encoder is frozen.
        """
        if jax.process_index() != 0:
            return
        params = {**state.params, **(state.ema_params or {})}  # frozen groups have no average
        statistics = model_statistics(self._objective, state.statistics)
        variables = on_this_process({"params": params, **statistics})
        shown = self._batches.at(0)
        count = min(RECONSTRUCTIONS, len(shown["image"]))
        originals, labels = shown["image"][:count], shown["label"][:count]
        self._folder.mkdir(parents=True, exist_ok=True)
        if state.latents is not None:
            latents = np.asarray(on_this_process(state.latents.values))
            z = latents[shown["index"][:count]]
        elif self._model.encodes:
            some, their_labels = self._some_pictures()
            latents, z = (self._encode_all(variables, *x) for x in ((some, their_labels), (originals, labels)))
            if self._measures_scale and has_scale(self._model):
                scale = latent_scale(self._model, variables["params"], some)
                write_latent_scale(self._folder.parent, step, scale)
        else:  # latents are only drawn
            size = latent_vectors.latent_size(self._model)
            latents = np.random.default_rng(SAMPLE_SEED).normal(size=(SAMPLES, size)).astype(np.float32)
            self._write_samples(variables, latents, labels, step)
            return
        pairs = beside_each_other(originals, self._paint(variables, z, labels), COLUMNS)
        save_picture(self._folder / f"reconstructions-{step:08d}.png", grid(pairs, COLUMNS))
        if latents.shape[1] <= MOST_LATENTS:
            self._write_samples(variables, sample_gaussian(latents, SAMPLES, SAMPLE_SEED), labels, step)

    def _write_samples(self, variables, z: np.ndarray, labels: np.ndarray, step: int) -> None:
        samples = self._paint(variables, z, np.resize(labels, len(z)))
        save_picture(self._folder / f"samples-{step:08d}.png", grid(samples, COLUMNS))

    def _paint(self, variables, z: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return _in_chunks(self._at_once, lambda z, labels: to_uint8(self._decode(variables, z, labels)), z, labels)

    def _encode_all(self, variables, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        encode = lambda images, labels: np.asarray(self._encode(variables, to_float(images), labels))  # noqa: E731
        return _in_chunks(self._at_once, encode, images, labels)

    def _some_pictures(self) -> tuple[np.ndarray, np.ndarray]:
        """Up to 2,000 training pictures, those of the first batches, and their labels."""
        wanted = min(ENCODINGS, len(self._batches.dataset))
        batches = [self._batches.at(step) for step in range(-(-wanted // self._batches.local_batch_size))]
        images, labels = (np.concatenate([batch[name] for batch in batches]) for name in ("image", "label"))
        return images[:wanted], labels[:wanted]


@typechecked
def sample_gaussian(latents: Float[np.ndarray, "n size"], count: int, seed: int) -> Float[np.ndarray, "count size"]:
    """Draws from the Gaussian with the mean and the full covariance of these latents."""
    # by components: with few pictures, or latents that nothing uses, the covariance is singular
    found = principal_components(latents)
    noise = np.random.default_rng(seed).standard_normal((count, latents.shape[1]))
    return (found.mean + noise * np.sqrt(found.variances) @ found.directions).astype(np.float32)


@typechecked
def beside_each_other(
    upper: UInt8[np.ndarray, "n height width c"], lower: UInt8[np.ndarray, "n height width c"], columns: int
) -> UInt8[np.ndarray, "_ height width c"]:
    """The pictures of a grid in which each row of `lower` stands under its row of `upper`; gaps are white."""
    gap = np.full((-len(upper) % columns, *upper.shape[1:]), 255, np.uint8)
    rows = [np.concatenate([images, gap]).reshape(-1, columns, *upper.shape[1:]) for images in (upper, lower)]
    return np.stack(rows, axis=1).reshape(-1, *upper.shape[1:])


def _in_chunks(size: int, function, *arrays: np.ndarray) -> np.ndarray:
    """The function of `size` rows at a time."""
    chunks = zip(*(padded_batches(array, size) for array in arrays), strict=True)
    return np.concatenate([function(*(batch for batch, _ in chunk))[: chunk[0][1]] for chunk in chunks])
