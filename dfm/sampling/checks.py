"""What keeps a figure from being made: said of all that are asked for before a prior is fitted or a file is written."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dfm.data import Dataset
from dfm.errors import UserError
from dfm.models.latent_vectors import latent_size
from dfm.sampling.attribute_figure import MOVED
from dfm.sampling.attributes import check_divides
from dfm.sampling.figure_parts import named_ends, reconstructed
from dfm.sampling.figures import CLASSES, INVERSIONS, RECONSTRUCTIONS, SAMPLES, STATIONS
from dfm.sampling.fitted_priors import check_prior
from dfm.sampling.inversion import check_invertible
from dfm.sampling.learned_priors import classes_of
from dfm.sampling.outputs import scale_for
from dfm.sampling.painter import Painter, check_labels
from dfm.sampling.run_data import INVERSION, RunData

OF_ONE_CLASS = ("interpolation", "traversal", "morph", "attribute")  # where a conditional model needs a label


def check_class(data: RunData, label: int | None, prior: str) -> None:
    """A model without classes has none to choose from, unless its prior has; but a run of one class paints that.

    Raises:
        UserError: no classes, or none of this number.
    """
    run = data.run
    known = [classes for classes in (run.model.classes, classes_of(prior)) if classes]
    if not known and label not in (None, run.config["dataset"]["label"]):
        raise UserError(
            f"the model {run.config['model']['name']!r} has no classes to choose from: train on one class alone "
            f"(--config.dataset.label={label})"
        )
    for classes in known if label is not None else ():
        check_labels(np.array([label]), classes)


def check_figure(what: str, data: RunData, painter: Painter, scale: int | None, chosen: Mapping[str, Any]) -> None:
    """UserError where this figure cannot be made of this run.

    Args:
        what: a name of `figures.FIGURES`. scale: of the outputs.
        chosen: the arguments of its function; all that dfm.sample gives.
    """
    painter.check_size()
    if what in OF_ONE_CLASS:
        painter.label_batches(chosen["label"], 1)
    scale_for(scale, PICTURES[what](data, **chosen), painter.height, painter.width)


def _samples(data: RunData, *, prior: str, count: int | None, **_: Any) -> int:
    check_prior(data, prior)
    return count or SAMPLES


def _reconstructions(data: RunData, *, pictures: Sequence[int] | None, count: int | None, **_: Any) -> int:
    data.check_training_latents()
    return 2 * _numbered(data, reconstructed(data)[0], pictures, count or RECONSTRUCTIONS)


def _inversions(data: RunData, *, pictures: Sequence[int] | None, count: int | None, **_: Any) -> int:
    check_invertible(data.run.model)
    return 2 * _numbered(data, data.test, pictures, count or INVERSIONS)


def _interpolations(
    data: RunData, *, start_picture: int | None, end_picture: int | None, columns: int, **_: Any
) -> int:
    ends = named_ends(start_picture, end_picture)
    if ends is not None:
        return columns * (_of_test(data, ends) - 1)
    data.check_training_latents()
    classes = len(np.unique(data.train.labels)[:CLASSES])
    if classes < 2:
        data.check_pictures(data.train, range(2))
    return columns * max(1, classes - 1)


def _traversals(data: RunData, *, start_picture: int | None, rows: int, columns: int, **_: Any) -> int:
    data.check_training_latents()
    if start_picture is not None:
        _of_test(data, [start_picture])
    return columns * min(rows, latent_size(data.run.model))


def _morphs(data: RunData, *, frames: int, **chosen: Any) -> int:
    return frames * _stations(data, **{**chosen, "count": chosen["count"] or STATIONS})


def _attributes(data: RunData, *, attribute: int, columns: int, **chosen: Any) -> int:
    data.check_training_latents()
    has = data.train.labels == attribute
    check_divides(int(has.sum()), int((~has).sum()))
    return columns * _stations(data, **{**chosen, "count": chosen["count"] or MOVED})


# the name of a figure -> how many pictures one of its files holds; UserError where it cannot be made
PICTURES: dict[str, Callable[..., int]] = {
    "samples": _samples,
    "reconstructions": _reconstructions,
    "interpolation": _interpolations,
    "traversal": _traversals,
    "invert": _inversions,
    "morph": _morphs,
    "attribute": _attributes,
}


def _stations(data: RunData, *, pictures: Sequence[int] | None, prior: str, count: int, **_: Any) -> int:
    """Samples, or the test pictures in place of them."""
    if pictures is not None:
        return _of_test(data, pictures)
    check_prior(data, prior)
    return count


def _of_test(data: RunData, pictures: Sequence[int]) -> int:
    """Test pictures whose latents are wanted."""
    if data.latents_by(of_training=False) == INVERSION:
        check_invertible(data.run.model)
    data.check_pictures(data.test, pictures)
    return len(pictures)


def _numbered(data: RunData, dataset: Dataset, pictures: Sequence[int] | None, count: int) -> int:
    """Those that are named, or the first ones."""
    chosen = range(min(count, len(dataset))) if pictures is None else pictures
    data.check_pictures(dataset, chosen)
    return len(chosen)
