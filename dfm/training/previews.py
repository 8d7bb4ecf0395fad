"""Pictures during training: reconstructions beside their originals, and samples, as PNG grids."""

from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, UInt8

from dfm.arrays import grid, padded_batches, to_float, to_uint8
from dfm.data import Batches
from dfm.metrics.principal_components import principal_components
from dfm.models.latent_vectors import LatentVectors
from dfm.picture_files import save_picture
from dfm.shapes import typechecked
from dfm.training.latent_scale import latent_scale, write_latent_scale
from dfm.training.run_folder import PICTURES
from dfm.training.sharding import on_this_process
from dfm.training.state import TrainState

COLUMNS = 8
RECONSTRUCTIONS, SAMPLES = 32, 64
MOST_LATENTS = 1_024  # of a picture, for samples: the covariance of more takes minutes
ENCODINGS = 2_000  # pictures whose encodings the density of samples is fitted to
CHUNK = 16  # pictures decoded at once: a net of 2^m features a pixel takes memory
SAMPLE_SEED = 0  # fixed: the samples of two steps, or two runs, differ by their training alone


class Previews:
    """Paints what the model can do so far. Training pictures throughout; nothing here changes the training."""

    def __init__(self, model, batches: Batches, workdir: str | Path, measures_scale: bool = True):
        self._folder, self._measures_scale = Path(workdir) / PICTURES, measures_scale
        self._batches, self._model = batches, model
        self._decode = jax.jit(lambda params, z: model.apply({"params": params}, z, method="decode"))
        self._encode = jax.jit(lambda params, images: model.apply({"params": params}, images, method="encode"))

    def write(self, state: TrainState, step: int) -> None:
        """Writes reconstructions-<step>.png and, of few latents, samples-<step>.png; the first process does.

        Of an autoencoder, the scale of its latents too (latent_scale.json), unless its encoder is frozen.
        """
        if jax.process_index() != 0:
            return
        params = on_this_process({**state.params, **(state.ema_params or {})})  # frozen groups have no average
        shown = self._batches.at(0)
        count = min(RECONSTRUCTIONS, len(shown["image"]))
        originals = shown["image"][:count]
        if state.latents is not None:
            table = np.asarray(on_this_process(state.latents.values))
            latents, z = table, table[shown["index"][:count]]
        else:
            some = self._some_pictures()
            latents, z = self._encode_all(params, some), self._encode_all(params, originals)
            if self._measures_scale and isinstance(self._model, LatentVectors):
                scale = latent_scale(self._model, params, some)
                write_latent_scale(self._folder.parent, step, scale)
        reconstructions = self._paint(params, z)
        self._folder.mkdir(parents=True, exist_ok=True)
        pairs = beside_each_other(originals, reconstructions, COLUMNS)
        save_picture(self._folder / f"reconstructions-{step:08d}.png", grid(pairs, COLUMNS))
        if latents.shape[1] <= MOST_LATENTS:
            samples = self._paint(params, sample_gaussian(latents, SAMPLES, SAMPLE_SEED))
            save_picture(self._folder / f"samples-{step:08d}.png", grid(samples, COLUMNS))

    def _paint(self, params, z: np.ndarray) -> np.ndarray:
        return _in_chunks(lambda part: to_uint8(self._decode(params, part)), z)

    def _encode_all(self, params, images: np.ndarray) -> np.ndarray:
        return _in_chunks(lambda part: np.asarray(self._encode(params, to_float(part))), images)

    def _some_pictures(self) -> np.ndarray:
        """Up to 2,000 training pictures: those of the first batches."""
        wanted = min(ENCODINGS, len(self._batches.dataset))
        batches = -(-wanted // self._batches.local_batch_size)
        images = np.concatenate([self._batches.at(step)["image"] for step in range(batches)])
        return images[:wanted]


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


def _in_chunks(function, array: np.ndarray) -> np.ndarray:
    """The function of CHUNK rows at a time."""
    return np.concatenate([function(batch)[:count] for batch, count in padded_batches(array, CHUNK)])
