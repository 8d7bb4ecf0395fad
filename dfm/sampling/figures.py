"""Pictures of what a run can do: samples, reconstructions, interpolations, traversals, inversions and morphs.

Each is a function of the run's pictures and latents, a painter of the size that is wanted, and the folder that it goes
to: `samples(RunData(run), Painter(run), Outputs(folder, command, {}), prior="gmm", count=100)`.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from dfm.metrics.picture_quality import FLOAT_PEAK, decibels, mse, psnr
from dfm.priors import DEFAULT_PRIOR
from dfm.sampling import interpolation
from dfm.sampling.attribute_figure import attributes
from dfm.sampling.figure_parts import (
    UNHEARD,
    USUAL_SEARCH,
    Latents,
    Notes,
    Search,
    drawn,
    inverted,
    latents_of_test,
    named_ends,
    paint_all,
    reconstructed,
)
from dfm.sampling.learned_priors import classes_of
from dfm.sampling.outputs import Outputs, resized_nearest, square_columns
from dfm.sampling.painter import Labels, Painter, Pictures
from dfm.sampling.run_data import RunData

SAMPLES, RECONSTRUCTIONS, INVERSIONS, STATIONS = 64, 32, 16, 6  # how many, unless asked otherwise
CLASSES = 10  # of an interpolation between classes; data sets with more show their first ones
PATHS = ("linear", "spherical")


def samples(
    data: RunData,
    painter: Painter,
    outputs: Outputs,
    *,
    prior: str = DEFAULT_PRIOR,
    count: int | None = None,
    seed: int = 0,
    temperature: float = 1.0,
    label: int | None = None,
    notes: Notes = UNHEARD,
) -> None:
    """Pictures of latents drawn from a prior; sample i depends on the seed and on i alone.

    Of a conditional model those of one class, or, without a label, a column for each.
    """
    count = count or SAMPLES
    outputs.scale_for(count, painter.height, painter.width)  # before a prior is fitted
    classes = data.run.model.classes or classes_of(prior)
    report: dict[str, Any] = {"prior": prior, "seed": seed, "temperature": temperature}
    labels: Labels = label
    if classes:
        labels = np.arange(count) % classes if label is None else label
        report["label"] = "columns" if label is None else label
    latents = drawn(data, painter, prior, count, seed, temperature, notes, labels)
    images = paint_all(painter, outputs, latents, notes, labels)
    columns = classes if classes and label is None else square_columns(count)
    outputs.grid(f"samples-{prior.partition(':')[0]}", images, columns, report)


def reconstructions(
    data: RunData,
    painter: Painter,
    outputs: Outputs,
    *,
    pictures: Sequence[int] | None = None,
    count: int | None = None,
    notes: Notes = UNHEARD,
) -> None:
    """Originals with their reconstructions to the right: training pictures of a table, test pictures of an encoder."""
    data.check_training_latents()
    dataset, of, note = reconstructed(data)
    if note:
        notes.say(note)
    examples = _chosen(pictures, count or RECONSTRUCTIONS, len(dataset))
    originals = data.pictures(dataset, examples)
    labels = dataset.labels[examples]
    latents = data.latents_of_training(examples) if of == "train" else data.painter.encode(originals, labels)
    report = {"of": of, "pictures": examples, "metrics": _quality(originals, data.painter.paint(latents, labels))}
    _side_by_side(painter, outputs, "reconstructions", originals, latents, report, notes, labels)


def inversions(
    data: RunData,
    painter: Painter,
    outputs: Outputs,
    *,
    pictures: Sequence[int] | None = None,
    count: int | None = None,
    search: Search = USUAL_SEARCH,
    notes: Notes = UNHEARD,
) -> None:
    """Test pictures with what the decoder can make of them at best; the latents found are stored beside the grid."""
    examples = _chosen(pictures, count or INVERSIONS, len(data.test))
    originals = data.pictures(data.test, examples)
    found = inverted(data, originals, search, notes)
    quality = _quality(originals, data.painter.paint(found.latents)) | {
        "start_psnr": decibels(float(np.mean(found.start_mse)), FLOAT_PEAK)
    }
    path = outputs.store_latents("invert", found.latents, examples, data.run.model.height, data.run.model.width)
    report = {
        "of": "test",
        "of_the_training": data.test_was_trained_on,
        "pictures": examples,
        "latents": path.name,
        **dataclasses.asdict(search),
        "metrics": quality,
    }
    _side_by_side(painter, outputs, "invert", originals, found.latents, report, notes, None)


def interpolations(
    data: RunData,
    painter: Painter,
    outputs: Outputs,
    *,
    start_picture: int | None = None,
    end_picture: int | None = None,
    paths: Sequence[str] = PATHS,
    columns: int = 11,
    label: int | None = None,
    search: Search = USUAL_SEARCH,
    notes: Notes = UNHEARD,
) -> None:
    """Rows of a grid: one between two test pictures, or one for each pair of neighbouring classes (Asadi 2022, 5.7)."""
    named = named_ends(start_picture, end_picture)
    if named is None:
        ends, report = _class_ends(data, notes)
    else:
        ends, report = latents_of_test(data, np.array(named), search, notes), {"of": "test", "pictures": named}
    for path in paths:
        rows = [interpolation.between(a, b, columns, path) for a, b in zip(ends[:-1], ends[1:], strict=True)]
        images = paint_all(painter, outputs, np.concatenate(rows), notes, label)
        outputs.grid(f"interpolation-{path}", images, columns, {"path": path, **report})


def traversals(
    data: RunData,
    painter: Painter,
    outputs: Outputs,
    *,
    start_picture: int | None = None,
    directions: str = "principal",
    rows: int = 10,
    columns: int = 11,
    span: float = 3.0,
    label: int | None = None,
    search: Search = USUAL_SEARCH,
    notes: Notes = UNHEARD,
) -> None:
    """A row for each direction, the others held: from -span to +span standard deviations around one latent."""
    latents = data.training_latents
    base = latents.mean(0)
    if start_picture is not None:
        base = latents_of_test(data, np.array([start_picture]), search, notes)[0]
    vectors, scales = interpolation.directions(latents, directions)
    rows = min(rows, len(vectors))
    path = interpolation.traversals(base, vectors[:rows], scales[:rows], columns, span)
    images = paint_all(painter, outputs, path, notes, label)
    # the numbers of the dimensions, where each row is one of them
    dimensions = vectors[:rows].argmax(1) if directions == "coordinates" else range(rows)
    report = {
        "directions": directions,
        "around": "mean" if start_picture is None else start_picture,
        "rows": list(dimensions),
        "standard_deviations": scales[:rows],
        "span": span,
    }
    outputs.grid("traversal", images, columns, report)


def morphs(
    data: RunData,
    painter: Painter,
    outputs: Outputs,
    *,
    pictures: Sequence[int] | None = None,
    prior: str = DEFAULT_PRIOR,
    count: int | None = None,
    seed: int = 0,
    temperature: float = 1.0,
    paths: Sequence[str] = PATHS,
    frames: int = 24,
    seconds: float = 1.0,
    label: int | None = None,
    search: Search = USUAL_SEARCH,
    notes: Notes = UNHEARD,
) -> None:
    """A looping GIF through samples of the prior, or through test pictures; frames and seconds between two of them."""
    if pictures is None:
        count = count or STATIONS
        stations = drawn(data, painter, prior, count, seed, temperature, notes, label)
        report: dict[str, Any] = {"prior": prior, "seed": seed, "temperature": temperature, "stations": count}
    else:
        stations = latents_of_test(data, np.array(pictures), search, notes)
        report = {"of": "test", "pictures": pictures}
    for path in paths:
        images = paint_all(painter, outputs, interpolation.loop(stations, frames, path), notes, label)
        outputs.animation(f"morph-{path}", images, len(stations) * seconds, {"path": path, **report})


FIGURES: dict[str, Callable[..., None]] = {
    "samples": samples,
    "reconstructions": reconstructions,
    "interpolation": interpolations,
    "traversal": traversals,
    "invert": inversions,
    "morph": morphs,
    "attribute": attributes,
}


def _chosen(pictures: Sequence[int] | None, count: int, available: int) -> Int[np.ndarray, " n"]:
    """The pictures asked for by number, or the first ones."""
    return np.arange(min(count, available)) if pictures is None else np.array(pictures)


def _class_ends(data: RunData, notes: Notes) -> tuple[Latents, dict[str, Any]]:
    """A latent for each class, which an interpolation visits in turn, and what a report says of them."""
    labels = data.train.labels
    if len(np.unique(labels)) < 2:
        notes.say("the training pictures are of one class: interpolating between the first two of them")
        return data.latents_of_training(np.arange(2)), {"of": "train", "pictures": [0, 1]}
    known, nearest = interpolation.class_representatives(data.training_latents, labels)
    known, nearest = known[:CLASSES], nearest[:CLASSES]
    report = {"of": "train", "classes": known, "pictures": nearest, "chosen": "latent points most towards its class"}
    return data.training_latents[nearest], report


def _side_by_side(
    painter: Painter,
    outputs: Outputs,
    name: str,
    originals: Pictures,
    latents: Latents,
    report: dict[str, Any],
    notes: Notes,
    labels: Labels,
) -> None:
    decoded = paint_all(painter, outputs, latents, notes, labels)
    pairs = np.stack([resized_nearest(originals, *decoded.shape[1:3]), decoded], 1).reshape(-1, *decoded.shape[1:])
    outputs.grid(name, pairs, 2 * max(1, round(math.sqrt(len(originals) / 2))), report)


def _quality(originals: Pictures, decoded: Pictures) -> dict[str, Any]:
    """PSNR of the mean squared error over these pictures, and of each, in 8 bits at the model's own size."""
    mean = float(np.mean([mse(a, b) for a, b in zip(decoded, originals, strict=True)]))
    each = [round(psnr(a, b), 2) for a, b in zip(decoded, originals, strict=True)]
    return {"psnr": decibels(mean), "psnr_each": each}
