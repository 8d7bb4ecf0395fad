"""Preparation: small originals through tensorflow-datasets' own machinery, downloads, and faults without a network."""

import gzip
import http.server
import io
import os
import socket
import struct
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from dfm import progress
from dfm.data import download, load, originals
from dfm.data.prepare import main, prepare
from dfm.errors import UserError

MNIST_DIR = Path(os.environ.get("DFM_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data") / "mnist"


def idx(array) -> bytes:
    header = struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape)
    return gzip.compress(header + array.tobytes())


def mnist_files(counts) -> tuple[dict[str, bytes], dict[str, np.ndarray]]:
    """Small originals by filename, and what they hold."""
    random = np.random.default_rng(0)
    files, arrays = {}, {}
    for (split, stem), count in zip(originals.MNIST_STEMS.items(), counts, strict=True):
        arrays[f"{split}-images"] = random.integers(0, 256, (count, 28, 28, 1), np.uint8)
        arrays[f"{split}-labels"] = random.integers(0, 10, count, np.uint8)
        files[f"{stem}-images-idx3-ubyte.gz"] = idx(arrays[f"{split}-images"][..., 0])
        files[f"{stem}-labels-idx1-ubyte.gz"] = idx(arrays[f"{split}-labels"])
    return files, arrays


def cifar_archive(info, count, leave_out=()) -> tuple[bytes, dict[str, np.ndarray]]:
    """A small .tar.gz in the layout of the binary version, and what it holds."""
    random = np.random.default_rng(1)
    members = {
        name: "\n".join(
            f"name {i}"
            for i in range(10 if key == "label" and len(info.label_keys) == 1 else 100 if key == "label" else 20)
        )
        + "\n\n"
        for key, name in zip(info.label_keys, info.label_files, strict=True)
    }
    data = {name: text.encode() for name, text in members.items()}
    arrays = {}
    for split, names in (("train", info.train_files), ("test", info.test_files)):
        images = random.integers(0, 256, (len(names) * count, 32, 32, 3), np.uint8)
        labels = random.integers(0, 10, (len(images), len(info.label_keys)), np.uint8)
        arrays |= {f"{split}-images": images, f"{split}-labels": labels[:, -1]}  # the fine label is the last
        for i, name in enumerate(names):
            part = slice(i * count, (i + 1) * count)
            planes = images[part].transpose(0, 3, 1, 2).reshape(count, -1)
            data[name] = np.concatenate([labels[part], planes], axis=1).tobytes()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in data.items():
            if name not in leave_out:
                member = tarfile.TarInfo(info.prefix + name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue(), arrays


@pytest.fixture
def manual(tmp_path):
    folder = tmp_path / "downloads" / "manual"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def register(monkeypatch, tmp_path):
    """register({url: bytes}): the checksums of small originals take the place of the real ones."""
    from tensorflow_datasets.core.download import checksums

    real = checksums.get_all_url_infos()

    def register(contents):
        mine = {}
        for url, data in contents.items():
            path = tmp_path / url.rpartition("/")[2]
            path.write_bytes(data)
            mine[url] = checksums.compute_url_info(path)
            path.unlink()
        monkeypatch.setattr(checksums, "get_all_url_infos", lambda: {**real, **mine})

    return register


@pytest.fixture
def server(tmp_path):
    """A web server on this machine for the files of a folder; counts what was asked of it."""
    root = tmp_path / "served"
    root.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(root))

        def log_message(self, *_):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield root, f"http://127.0.0.1:{httpd.server_port}/"
    httpd.shutdown()
    httpd.server_close()


def assert_prepared(data_dir, name, arrays):
    for key, expected in arrays.items():
        found = np.load(data_dir / name / f"{key}.npy")
        assert found.shape == expected.shape and (found == expected).all(), key


