"""Pictures of samples as files: enlarged PNG grids and looping GIFs, each with a JSON file that says what it is."""

import io
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from dfm import arrays, results
from dfm.errors import UserError
from dfm.files import write_atomically
from dfm.picture_files import save_picture
from dfm.sampling.painter import Pictures

VISIBLE_SIDE = 64  # pixels; smaller pictures are enlarged to about this
MAXIMUM_PIXELS = 100_000_000


def scale_for(scale: int | None, count: int, height: int, width: int) -> int:
    """How much pictures of this size are enlarged; UserError where all of them together would be too much.

    Args:
        scale: pixels a side for each pixel; None: enough to see pictures of a few pixels.
    """
    scale = scale or max(1, VISIBLE_SIDE // max(height, width))
    pixels = count * height * width * scale**2
    if pixels > MAXIMUM_PIXELS:
        raise UserError(
            f"{count} pictures of {height * scale} x {width * scale} are {pixels / 1e6:,.0f} megapixels, but "
            f"{MAXIMUM_PIXELS // 10**6} are the most in one file: take a smaller count, size or scale"
        )
    return scale


class Outputs:
    """Writes into one folder, and one JSON line on standard output for each file.

    Attributes:
        folder: made with its parents when missing.
        command: the words of the command line, for the JSON files.
        facts: what every report of this command begins with (checkpoint step, seed, ...).
        scale: pixels a side for each pixel of a picture; None: enough to see pictures of a few pixels.
    """

    def __init__(self, folder: str | Path, command: Sequence[str], facts: dict[str, Any], scale: int | None = None):
        self.folder, self.facts, self.scale = Path(folder), facts, scale
        self.command = results.portable_command(list(command))
        self._provenance: dict[str, Any] | None = None
        self._since = time.perf_counter()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: cannot be made ({error.strerror})") from None

    def grid(self, name: str, images: Pictures, columns: int, report: dict[str, Any]) -> Path:
        """<name>.png: the pictures row by row, `columns` in each."""
        path = self.folder / f"{name}.png"
        scale = self.scale_for(*images.shape[:3])
        save_picture(path, arrays.grid(enlarge(images, scale), columns, margin=max(1, scale // 2)))
        self._report(path, {"columns": columns, **self._size(images, scale), **report})
        return path

    def animation(self, name: str, images: Pictures, seconds: float, report: dict[str, Any]) -> Path:
        """<name>.gif: the pictures one after the other, without end, `seconds` for a round."""
        path = self.folder / f"{name}.gif"
        scale = self.scale_for(*images.shape[:3])
        write_atomically(path, encode_gif(enlarge(images, scale), seconds))
        self._report(path, {**self._size(images, scale), **report})
        return path

    def store_latents(
        self, name: str, latents: Float[np.ndarray, "n d"], index: Int[np.ndarray, " n"], height: int, width: int
    ) -> Path:
        """<name>.npz: latents, the numbers of their pictures, and the size of these."""
        path = self.folder / f"{name}.npz"
        buffer = io.BytesIO()
        np.savez(buffer, latents=latents, index=index, height=height, width=width)
        write_atomically(path, buffer.getvalue())
        return path

    def scale_for(self, count: int, height: int, width: int) -> int:
        """See the function of this name."""
        return scale_for(self.scale, count, height, width)

    def _size(self, images: Pictures, scale: int) -> dict[str, Any]:
        return {"count": len(images), "height": images.shape[1], "width": images.shape[2], "scale": scale}

    def _report(self, path: Path, report: dict[str, Any]) -> None:
        """The line on standard output, and beside the file the same with command, commit, hardware and versions."""
        self._provenance = self._provenance or results.provenance()
        now = time.perf_counter()
        line = {"what": path.stem, "file": str(path), **self.facts, **report, "seconds": round(now - self._since, 3)}
        self._since = now
        beside = {"schema": results.SCHEMA, "command": self.command, **line, "file": path.name, **self._provenance}
        write_atomically(path.with_suffix(".json"), (results.dump(beside) + "\n").encode())
        print(results.dump(line), flush=True)


def enlarge(images: Pictures, scale: int) -> Pictures:
    """Every pixel as a square of scale x scale pixels."""
    return images.repeat(scale, axis=1).repeat(scale, axis=2)


def resized_nearest(images: Pictures, height: int, width: int) -> Pictures:
    """Each new pixel is the old one that its centre lies in."""
    rows = (2 * np.arange(height) + 1) * images.shape[1] // (2 * height)
    columns = (2 * np.arange(width) + 1) * images.shape[2] // (2 * width)
    return images[:, rows][:, :, columns]


def square_columns(count: int) -> int:
    """Columns of a grid that is about as high as wide."""
    return max(1, math.ceil(math.sqrt(count)))


def encode_gif(frames: Pictures, seconds: float) -> bytes:
    """A GIF that repeats for ever; in colour, all frames share one palette, since a new one each would flicker."""
    milliseconds = max(20, round(1000 * seconds / len(frames) / 10) * 10)  # GIF counts hundredths; viewers slow below 2
    if frames.shape[-1] == 1:
        images = [Image.fromarray(frame[..., 0]) for frame in frames]
    else:
        images = _with_one_palette(list(frames))
    buffer = io.BytesIO()
    images[0].save(
        buffer,
        "GIF",
        save_all=True,
        append_images=images[1:],
        duration=milliseconds,
        loop=0,
        disposal=1,
        optimize=False,
    )
    return buffer.getvalue()


def _with_one_palette(frames: Sequence[np.ndarray]) -> list[Image.Image]:
    montage = Image.fromarray(np.concatenate(frames[:: max(1, len(frames) // 32)]))
    palette = montage.quantize(256, Image.Quantize.MEDIANCUT)
    return [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
