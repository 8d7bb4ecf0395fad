"""The pictures of a run, those it was trained on and those of the test split, with their latents."""

import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np
from jaxtyping import Float, Int

from dfm.data import Dataset, load
from dfm.errors import UserError, counted
from dfm.priors import CODES, LATENTS
from dfm.sampling.painter import Painter, Pictures
from dfm.training.run_folder import check_data

if TYPE_CHECKING:
    from dfm.training.runs import Run

CHUNK = 4096
SCALE_EXAMPLES = 1024
TABLE, ENCODER, INVERSION = "table", "encoder", "inversion"  # where latents of pictures come from


def check_paints(run: "Run") -> None:
    """UserError for the run of a prior, which makes latents or codes of another run's pictures."""
    name = run.config["dataset"]["name"]
    for prefix in (LATENTS, CODES):
        if name.startswith(prefix):
            whose = name.removeprefix(prefix)
            raise UserError(f"{run.workdir}: is a prior of {whose}; open {whose} with prior {prefix}{run.workdir}")


class RunData:
    """Reads nothing until it is asked for.

    Attributes:
        run: whose pictures these are.
        painter: paints and encodes at the model's own size.
        latents_are_stored: the latents are a table, so that only pictures of the training have some.
    """

    def __init__(self, run: "Run", data_dir: str | os.PathLike | None = None, batch_size: int | None = None):
        check_paints(run)
        self.run, self.data_dir = run, data_dir
        self.painter = Painter(run, batch_size=batch_size)
        self.latents_are_stored = run.latents is not None

    def latents_by(self, of_training: bool) -> str:
        """Where latents of pictures come from: TABLE, of the training's alone; ENCODER; INVERSION where there is none.

        The last is a search (`dfm.sampling.invert`), which nothing here does unasked.
        """
        if of_training and self.latents_are_stored:
            return TABLE
        return ENCODER if self.run.model.encodes else INVERSION

    @property
    def training_has_latents(self) -> bool:
        """False for a model whose latents are only drawn, such as a GAN's: from N(0, I)."""
        return self.latents_by(of_training=True) != INVERSION

    def check_training_latents(self) -> None:
        """UserError where the pictures of the training have none."""
        if not self.training_has_latents:
            raise UserError(
                "the pictures of this training have no latents (no encoder, no table): samples of the prior 'normal' "
                "and inversions need none"
            )

    @functools.cached_property
    def train(self) -> Dataset:
        """The split that the run was trained on."""
        dataset, latents = self._load(self.run.config["dataset"]["split"]), self.run.latents
        if latents is not None and len(dataset) != len(latents):
            raise UserError(
                f"the run has {len(latents)} latents, but {dataset.name} has {len(dataset)} pictures now: "
                "not the data of the training (see data_dir)"
            )
        if latents is not None:  # another picture would stand beside the latent of one
            check_data(self.run.workdir, self.run.data, dataset.fingerprint(), dataset.name)
        return dataset

    @functools.cached_property
    def test(self) -> Dataset:
        """The test split, of the run's class where it has one."""
        return self._load("test")

    @property
    def test_was_trained_on(self) -> bool:
        return "test" in self.run.config["dataset"]["split"]

    @functools.cached_property
    def training_latents(self) -> Float[np.ndarray, "n d"]:
        """The table, or the encodings of the whole training split."""
        if self.latents_are_stored:
            return np.asarray(self.run.latents, np.float32)
        self.check_training_latents()
        return self.encode(self.train)

    @functools.cached_property
    def latent_scale(self) -> float:
        """Root mean variance of the training latents, or of the first thousand where they must be encoded.

        Of latents that are only drawn it is 1, the deviation of N(0, I).
        """
        if not self.training_has_latents:
            return 1.0
        latents = self.latents_of_training(np.arange(min(SCALE_EXAMPLES, len(self.train))))
        return float(np.sqrt(latents.var(0).mean())) or 1.0

    def latents_of_training(self, examples: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n d"]:
        """Latents of these pictures of the training split."""
        if self.latents_are_stored:
            return np.asarray(self.run.latents, np.float32)[examples]
        self.check_training_latents()
        return self.painter.encode(self.pictures(self.train, examples), self.train.labels[examples])

    def sample_labels(self, seed: int, start: int, count: int) -> Int[np.ndarray, " count"]:
        """Classes of samples start, ..., start + count - 1, drawn as often as the training has them.

        That of sample i depends on (seed, i) alone.
        """
        key = jax.random.split(jax.random.key(seed))[1]  # the first is that of the latents
        indices = np.arange(start, start + count, dtype=np.uint64).astype(np.uint32)
        rows = _drawn_rows(key, indices, len(self.train))
        return self.train.labels[np.asarray(rows)]

    def encode(self, dataset: Dataset) -> Float[np.ndarray, "n d"]:
        """Encodings of a whole split, read in pieces."""
        pieces = [
            self.painter.encode(self.pictures(dataset, rows), dataset.labels[rows]) for rows in _pieces(len(dataset))
        ]
        return np.concatenate(pieces)

    def pictures(self, dataset: Dataset, examples: Sequence[int] | Int[np.ndarray, " n"]) -> Pictures:
        """Pictures in the model's size: as they are, or their central windows where they are larger."""
        self.check_pictures(dataset, examples)
        rows, model = np.asarray(examples, np.int64), self.run.model
        if dataset.shape == (model.height, model.width, model.channels):
            return dataset.take(rows)
        return np.stack([_central_window(dataset.picture(int(row)), model.height, model.width) for row in rows])

    def check_pictures(self, dataset: Dataset, examples: Sequence[int] | Int[np.ndarray, " n"]) -> None:
        """UserError where there are no such pictures, or none that the model is for."""
        outside = [int(row) for row in examples if not 0 <= row < len(dataset)]
        if outside:
            raise UserError(f"no picture {outside[0]} in {dataset.name}, {dataset.split}: 0 to {len(dataset) - 1}")
        if dataset.channels != self.run.model.channels:
            found = counted(dataset.channels, "channel")
            raise UserError(f"{dataset.name} has {found}, the model {self.run.model.channels}")

    def nearest_in_training(self, pictures: Pictures, count: int) -> Int[np.ndarray, "n count"]:
        """For each picture the `count` training pictures of least squared error, the nearest first."""
        wanted = pictures.reshape(len(pictures), -1).astype(np.float32)
        best_rows = np.zeros((len(pictures), 0), np.int64)
        best_errors = np.zeros((len(pictures), 0), np.float32)
        for rows in _pieces(len(self.train)):
            known = self.pictures(self.train, rows).reshape(len(rows), -1).astype(np.float32)
            errors = np.square(known).sum(1) - 2 * wanted @ known.T  # less |wanted|^2, which ranks nothing
            errors = np.concatenate([best_errors, errors], 1)
            candidates = np.concatenate([best_rows, np.broadcast_to(rows, (len(wanted), len(rows)))], 1)
            order = np.argsort(errors, 1, kind="stable")[:, :count]
            best_errors, best_rows = np.take_along_axis(errors, order, 1), np.take_along_axis(candidates, order, 1)
        return best_rows

    def _load(self, split: str) -> Dataset:
        settings = self.run.config["dataset"]
        return load(settings["name"], split, self.data_dir, settings.get("label", -1))


@functools.partial(jax.jit, static_argnums=2)
def _drawn_rows(key: jax.Array, indices: jax.Array, count: int) -> jax.Array:
    return jax.vmap(lambda index: jax.random.randint(jax.random.fold_in(key, index), (), 0, count))(indices)


def _pieces(count: int) -> list[Int[np.ndarray, " n"]]:
    return [np.arange(first, min(first + CHUNK, count)) for first in range(0, count, CHUNK)]


def _central_window(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    from dfm.data.crops import enlarged

    picture = enlarged(picture, height, width)
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return picture[top : top + height, left : left + width]