def test_mnist_from_files_that_a_user_put_there(tmp_path, manual, register, capsys, monkeypatch):
    from tensorflow_datasets.image_classification import mnist

    monkeypatch.setattr(progress, "LINE_SECONDS", 0)

    files, arrays = mnist_files((23, 7))
    for name, data in files.items():
        (manual / name).write_bytes(data)
    register({mnist.MNIST.URL + name: data for name, data in files.items()})

    assert main(["mnist", "digits", f"--data_dir={tmp_path}"]) == 0
    report = capsys.readouterr()
    lines = [
        f"mnist: train 23 pictures of 28x28x1, test 7 pictures of 28x28x1 in {tmp_path / 'mnist'}",
        "digits: needs no preparation",
    ]
    assert report.out.splitlines() == lines
    assert "mnist train: decoding" in report.err
    assert_prepared(tmp_path, "mnist", arrays)
    assert len(load("mnist", "train+test", tmp_path)) == 30

    # the arrays are all it takes, and so are the records
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "mnist").iterdir()}
    assert main(["mnist", f"--data_dir={tmp_path}", "--quiet"]) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "mnist").iterdir()} == before
    assert capsys.readouterr() == ("", "")
    for path in [*(tmp_path / "mnist").glob("*.npy"), *manual.iterdir()]:
        path.unlink()
    assert main(["mnist", f"--data_dir={tmp_path}", "--quiet"]) == 0
    assert_prepared(tmp_path, "mnist", arrays)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_from_its_archive(tmp_path, manual, register, name):
    info = originals.builder_of(name, tmp_path, lambda items, text: items)._cifar_info
    data, arrays = cifar_archive(info, 4)
    (manual / f"{info.url.rpartition('/')[2]}").write_bytes(data)
    register({info.url: data})
    prepare(name, tmp_path, quiet=True)
    assert_prepared(tmp_path, name, arrays)

    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(next((tmp_path / name).glob("*/features.json")).parent)
    assert builder.info.features["label"].names[:2] == ["name 0", "name 1"]
    ids = {record["id"].decode() for record in builder.as_data_source("train")}
    assert ids == {f"train_{i:05d}" for i in range(len(arrays["train-labels"]))}


def test_originals_are_downloaded_and_checked(tmp_path, register, server, monkeypatch):
    from tensorflow_datasets.image_classification import mnist

    root, url = server
    monkeypatch.setattr(mnist.MNIST, "URL", url)
    files, arrays = mnist_files((5, 3))
    register({url + name: data for name, data in files.items()})
    damaged = "t10k-labels-idx1-ubyte.gz"
    for name, data in files.items():
        (root / name).write_bytes(data[:-1] if name == damaged else data)
    with pytest.raises(UserError, match="are not the expected file"):
        prepare("mnist", tmp_path, quiet=True)
    fetched = {path.name for path in (tmp_path / "downloads" / "manual").iterdir()}
    assert fetched == set(files) - {damaged}  # the sound ones stay, nothing half-written does

    (root / damaged).unlink()
    with pytest.raises(UserError, match="the server says 404"):
        prepare("mnist", tmp_path, quiet=True)
    (root / damaged).write_bytes(files[damaged])
    prepare("mnist", tmp_path, quiet=True)
    assert_prepared(tmp_path, "mnist", arrays)


def test_no_network_is_said_at_once(tmp_path, register, dead_url, monkeypatch, capsys):
    from tensorflow_datasets.image_classification import mnist

    monkeypatch.setattr(mnist.MNIST, "URL", dead_url)
    files, _ = mnist_files((5, 3))
    register({dead_url + name: data for name, data in files.items()})
    start = time.monotonic()
    assert main(["mnist", f"--data_dir={tmp_path}"]) == 2
    assert time.monotonic() - start < 10
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"dfm.data.prepare: cannot download {dead_url}train-images-idx3-ubyte.gz (no network, or")
    assert all(name in error for name in files) and str(tmp_path / "downloads" / "manual") in error


def test_a_server_that_stays_silent_is_given_up(tmp_path, monkeypatch):
    from types import SimpleNamespace

    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a.gz"
        start = time.monotonic()
        with pytest.raises(UserError, match=r"a.gz \(no answer in time\); without a network, put a.gz"):
            download.fetch({url: SimpleNamespace(filename="a.gz")}, tmp_path, progress=None)
        assert time.monotonic() - start < 5
    assert not list(tmp_path.iterdir())


def test_files_that_are_not_the_originals_are_refused(tmp_path, manual, register, capsys):
    from tensorflow_datasets.image_classification import mnist

    files, _ = mnist_files((5, 3))
    register({mnist.MNIST.URL + name: data for name, data in files.items()})
    for name, data in files.items():
        (manual / name).write_bytes(data)
    wrong = manual / "train-labels-idx1-ubyte.gz"
    wrong.write_bytes(b"something else")
    assert main(["mnist", f"--data_dir={tmp_path}", "--quiet"]) == 2
    assert capsys.readouterr().err == (
        f"dfm.data.prepare: mnist: cannot be prepared: {wrong} is not the original, its checksum differs; remove it\n"
    )
    assert not list((tmp_path / "mnist").iterdir())


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["mnist", f"--data_dir={tmp_path / 'file'}", "--quiet"]) == 2
    assert f"{tmp_path / 'file'}" in capsys.readouterr().err


