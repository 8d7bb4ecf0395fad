"""One page a data set: a line for each row, reconstructions of the same test pictures, then samples."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from dfm.array_files import read_arrays
from dfm.files import write_atomically

GAP = 2  # pixels between pictures
LABEL = 150  # pixels of a row's name
SMALLEST_SIDE = 28  # tiny pictures are enlarged to at least this


def draw_sheet(folder: Path, names: Sequence[str], path: Path) -> list[str]:
    """Writes the page of those rows whose pictures are there; returns their names."""
    pages = {name: read_arrays(folder / f"{name}.npz") for name in names if (folder / f"{name}.npz").exists()}
    if not pages:
        return []
    any_page = next(iter(pages.values()))
    with_originals = next((page for page in pages.values() if "originals" in page), None)
    columns = 0 if with_originals is None else len(with_originals["originals"])
    lines: list[tuple[str, Any, Any]] = []
    if with_originals is not None:
        lines.append(("test pictures", with_originals["originals"], None))
    for name, page in pages.items():
        lines.append((f"{name}\n{page['prior']}", page.get("reconstructions"), page["samples"]))
    side = any_page["samples"].shape[1]
    scale = -(-SMALLEST_SIDE // side)
    step = side * scale + GAP
    width = LABEL + (columns + len(any_page["samples"])) * step + 4 * GAP
    sheet = Image.new("RGB", (width, len(lines) * step), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (label, reconstructions, samples) in enumerate(lines):
        pen.multiline_text((4, row * step + 2), label, fill="black", spacing=1)
        for shown, first in ((reconstructions, LABEL), (samples, LABEL + columns * step + 4 * GAP)):
            for column, picture in enumerate(() if shown is None else shown):
                sheet.paste(_enlarged(picture, scale), (first + column * step, row * step))
    if any_page["samples"].shape[-1] == 1:
        sheet = sheet.convert("L")
    stream = io.BytesIO()
    sheet.save(stream, "PNG", optimize=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, stream.getvalue())
    return list(pages)


def _enlarged(picture: np.ndarray, scale: int) -> Image.Image:
    large = picture.repeat(scale, axis=0).repeat(scale, axis=1)
    return Image.fromarray(large[..., 0] if large.shape[-1] == 1 else large)
