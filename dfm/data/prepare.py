"""python -m dfm.data.prepare NAME ...: fetches data sets and decodes them once into arrays that `load` maps.

Original files -> records of tensorflow-datasets (array_record) -> `<data_dir>/<name>/{train,test}-{images,labels}.npy`.
Where pictures differ in size they stay in the records, and only the labels become an array.
"""

import argparse
import contextlib
import io
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dfm.command_line import Parser, run_command
from dfm.data import download, originals, prepared, records
from dfm.data.datasets import READERS, check_known, default_data_dir, is_public, load, missing_split
from dfm.data.folder import PREFIX, refuse_damaged, split_roots
from dfm.errors import UserError
from dfm.progress import Progress

CHUNK = 1000  # records read at a time
SPLITS = ("train", "test")

DESCRIPTION = """Fetch data sets by name and decode them once into arrays that every run maps into memory.

mnist, fashion_mnist, kmnist, cifar10 and cifar100 are made from their original files. Without a network, put those into
DATA_DIR/downloads/manual/ under their own names; their checksums are verified. Data sets of tensorflow-datasets that
are prepared in DATA_DIR as array_record are used as they are. Others are left to tensorflow-datasets, which needs
TensorFlow for some of them. `digits` needs no preparation; of `folder:PATH` every
picture is read, and those that are damaged are named."""

EXAMPLES = """examples:
  python -m dfm.data.prepare mnist cifar10
  python -m dfm.data.prepare mnist --data_dir=/data/dfm
  DFM_DATA_DIR=/data/dfm python -m dfm.data.prepare fashion_mnist
  python -m dfm.data.prepare imagenet2012 --data_dir=/data/tensorflow_datasets
"""

MakeProgress = Callable[..., Progress]  # of total, label and unit


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command("dfm.data.prepare", run, arguments)