def test_originals_are_parsed_with_care(tmp_path):
    images = np.zeros((2, 3, 4), np.uint8)
    sound = gzip.decompress(idx(images))
    assert originals.parse_idx(sound, originals.IMAGES_MAGIC, "x").shape == (2, 3, 4)
    for data, message in (
        (b"", "not an IDX file of pictures"),
        (sound[:10], "not an IDX file"),
        (gzip.decompress(idx(images[0, 0])), "not an IDX file of pictures"),
        (sound[:-1], "23 bytes where its header says"),
    ):
        with pytest.raises(UserError, match=message):
            originals.parse_idx(data, originals.IMAGES_MAGIC, "x")
    for data in (b"", b"123"):
        with pytest.raises(UserError, match="no whole number of 3073-byte records"):
            originals.parse_cifar(data, 1, "x")

    (tmp_path / "a.gz").write_bytes(idx(images)[:-9])
    (tmp_path / "b.gz").write_bytes(idx(np.zeros(3, np.uint8)))
    with pytest.raises(UserError, match="a.gz: damaged"):
        originals.read_mnist(tmp_path / "a.gz", tmp_path / "b.gz")
    (tmp_path / "a.gz").write_bytes(idx(images))
    with pytest.raises(UserError, match="3 labels for 2 pictures"):
        originals.read_mnist(tmp_path / "a.gz", tmp_path / "b.gz")


def test_damaged_archives_are_refused(tmp_path):
    info = originals.builder_of("cifar10", tmp_path, lambda items, text: items)._cifar_info
    path = tmp_path / "cifar.tar.gz"
    whole, _ = cifar_archive(info, 3)
    for data, message in (
        (whole[: len(whole) // 2], "damaged"),
        (b"no archive", "damaged"),
        (
            cifar_archive(info, 3, leave_out=("data_batch_2.bin", "batches.meta.txt"))[0],
            "does not hold data_batch_2.bin, batches.meta.txt",
        ),
    ):
        path.write_bytes(data)
        with pytest.raises(UserError, match=message):
            originals.read_cifar(path, info)


def test_arrays_of_ones_own_need_no_preparation(tmp_path):
    (tmp_path / "mine").mkdir()
    np.save(tmp_path / "mine" / "train-images.npy", np.zeros((3, 2, 2, 1), np.uint8))
    assert prepare("mine", tmp_path, quiet=True).startswith("mine: train 3 pictures of 2x2x1, no test split")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "the following arguments are required: NAME (see python -m dfm.data.prepare --help)"),
        (["mnits"], "unknown data set 'mnits'; did you mean 'mnist'?"),
        (["digits", "--fast"], "unrecognized arguments: --fast"),
    ],
)
def test_the_command_line_explains_itself(tmp_path, arguments, message, monkeypatch, capsys):
    monkeypatch.setenv("DFM_DATA_DIR", str(tmp_path))
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    shown = capsys.readouterr().out
    assert end.value.code == 0
    assert "python -m dfm.data.prepare mnist cifar10" in shown and "DATA_DIR/downloads/manual/" in shown


@pytest.mark.skipif(
    not MNIST_DIR.is_dir(), reason=f"no original MNIST files at {MNIST_DIR}; DFM_TEST_DATA names another folder"
)
def test_the_real_mnist(tmp_path, monkeypatch):
    """The test split alone, because packing all 70,000 takes seconds more: registered checksums, every pixel."""
    manual = tmp_path / "downloads" / "manual"
    manual.mkdir(parents=True)
    for path in MNIST_DIR.glob("t10k-*.gz"):
        (manual / path.name).symlink_to(path)
    monkeypatch.setattr(originals, "MNIST_STEMS", {"test": "t10k"})
    prepare("mnist", tmp_path, quiet=True)
    images = gzip.decompress((MNIST_DIR / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((MNIST_DIR / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    dataset = load("mnist", "test", tmp_path)
    assert dataset.shape == (28, 28, 1) and dataset.take(range(10_000)).tobytes() == images
    assert dataset.labels.astype(np.uint8).tobytes() == labels
