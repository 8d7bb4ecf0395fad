"""`dfm compare`: an original and files of it, .dfm or of any picture format, as one page."""

from collections.abc import Sequence
from pathlib import Path

from dfm.codec.command.compare_page import Rival, page
from dfm.codec.command.decode import read_file
from dfm.errors import UserError
from dfm.files import check_writable, refuse_same_file, write_atomically
from dfm.picture_files import Picture, load_picture


def compare(original: str, files: Sequence[str], output: str, background: str | None = None) -> None:
    """Writes the page.

    Args:
        original: a picture.
        files: .dfm files and pictures of the original's size.
        output: the page; "-" is standard output.
        background: colour behind transparent pictures.

    Raises:
        UserError: a file that cannot be read or shows another size, or that the page would replace.
    """
    from dfm.metrics.picture_quality import psnr

    check_writable(output)
    refuse_same_file(output, [original, *files])
    picture = load_picture(original, background)
    rivals = [Rival(Path(original).name, len(read_file(original)), picture, None)]
    for path in files:
        data = read_file(path)
        shown = _picture(path, data, background)
        if shown.shape[:2] != picture.shape[:2]:
            size, expected = (f"{each.shape[1]} x {each.shape[0]}" for each in (shown, picture))
            raise UserError(f"{path}: {size} pixels, and {original} has {expected}")
        channels = max(shown.shape[-1], picture.shape[-1])
        decibels = psnr(_with_channels(shown, channels), _with_channels(picture, channels))
        rivals.append(Rival(Path(path).name, len(data), shown, decibels))
    write_atomically(output, page(rivals).encode())


def _picture(path: str, data: bytes, background: str | None) -> Picture:
    from dfm import codec
    from dfm.codec.container import MAGIC

    if not data.startswith(MAGIC):
        return load_picture(path, background)
    try:
        return codec.decode(data)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _with_channels(picture: Picture, channels: int) -> Picture:
    """Grey as colour, where the other picture is in colour."""
    return picture.repeat(channels // picture.shape[-1], -1)