def run(arguments: Sequence[str] | None) -> int:
    parser = Parser(
        prog="python -m dfm.data.prepare",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="mnist, cifar10, ... or NAME/CONFIG")
    parser.add_argument(
        "--data_dir", type=Path, metavar="DATA_DIR", help="where to; default: $DFM_DATA_DIR, or ~/.cache/dfm/data"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars and no report")
    args = parser.parse_args(arguments)
    data_dir = args.data_dir.expanduser() if args.data_dir else default_data_dir()
    names = [name for name in args.names if name not in READERS and not name.startswith(PREFIX)]
    for name in names:
        check_known(name, data_dir)
    for name in args.names:
        if name.startswith(PREFIX):
            report = check_folder(name)
        else:
            report = prepare(name, data_dir, args.quiet) if name in names else f"{name}: needs no preparation"
        if not args.quiet:
            print(report)
    return 0


def check_folder(name: str) -> str:
    """Decodes every picture of folder:PATH; a line that says what there is.

    Raises:
        UserError: names all pictures that cannot be read.
    """
    sets = [load(name, split) for split in split_roots(Path(name.removeprefix(PREFIX)).expanduser())]
    refuse_damaged([line for dataset in sets for line in dataset.damaged()], sum(map(len, sets)))
    found = ", ".join(f"{dataset.split} {len(dataset):,} pictures" for dataset in sets)
    return f"{name}: {found}, all of them readable"


def prepare(name: str, data_dir: Path, quiet: bool = False) -> str:
    """Makes one data set ready for `load`; returns a line that says what there is."""
    progress = partial(Progress, quiet=quiet)
    have = [prepared.read_arrays(data_dir, name, split) is not None for split in SPLITS]
    builder = records.find_builder(data_dir, name) if not all(have) else None
    if all(have) or (any(have) and builder is None and not is_public(name)):
        return _report(name, data_dir)
    if builder is None and name not in originals.NAMES and not is_public(name):
        # a folder of one's own: tensorflow-datasets would answer with the names of all that it knows
        raise missing_split(name, SPLITS[0], data_dir)
    if builder is None:
        _make_records(name, data_dir, progress, quiet)
        builder = records.find_builder(data_dir, name)
        if builder is None:
            raise UserError(f"{name}: tensorflow-datasets has prepared nothing readable in {data_dir / name}")
    for split in SPLITS:
        _decode(builder, name, split, data_dir, progress)
    return _report(name, data_dir)


def _make_records(name: str, data_dir: Path, progress: MakeProgress, quiet: bool) -> None:
    from absl import logging

    logging.set_verbosity(logging.ERROR)  # warns of the very folder that is about to be filled
    if name in originals.NAMES:
        _make_from_originals(name, data_dir, progress)
        return
    import tensorflow_datasets as tfds

    if quiet:
        tfds.disable_progress_bar()
    with _explained(name, data_dir):
        builder = tfds.builder(name, data_dir=data_dir)
        download.check_connection(name, builder.url_infos or {}, data_dir / "downloads")
        builder.download_and_prepare(file_format="array_record")


def _make_from_originals(name: str, data_dir: Path, progress: MakeProgress) -> None:
    import tensorflow_datasets as tfds

    def each(items: Any, label: str) -> Iterator[Any]:
        with progress(len(items), label, "picture") as bar:
            yield from bar.over(items)

    manual = data_dir / "downloads" / "manual"
    builder = originals.builder_of(name, data_dir, each)
    download.fetch(builder.originals(), manual, lambda total, label: progress(total, label, "B", scale=True))
    tfds.disable_progress_bar()  # ours says it in one line
    with _explained(name, data_dir):
        builder.download_and_prepare(file_format="array_record")


@contextlib.contextmanager
def _explained(name: str, data_dir: Path):
    """What tensorflow-datasets raises, in one line, and nothing of what it prints: that is meant for notebooks."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if "No module named 'tensorflow'" in reason:
            reason = (
                f"needs TensorFlow for that; where it is installed, run: tfds build {name} --file_format=array_record "
                f"--data_dir={data_dir}   and then this command again"
            )
        elif found := re.search(r"downloaded to (.*), has wrong checksum", reason):
            reason = f"{found[1]} is not the original, its checksum differs; remove it"
        raise UserError(f"{name}: cannot be prepared: {reason}") from None


def _decode(builder: Any, name: str, split: str, data_dir: Path, progress: MakeProgress) -> None:
    """Turns the records of one split into arrays; there is nothing to do where they exist or the split does not."""
    part = records.split_of(builder, split)
    images_path = prepared.images_path(data_dir, name, split)
    labels_path = prepared.labels_path(data_dir, name, split)
    if part is None or images_path.exists():
        return
    source = records.Records(builder, part)
    if source.shape is None and labels_path.exists():
        return
    count = len(source)
    order = originals.file_order(part, count) if name in originals.NAMES else np.arange(count)
    with contextlib.ExitStack() as stack:
        # the stack unwinds from its end: labels are there before pictures, which say that a split is complete
        images = None
        if source.shape is not None:
            images = stack.enter_context(prepared.writing(images_path, (count, *source.shape)))
        labels = stack.enter_context(prepared.writing(labels_path, (count,), np.int32))
        bar = stack.enter_context(progress(count, f"{name} {split}: decoding", "picture"))
        for start in range(0, count, CHUNK):
            rows = range(start, min(start + CHUNK, count))
            places = order[start : rows.stop]
            data, labels[places] = source.read(rows)
            if images is not None:
                images[places] = source.decode(data, rows)
            bar.advance(len(rows))


def _report(name: str, data_dir: Path) -> str:
    parts = []
    for split in SPLITS:
        if found := prepared.read_arrays(data_dir, name, split):
            pictures, _ = found
            height, width, channels = pictures.array.shape[1:]
            parts.append(f"{split} {len(pictures):,} pictures of {height}x{width}x{channels}")
        elif prepared.labels_path(data_dir, name, split).exists():
            count = len(np.load(prepared.labels_path(data_dir, name, split), mmap_mode="r"))
            parts.append(f"{split} {count:,} pictures of several sizes")
        else:
            parts.append(f"no {split} split")
    return f"{name}: {', '.join(parts)} in {data_dir / name}"


if __name__ == "__main__":
    sys.exit(main())
