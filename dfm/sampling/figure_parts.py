"""What the figures share: words for people who wait, latents, pictures as far as a file holds them."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from dfm.data import Dataset
from dfm.errors import UserError
from dfm.progress import Progress
from dfm.sampling.fitted_priors import stored_or_fitted
from dfm.sampling.inversion import STARTS, STEPS, Inversion, invert
from dfm.sampling.outputs import Outputs
from dfm.sampling.painter import Labels, Painter, Pictures
from dfm.sampling.run_data import ENCODER, INVERSION, RunData

Latents = Float[np.ndarray, "n d"]


@dataclasses.dataclass(frozen=True)
class Notes:
    """What people who wait are told: `say` gets a line, and bars are shown unless `quiet`."""

    say: Callable[[str], None] = lambda line: None
    quiet: bool = True


@dataclasses.dataclass(frozen=True)
class Search:
    """How latents of pictures are found where there is no encoder; see `inversion.invert`."""

    steps: int = STEPS
    starts: int = STARTS
    optimizer: str = "adam"


UNHEARD, USUAL_SEARCH = Notes(), Search()


def drawn(
    data: RunData, painter: Painter, prior: str, count: int, seed: int, temperature: float, notes: Notes, labels: Labels
) -> Latents:
    """Latents of samples 0 ... count - 1."""
    fitted = stored_or_fitted(data, prior, notes.say, notes.quiet)
    batches = painter.latent_batches(fitted, seed, 0, count, temperature, labels)
    return np.concatenate([np.asarray(batch) for batch in batches])[:count]


def paint_all(painter: Painter, outputs: Outputs, latents: Latents, notes: Notes, labels: Labels) -> Pictures:
    """Pictures of the painter's size, as far as they fit in one file."""
    outputs.scale_for(len(latents), painter.height, painter.width)
    images: list[Pictures] = []
    with Progress(len(latents), "decoding", "picture", quiet=notes.quiet) as progress:
        for batch in painter.paint_pieces(latents, labels):
            images.append(batch)
            progress.advance(len(batch))
    return np.concatenate(images)


def named_ends(start_picture: int | None, end_picture: int | None) -> list[int] | None:
    """The test pictures that an interpolation lies between; None where neither is named.

    Raises:
        UserError: one of them is missing.
    """
    if start_picture is not None and end_picture is not None:
        return [start_picture, end_picture]
    if start_picture is not None or end_picture is not None:
        raise UserError("an interpolation between two test pictures needs both its ends")
    return None


def reconstructed(data: RunData) -> tuple[Dataset, str, str]:
    """The pictures to show beside their reconstructions: those of the training of a table, test pictures of an encoder.

    Returns:
        The data set; "train" or "test"; and a note where an encoder has no test pictures, otherwise "".
    """
    if data.latents_by(of_training=True) != ENCODER:
        return data.train, "train", ""
    try:
        return data.test, "test", ""
    except UserError as error:  # a folder of pictures need not have a test split
        return data.train, "train", f"{error}; reconstructing pictures of the training instead"


def latents_of_test(data: RunData, examples: Int[np.ndarray, " n"], search: Search, notes: Notes) -> Latents:
    """By the encoder, or by inversion where there is none."""
    originals = data.pictures(data.test, examples)
    if data.latents_by(of_training=False) == INVERSION:
        return inverted(data, originals, search, notes).latents
    return data.painter.encode(originals, data.test.labels[examples])


def inverted(data: RunData, originals: Pictures, search: Search, notes: Notes) -> Inversion:
    with Progress(None, "inverting", "step", quiet=notes.quiet) as progress:

        def report(done: int, total: int, psnr: float) -> None:
            progress.reach(done, total, "" if math.isnan(psnr) else f"PSNR {psnr:.2f} dB")

        return invert(data, originals, **dataclasses.asdict(search), progress=report)
