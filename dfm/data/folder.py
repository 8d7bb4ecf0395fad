"""`folder:PATH`: pictures in a folder and its sub-folders, decoded whenever a batch wants them."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from dfm.data.dataset import DecodedPictures, Shape, decode_side_by_side
from dfm.data.fingerprint import Fingerprint, sha256, spaced
from dfm.errors import UserError
from dfm.picture_files import PICTURE_SUFFIXES, READABLE_FORMATS, load_picture

PREFIX = "folder:"
GREY_MODES = ("1", "L", "LA", "La")
MOST_NAMED = 20  # damaged pictures in one message
# decoded once before any work, in seconds; of more, `dfm.data.prepare folder:` does
CHECKED_PICTURES = 20_000
QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that swap height and width


class FolderPictures(DecodedPictures):
    """Picture files; grey ones among coloured ones become coloured."""

    def __init__(self, root: Path, paths: list[Path], shapes: list[Shape], channels: int):
        sizes = {shape[:2] for shape in shapes}
        self.root, self.paths, self.shapes, self.channels = root, paths, shapes, channels
        self.shape = (*sizes.pop(), channels) if len(sizes) == 1 else None
        if grey := sum(shape[2] < channels for shape in shapes):
            self.note = f"{root}: {grey:,} of {len(paths):,} pictures are grey and are read as RGB, like the others"

    def __len__(self) -> int:
        return len(self.paths)

    def picture(self, row: int) -> np.ndarray:
        picture = load_picture(self.paths[row])
        if picture.shape[:2] != self.shapes[row][:2]:
            size, expected = ("{}x{}".format(*shape[:2]) for shape in (picture.shape, self.shapes[row]))
            raise UserError(f"{self.paths[row]}: is {size} pixels, but {expected} was read at first; save it anew")
        return np.repeat(picture, 3, axis=2) if picture.shape[2] < self.channels else picture

    def fingerprint(self, rows: np.ndarray | None) -> Fingerprint:
        paths = self.paths if rows is None else [self.paths[row] for row in rows]
        names = sha256(f"{path.relative_to(self.root).as_posix()}\0".encode() for path in paths)
        try:
            sizes = [path.stat().st_size for path in paths]
            read = (paths[i].read_bytes() for i in spaced(len(paths), sum(sizes)))
            return {"names": names, "contents": sha256([np.array(sizes, np.int64).data, *read])}
        except OSError as error:
            raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from None


def read_folder(name: str, split: str, data_dir: Path) -> tuple[FolderPictures, np.ndarray, tuple[str, ...]]:
    """The pictures of PATH/train or PATH/test; without such sub-folders all of PATH is `train`.

    The names of the sub-folders there, sorted, are the labels 0, 1, ... (the same for train and test); without
    sub-folders every label is 0. Pictures deeper down belong to the sub-folder they are in.
    """
    root = Path(name.removeprefix(PREFIX)).expanduser()
    splits = split_roots(root)
    if split not in splits:
        raise UserError(f"{root}: has no sub-folder '{split}', so there is no {split} split")
    found = {part: list(picture_paths(folder)) for part, folder in splits.items()}
    if not found[split]:
        raise UserError(f"{splits[split]}: no pictures in this folder (known: {' '.join(PICTURE_SUFFIXES)})")
    classes = {part: [_class_of(path, splits[part]) for path in paths] for part, paths in found.items()}
    names = sorted({label for labels in classes.values() for label in labels})
    if "" in names and len(names) > 1:
        raise UserError(
            f"{root}: some pictures are in sub-folders, whose names would be the labels, and some are in none; "
            "move them so that all or none are"
        )
    numbers = {label: number for number, label in enumerate(names)}
    labels = np.array([numbers[label] for label in classes[split]], np.int32)
    # of all splits: train and test must agree in their channels
    shapes = {part: shapes_of(paths) for part, paths in found.items()}
    channels = max(shape[2] for part in shapes.values() for shape in part)
    pictures = FolderPictures(splits[split], found[split], shapes[split], channels)
    return pictures, labels, () if names == [""] else tuple(names)


def split_roots(root: Path) -> dict[str, Path]:
    """{"train": ..., "test": ...}, those sub-folders that exist; without any the whole folder as `train`."""
    if not root.is_dir():
        raise UserError(f"{root}: {'is a file, not a folder' if root.exists() else 'no such folder'}")
    found = {split: root / split for split in ("train", "test") if (root / split).is_dir()}
    return found or {"train": root}


def picture_paths(root: Path) -> Iterator[Path]:
    """Pictures below a folder in sorted order; hidden files and folders are left out, links are followed."""
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        # a link to a folder above would lead round in circles
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real in seen:
            continue
        seen.add(real)
        for file in sorted(files):
            if not file.startswith(".") and file.lower().endswith(PICTURE_SUFFIXES):
                yield Path(folder, file)


def _class_of(path: Path, root: Path) -> str:
    return path.relative_to(root).parts[0] if path.parent != root else ""


def shapes_of(paths: list[Path]) -> list[Shape]:
    """(height, width, channels) of every file; UserError that names all which are no pictures."""
    found = decode_side_by_side(_shape_or_reason, paths)
    refuse_damaged([shape for shape in found if isinstance(shape, str)], len(paths))
    return found


def refuse_damaged(reasons: list[str], count: int) -> None:
    """UserError with a line on each damaged picture, where there are any."""
    if reasons:
        more = f"; and {len(reasons) - MOST_NAMED} more" if len(reasons) > MOST_NAMED else ""
        many = f"{len(reasons)} of {count:,} pictures cannot be read: " if len(reasons) > 1 else ""
        raise UserError(many + "; ".join(reasons[:MOST_NAMED]) + more)


def _shape_or_reason(path: Path) -> Shape | str:
    try:
        return _shape_of(path)
    except UserError as error:
        return str(error)


def _shape_of(path: Path) -> Shape:
    """(height, width, channels) from a file's first bytes."""
    try:
        with Image.open(path, formats=READABLE_FORMATS) as image:
            # PNG's EXIF may come last: Pillow would decode the picture to look for it
            has_exif = image.format != "PNG" or "exif" in image.info
            turned = has_exif and image.getexif().get(0x0112) in QUARTER_TURNS
            height, width = (image.width, image.height) if turned else (image.height, image.width)
            return height, width, 1 if image.mode in GREY_MODES else 3
    except Exception:  # whatever Pillow's readers raise at damaged metadata; a damaged picture is named one call below
        return _shape_of_doubtful(path)


def _shape_of_doubtful(path: Path) -> Shape:
    """Where Pillow stumbles at the first bytes: reads all, which copes with damaged metadata, or says what is wrong."""
    height, width, channels = load_picture(path).shape
    return height, width, channels
