"""The codes of a VQ-VAE's run as a data set, `codes:RUN`: what a prior over them is trained on."""

import os
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from dfm import data
from dfm.arrays import padded_batches, to_float
from dfm.data import Dataset
from dfm.data.dataset import ArrayPictures
from dfm.data.fingerprint import Fingerprint, sha256
from dfm.errors import UserError
from dfm.priors import CODES
from dfm.training.runs import Run, load_run

MODEL = "code_transformer"
PICTURES_AT_ONCE = 256
CODES_OF = "codes_of"  # in run.json's "data": the checksum of the run whose codes they are


class CodeDataset(Dataset):
    """Maps of codes, int32 [rows, columns, 1], in place of pictures; labels are those of the pictures.

    Attributes:
        codes: K, of the book.
    """

    def __init__(self, name: str, pictures: Dataset, maps: np.ndarray, run: Run):
        super().__init__(name, pictures.split, [ArrayPictures(maps)], pictures.labels, pictures.label_names)
        self.codes: int = run.model.codes  # type: ignore[attr-defined]
        self._pictures, self._sha256 = pictures, run.sha256

    def fingerprint(self) -> Fingerprint:
        """Of the pictures and the model, not of the codes: another device may round one of a million differently."""
        of_pictures = self._pictures.fingerprint()
        contents = sha256([of_pictures["contents"].encode(), self._sha256.encode()])
        return {**of_pictures, "contents": contents, CODES_OF: self._sha256}


def load_any(name: str, split: str, data_dir: str | os.PathLike | None, label: int | None) -> Dataset:
    """`dfm.data.load`, and the codes of a run where the name is codes:RUN."""
    if not name.startswith(CODES):
        return data.load(name, split, data_dir, label)
    if name == CODES:
        raise UserError(
            "config: dataset.name codes:RUN names the run of a VQ-VAE (--config.dataset.name=codes:runs/vq)"
        )
    run = load_run(name.removeprefix(CODES))
    check_quantizes(run)
    of_run = run.config.dataset
    label = of_run.label if label is None or label < 0 else label
    pictures = data.load(of_run.name, split, data_dir, label)
    model = run.model
    if pictures.shape != (model.height, model.width, model.channels):
        raise UserError(f"{name}: its model is for {model.height}x{model.width} pixels, {of_run.name} has others")
    return CodeDataset(name, pictures, code_maps(run, pictures), run)


def check_quantizes(run: Run) -> None:
    """UserError where the model has no codes."""
    if getattr(run.model, "bottleneck", None) != "vq":
        raise UserError(f"{run.workdir}: its model has no codes: that of a VQ-VAE is needed")


def code_maps(run: Run, pictures: Dataset) -> np.ndarray:
    """int32 [pictures, rows, columns, 1]: the codes of all pictures; codes in a row have one row."""
    model, variables = run.model, run.variables

    @jax.jit
    def quantize(images: jax.Array, labels: jax.Array | None) -> jax.Array:
        found: Any = model.apply(variables, to_float(images), labels, method="quantize")
        return found.codes

    found = []
    for first in range(0, len(pictures), PICTURES_AT_ONCE):
        rows = np.arange(first, min(first + PICTURES_AT_ONCE, len(pictures)))
        images, count = next(padded_batches(pictures.take(rows), PICTURES_AT_ONCE))
        labels, _ = next(padded_batches(pictures.labels[rows], PICTURES_AT_ONCE))
        found.append(np.asarray(quantize(images, labels if model.classes else None))[:count])
    codes = np.concatenate(found).astype(np.int32)
    return codes.reshape(len(codes), *((1,) if codes.ndim == 2 else ()), *codes.shape[1:], 1)


def completed(config: ConfigDict, dataset: Dataset) -> ConfigDict:
    """The config with sizes of the codes where model.height, width and codes are 0.

    Raises:
        UserError: other sizes; a model of codes and pictures, or the other way round; a crop or a mirror.
    """
    of_codes = isinstance(dataset, CodeDataset)
    if of_codes != (config.model.name == MODEL):
        raise UserError(f"config: dataset.name codes:RUN and model.name {MODEL} belong together")
    if not isinstance(dataset, CodeDataset):
        return config
    if config.dataset.crop or config.dataset.flip:
        raise UserError("config: maps of codes are neither cropped nor mirrored")
    assert dataset.shape is not None  # an array's
    found = {"height": dataset.shape[0], "width": dataset.shape[1], "codes": dataset.codes}
    changed = config.copy_and_resolve_references()
    for key, value in found.items():
        if changed.model.get(key, 0) not in (0, value):
            raise UserError(f"config: model.{key} is {changed.model[key]}, that of {dataset.name} is {value}")
        changed.model[key] = value
    return changed
