"""What `dfm.sample` shows: samples, reconstructions, interpolations, traversals, inversions and morphs of a run."""

import argparse
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from dfm.command_line import say
from dfm.errors import UserError
from dfm.metrics.picture_quality import PEAK, mse, psnr
from dfm.priors.prior import Prior
from dfm.progress import Progress
from dfm.sampling import interpolation
from dfm.sampling.fitted_priors import stored_or_fitted
from dfm.sampling.inversion import Inversion, decibels, invert
from dfm.sampling.outputs import Outputs, resized_nearest, square_columns
from dfm.sampling.painter import Painter, Pictures
from dfm.sampling.run_data import RunData

if TYPE_CHECKING:
    from dfm.training.runs import Run

SAMPLES, RECONSTRUCTIONS, INVERSIONS, STATIONS = 64, 32, 16, 6  # how many, unless asked otherwise
CLASSES = 10  # of an interpolation between classes; data sets with more show their first ones


@dataclasses.dataclass
class Studio:
    """A run with everything that its figures need; `args` are those of `dfm.sample`."""

    run: "Run"
    data: RunData
    painter: Painter  # of the size that was asked for
    outputs: Outputs
    args: argparse.Namespace

    def note(self, line: str) -> None:
        if not self.args.quiet:
            say(line)

    @functools.cached_property
    def prior(self) -> Prior:
        return stored_or_fitted(self.data, self.args.prior, self.note)

    def samples(self, count: int) -> Float[np.ndarray, "count d"]:
        """Latents of samples 0 ... count - 1."""
        batches = self.painter.latent_batches(self.prior, self.args.seed, 0, count, self.args.temperature)
        return np.concatenate([np.asarray(batch) for batch in batches])[:count]

    def paint(self, latents: Float[np.ndarray, "n d"]) -> Pictures:
        """Pictures of the size that was asked for, as far as they fit in one file."""
        painter, count = self.painter, len(latents)
        self.outputs.scale_for(count, painter.height, painter.width)
        images: list[Pictures] = []
        with self.progress("painting", "picture") as bar:
            for batch in painter.paint_pieces(latents):
                images.append(batch)
                bar.reach(sum(map(len, images)), count)
        return np.concatenate(images)

    def sampling_facts(self) -> dict[str, Any]:
        return {"prior": self.args.prior, "seed": self.args.seed, "temperature": self.args.temperature}

    def latents_of_test(self, examples: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n d"]:
        """By the encoder, or by inversion where there is none."""
        images = self.data.pictures(self.data.test, examples)
        return self.inverted(images).latents if self.data.latents_are_stored else self.data.painter.encode(images)

    def inverted(self, images: Pictures) -> Inversion:
        with self.progress("inverting", "step") as bar:
            return invert(
                self.data,
                images,
                steps=self.args.steps,
                starts=self.args.starts,
                optimizer=self.args.optimizer,
                progress=lambda done, total, psnr: bar.reach(
                    done, total, "" if math.isnan(psnr) else f"PSNR {psnr:.2f} dB"
                ),
            )

    def progress(self, label: str, unit: str) -> Progress:
        return Progress(None, label, unit, quiet=self.args.quiet)


def samples(studio: Studio) -> None:
    count = studio.args.count or SAMPLES
    studio.outputs.scale_for(count, studio.painter.height, studio.painter.width)  # before a prior is fitted
    images = studio.paint(studio.samples(count))
    studio.outputs.grid(f"samples-{studio.args.prior}", images, square_columns(count), studio.sampling_facts())


def reconstructions(studio: Studio) -> None:
    """Originals with their reconstructions to the right: training pictures of a table, test pictures of an encoder."""
    data, of = studio.data, "train"
    if not data.latents_are_stored:
        try:
            of = data.test.split
        except UserError as error:  # a folder of pictures need not have a test split
            studio.note(f"{error}; reconstructing pictures of the training instead")
    dataset = data.test if of == "test" else data.train
    examples = _examples(studio, len(dataset), RECONSTRUCTIONS)
    images = data.pictures(dataset, examples)
    latents = data.latents_of_training(examples) if of == "train" else data.painter.encode(images)
    report = {"of": of, "pictures": examples, "metrics": _quality(images, data.painter.paint(latents))}
    _side_by_side(studio, "reconstructions", images, latents, report)


def inversions(studio: Studio) -> None:
    """Test pictures with what the decoder can make of them at best; the latents found are stored beside the grid."""
    data = studio.data
    examples = _examples(studio, len(data.test), INVERSIONS)
    images = data.pictures(data.test, examples)
    found = studio.inverted(images)
    quality = _quality(images, data.painter.paint(found.latents)) | {"start_psnr": decibels(found.start_mse)}
    model = studio.run.model
    path = studio.outputs.store_latents("invert", found.latents, examples, model.height, model.width)
    report = {
        "of": "test",
        "of_the_training": data.test_was_trained_on,
        "pictures": examples,
        "latents": path.name,
        "optimizer": studio.args.optimizer,
        "steps": studio.args.steps,
        "starts": studio.args.starts,
        "metrics": quality,
    }
    _side_by_side(studio, "invert", images, found.latents, report)


def interpolations(studio: Studio) -> None:
    """Rows of a grid: one from --from to --to, or one for each pair of neighbouring classes (Asadi 2022, Fig. 5.7)."""
    ends, report = _ends(studio)
    columns = studio.args.columns
    for path in studio.args.paths:
        rows = [interpolation.between(a, b, columns, path) for a, b in zip(ends[:-1], ends[1:], strict=True)]
        images = studio.paint(np.concatenate(rows))
        studio.outputs.grid(f"interpolation-{path}", images, columns, {"path": path, **report})


def traversals(studio: Studio) -> None:
    """A row for each direction, the others held: from -span to +span standard deviations around one latent."""
    args, latents = studio.args, studio.data.training_latents
    base = latents.mean(0)
    if args.start_picture is not None:
        base = studio.latents_of_test(np.array([args.start_picture]))[0]
    vectors, scales = interpolation.directions(latents, args.directions)
    rows = min(args.rows, len(vectors))
    path = interpolation.traversals(base, vectors[:rows], scales[:rows], args.columns, args.span)
    images = studio.paint(path)
    # the numbers of the dimensions, where each row is one of them
    dimensions = vectors[:rows].argmax(1) if args.directions == "coordinates" else range(rows)
    report = {
        "directions": args.directions,
        "around": "mean" if args.start_picture is None else args.start_picture,
        "rows": list(dimensions),
        "standard_deviations": scales[:rows],
        "span": args.span,
    }
    studio.outputs.grid("traversal", images, args.columns, report)


def morphs(studio: Studio) -> None:
    """A looping GIF through samples of the prior, or through test pictures."""
    args = studio.args
    if args.pictures is None:
        count = args.count or STATIONS
        stations = studio.samples(count)
        report = studio.sampling_facts() | {"stations": count}
    else:
        stations = studio.latents_of_test(np.array(args.pictures))
        report = {"of": "test", "pictures": args.pictures}
    for path in args.paths:
        frames = studio.paint(interpolation.loop(stations, args.frames, path))
        studio.outputs.animation(f"morph-{path}", frames, len(stations) * args.seconds, {"path": path, **report})


FIGURES: dict[str, Callable[[Studio], None]] = {
    "samples": samples,
    "reconstructions": reconstructions,
    "interpolation": interpolations,
    "traversal": traversals,
    "invert": inversions,
    "morph": morphs,
}


def _examples(studio: Studio, available: int, default: int) -> Int[np.ndarray, " n"]:
    """The pictures asked for by number, or the first ones."""
    if studio.args.pictures is not None:
        return np.array(studio.args.pictures)
    return np.arange(min(studio.args.count or default, available))


def _ends(studio: Studio) -> tuple[Float[np.ndarray, "k d"], dict[str, Any]]:
    """Latents that an interpolation visits in turn, and what a report says of them."""
    args, data = studio.args, studio.data
    named = (args.start_picture, args.end_picture)
    if None not in named:
        return studio.latents_of_test(np.array(named)), {"of": "test", "pictures": list(named)}
    if named != (None, None):
        raise UserError("an interpolation between two test pictures needs both --from and --to")
    labels = data.train.labels
    if len(np.unique(labels)) < 2:
        studio.note("the training pictures are of one class: interpolating between the first two of them")
        return data.latents_of_training(np.arange(2)), {"of": "train", "pictures": [0, 1]}
    known, nearest = interpolation.class_representatives(data.training_latents, labels)
    known, nearest = known[:CLASSES], nearest[:CLASSES]
    report = {"of": "train", "classes": known, "pictures": nearest, "chosen": "latent points most towards its class"}
    return data.training_latents[nearest], report


def _side_by_side(
    studio: Studio, name: str, images: Pictures, latents: Float[np.ndarray, "n d"], report: dict[str, Any]
) -> None:
    painted = studio.paint(latents)
    originals = resized_nearest(images, *painted.shape[1:3])
    pairs = np.stack([originals, painted], 1).reshape(-1, *painted.shape[1:])
    studio.outputs.grid(name, pairs, 2 * max(1, round(math.sqrt(len(images) / 2))), report)


def _quality(originals: Pictures, painted: Pictures) -> dict[str, Any]:
    """PSNR of the mean squared error over these pictures, and of each, in 8 bits at the model's own size."""
    mean = float(np.mean([mse(a, b) for a, b in zip(painted, originals, strict=True)]))
    each = [round(psnr(a, b), 2) for a, b in zip(painted, originals, strict=True)]
    return {"psnr": 10 * math.log10(PEAK**2 / mean) if mean else math.inf, "psnr_each": each}
