"""What is evaluated beside pictures: a run, or an autoencoder alone as a model of the reference's pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from ml_collections import ConfigDict

from dfm.data import Dataset
from dfm.data.dataset import Pictures
from dfm.data.fingerprint import Fingerprint, array_digest
from dfm.errors import UserError, counted
from dfm.evaluation.sources import Shape, Source
from dfm.sampling import RunData
from dfm.training.runs import Run

if TYPE_CHECKING:
    from dfm.evaluation.report import Line

RECONSTRUCTED_PIXELS = 2**18  # at once, by an autoencoder: four pictures of 256 x 256
NO_DATASET = {"name": "none", "split": "none", "label": -1}


def open_run(run: Run | str | Path, which: Any = "latest", data_dir: str | None = None) -> RunData:
    """A run, opened already or by its folder, with its pictures; UserError where its parameters are not finite."""
    from dfm.training import runs

    opened = run if isinstance(run, Run) else runs.load_run(Path(run).expanduser(), which)
    check_finite_parameters(opened)
    return RunData(opened, data_dir)


def open_autoencoder(autoencoder: Any, which: Any, pictures: Source, data_dir: str | None = None) -> RunData:
    """An autoencoder as a run of no training that makes pictures of this size, and whose pictures these are.

    Args:
        autoencoder: a path, or (model, params).
    """
    from dfm.conversion.config_files import model_attributes
    from dfm.models import for_pictures
    from dfm.training.pretrained import load_autoencoder

    height, width, channels = pictures.shape
    if isinstance(autoencoder, str | Path):
        path = Path(autoencoder).expanduser()
        model, params = load_autoencoder(path, which)
    else:
        path, (model, params) = Path("autoencoder"), autoencoder
    if channels != model.in_channels:
        raise UserError(f"{pictures.id}: has {counted(channels, 'channel')}, and the model is for {model.in_channels}")
    config = ConfigDict({"model": {"name": "autoencoder_kl", **model_attributes(model)}, "dataset": NO_DATASET})
    run = Run(config, path, 0, for_pictures(model, (height, width)), None, params, None)
    check_finite_parameters(run)
    return PicturesOfSource(run, pictures, data_dir, max(1, RECONSTRUCTED_PIXELS // (height * width)))


class PicturesOfSource(RunData):
    """A model whose pictures are those of a source, in place of those that it was trained on."""

    def __init__(self, run: Run, source: Source, data_dir: str | None, batch_size: int):
        super().__init__(run, data_dir, batch_size)
        self.train = source_dataset(source)


def source_dataset(source: Source) -> Dataset:
    """A source as the training sees pictures."""
    labels = np.zeros(source.count, np.int32) if source.labels is None else source.labels
    return Dataset(source.id, "given", [SourcePictures(source)], labels)


class SourcePictures(Pictures):
    """A source as `Dataset` wants pictures: by their rows."""

    def __init__(self, source: Source):
        self._source, self.channels = source, source.shape[2]
        self.shape: Shape | None = source.shape

    def __len__(self) -> int:
        return self._source.count

    def picture(self, row: int) -> np.ndarray:
        return next(iter(self._source.batches(row, row + 1)))[0]

    def take(self, rows: np.ndarray) -> np.ndarray:
        if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
            return np.concatenate(list(self._source.batches(int(rows[0]), int(rows[-1]) + 1)))
        return np.stack([self.picture(int(row)) for row in rows])

    def fingerprint(self, rows: np.ndarray | None) -> Fingerprint:
        return {"contents": array_digest(self.take(np.arange(len(self))), rows)}


def check_finite_parameters(run: Run) -> None:
    """A run that has diverged makes garbage without a word; this says so."""
    for path, leaf in jax.tree_util.tree_flatten_with_path((run.variables, run.latents))[0]:
        if not np.all(np.isfinite(np.asarray(leaf, np.float32))):
            raise UserError(f"{run.workdir}: the parameters of step {run.step} hold NaN ({jax.tree_util.keystr(path)})")


def run_facts(run: Run) -> "Line":
    """Which model a line speaks of: workdir, step, config, and a hash of parameters, latents and statistics."""
    return {
        "run": {
            "workdir": Path(run.workdir).resolve().name,
            "step": int(run.step),
            "params_sha256": run.sha256,
            "config": run.config.to_dict(),
        }
    }
