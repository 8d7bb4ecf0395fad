"""`load` and Dataset: digits, prepared arrays, splits, single classes, and every fault in one line."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from dfm.data import Batches, datasets, load, prepare
from dfm.data.datasets import default_data_dir
from dfm.data.prepared import writing
from dfm.errors import UserError


@pytest.fixture
def data_dir(tmp_path):
    """`small`: 12 train and 5 test pictures of 4x6x3 whose pixels are their number (test from 100 on)."""
    save(tmp_path, "small", "train", pictures(12), np.arange(12) % 3)
    save(tmp_path, "small", "test", pictures(5, first=100), np.arange(5) % 2)
    return tmp_path


def pictures(count, first=0, shape=(4, 6, 3)):
    return np.ones((count, *shape), np.uint8) * np.arange(first, first + count, dtype=np.uint8)[:, None, None, None]


def save(data_dir, name, split, images, labels=None):
    (data_dir / name).mkdir(exist_ok=True)
    np.save(data_dir / name / f"{split}-images.npy", images)
    if labels is not None:
        np.save(data_dir / name / f"{split}-labels.npy", labels)


def refusal(*arguments, **options) -> str:
    with pytest.raises(UserError) as caught:
        load(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_digits_are_scikit_learns(tmp_path):
    train, test = load("digits", "train", tmp_path), load("digits", "test", tmp_path)
    assert (len(train), len(test), train.shape, test.shape) == (1500, 297, (8, 8, 1), (8, 8, 1))
    theirs = load_digits()
    expected = [[[int(255 * value / 16 + 0.5) for value in row] for row in image] for image in theirs.images[1498:1502]]
    ours = np.concatenate([train.take([1498, 1499]), test.take([0, 1])])[..., 0]
    assert ours.dtype == np.uint8 and ours.tolist() == expected
    assert np.concatenate([train.labels, test.labels]).tolist() == theirs.target.tolist()
    assert train.take(range(1500)).max() == 255


def test_arrays_are_mapped_not_read(data_dir):
    dataset = load("small", "train", data_dir)
    assert (dataset.name, dataset.split, len(dataset), dataset.shape) == ("small", "train", 12, (4, 6, 3))
    assert dataset.labels.dtype == np.int32 and dataset.labels.tolist() == [0, 1, 2] * 4
    assert dataset.take(np.array([3, 3, 11]))[:, 0, 0, 0].tolist() == [3, 3, 11]
    file = np.load(data_dir / "small" / "train-images.npy", mmap_mode="r+")
    file[3] = 200  # what is read is what the file holds now
    assert dataset.take(np.array([3, 11]))[:, 0, 0, 0].tolist() == [200, 11]
    assert dataset.picture(7).shape == (4, 6, 3) and (dataset.picture(7) == 7).all()
    assert (dataset.picture(-1) == 11).all()
    for outside in (12, -13):
        with pytest.raises(IndexError):
            dataset.picture(outside)
        with pytest.raises(IndexError):
            dataset.take([outside])


def test_the_environment_names_the_data_folder(data_dir, monkeypatch):
    monkeypatch.setenv("DFM_DATA_DIR", str(data_dir))
    assert len(load("small", "test")) == 5
    monkeypatch.delenv("DFM_DATA_DIR")
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(default_data_dir()) == "/home/someone/.cache/dfm/data"


def test_both_splits_follow_each_other(data_dir):
    both = load("small", "train+test", data_dir)
    assert (len(both), both.shape) == (17, (4, 6, 3))
    expected = [*range(12), *range(100, 105)]
    assert both.take(range(17))[:, 0, 0, 0].tolist() == expected
    assert [both.picture(i)[0, 0, 0] for i in range(17)] == expected
    assert both.take([16, 0, 12])[:, 0, 0, 0].tolist() == [104, 0, 100]
    assert both.labels.tolist() == [*([0, 1, 2] * 4), 0, 1, 0, 1, 0]
    with pytest.raises(IndexError):
        both.take([17])


def test_a_single_class(data_dir):
    ones = load("small", "train+test", data_dir, label=1)
    assert ones.take(range(len(ones)))[:, 0, 0, 0].tolist() == [1, 4, 7, 10, 101, 103]
    assert [ones.picture(i)[0, 0, 0] for i in (0, -1)] == [1, 103]
    assert set(ones.labels.tolist()) == {1} and len(ones) == 6
    assert len(load("small", "train", data_dir, label=-1)) == 12
    assert len(ones.of_label(1)) == 6
    batch = Batches(ones, 3, 0).at(1)
    assert (ones.take(batch["index"]) == batch["image"]).all()
    assert refusal("small", "test", data_dir, 7) == "small: no picture of test has label 7 (labels: 0, 1)"


def test_missing_labels_are_zeros(data_dir):
    save(data_dir, "bare", "train", pictures(3))
    assert load("bare", "train", data_dir).labels.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "images, labels, message",
    [
        (np.zeros((3, 4, 4, 1), np.float32), None, "holds float32 [3, 4, 4, 1]; pictures are uint8 [N, height, width"),
        (np.zeros((3, 4, 4), np.uint8), None, "holds uint8 [3, 4, 4]; pictures are"),
        (np.zeros((3, 1, 4, 4), np.uint8), None, "holds uint8 [3, 1, 4, 4]; pictures are"),
        (np.zeros((0, 4, 4, 1), np.uint8), None, "holds no picture (uint8 [0, 4, 4, 1])"),
        (np.array([{}], object), None, "damaged, or not a .npy file of numbers"),
        (pictures(3), np.zeros(4, np.int64), "4 labels, but 3 pictures"),
        (pictures(3), np.zeros((3, 10), np.uint8), "holds uint8 [3, 10]; labels are integers [N]"),
        (pictures(3), np.zeros(3), "holds float64 [3]; labels are integers [N]"),
    ],
)
def test_ill_shaped_arrays_are_refused(tmp_path, images, labels, message):
    save(tmp_path, "ill", "train", images, labels)
    text = refusal("ill", "train", tmp_path)
    assert message in text and str(tmp_path / "ill" / "train-") in text


@pytest.mark.parametrize("damage", ["empty", "one byte less", "header alone", "other bytes in front"])
def test_damaged_arrays_are_refused(data_dir, damage):
    kept = {"empty": slice(0), "one byte less": slice(-1), "header alone": slice(40)}.get(damage, slice(None))
    front = b"PK" if damage == "other bytes in front" else b""
    for kind in ("images", "labels"):
        path = data_dir / "small" / f"train-{kind}.npy"
        sound = path.read_bytes()
        path.write_bytes(front + sound[kept])
        assert str(path) in refusal("small", "train", data_dir)
        path.write_bytes(sound)


def test_an_archive_in_place_of_an_array_is_refused(tmp_path):
    (tmp_path / "ill").mkdir()
    with open(tmp_path / "ill" / "train-images.npy", "wb") as file:
        np.savez(file, images=pictures(3))
    assert "an .npz archive" in refusal("ill", "train", tmp_path)


def test_splits_of_unlike_channels_are_refused(data_dir):
    save(data_dir, "small", "test", pictures(5, shape=(4, 6, 1)))
    assert "grey pictures in one split, colour in another" in refusal("small", "train+test", data_dir)


def test_splits_of_unlike_sizes_have_no_common_shape(data_dir):
    save(data_dir, "small", "test", pictures(5, 100, shape=(5, 5, 3)))
    both = load("small", "train+test", data_dir)
    assert both.shape is None and both.picture(12).shape == (5, 5, 3)
    assert Batches(both, 8, 0, crop=(3, 3)).at(0)["image"].shape == (8, 3, 3, 3)


def test_what_is_not_prepared_names_the_command_and_the_folder(tmp_path):
    expected = f"mnist, test: not prepared in {tmp_path}; run: python -m dfm.data.prepare mnist --data_dir={tmp_path}"
    assert refusal("mnist", "test", tmp_path) == expected


@pytest.mark.parametrize(
    "name, message",
    [
        ("mnits", "did you mean 'mnist'?"),
        ("cifar-10", "did you mean 'cifar10'?"),
        ("smal", "did you mean 'small'?"),
        ("stanford_dog", "did you mean 'stanford_dogs'?"),
        ("qqqqq", "known: digits, mnist, cifar10, imagenet2012, folder:PATH"),
        ("", "unknown data set ''"),
        ("../small", "unknown data set"),
    ],
)
def test_unknown_names_are_told_the_nearest(data_dir, name, message):
    assert message in refusal(name, "train", data_dir)


def test_a_path_is_told_about_folders(data_dir):
    assert f"say folder:{data_dir}" in refusal(str(data_dir), "train", data_dir)


def test_unknown_splits_are_refused(data_dir):
    assert refusal("small", "valid", data_dir) == "unknown split 'valid' (known: train, test, train+test)"


def test_an_array_appears_when_it_is_complete_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "train-images.npy"
    with pytest.raises(KeyboardInterrupt), writing(path, (2, 3)) as array:
        array[0] = 1
        raise KeyboardInterrupt
    assert list(path.parent.iterdir()) == []
    with writing(path, (2, 3)) as array:
        array[:] = 7
        assert not path.exists()
    assert np.load(path).tolist() == [[7, 7, 7], [7, 7, 7]] and len(list(path.parent.iterdir())) == 1


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "new").write_text("")
    with pytest.raises(UserError, match="cannot be written"), writing(tmp_path / "new" / "train-images.npy", (2,)):
        pass


def test_arrays_of_ones_own_under_another_name_are_told_by_the_name_they_need(data_dir, capsys):
    (data_dir / "mine").mkdir()
    np.save(data_dir / "mine" / "images.npy", pictures(3))
    wanted = data_dir / "mine" / "train-images.npy"
    message = f"mine: has no train split ({wanted}: no such file)"
    assert refusal("mine", "train", data_dir) == message
    assert prepare.main(["mine", f"--data_dir={data_dir}"]) == 2
    assert capsys.readouterr().err == f"dfm.data.prepare: {message}\n"


def test_a_reader_by_name_needs_no_preparation(monkeypatch, tmp_path, capsys):
    reader = lambda name, split, data_dir: (datasets.ArrayPictures(pictures(4)), np.arange(4), ())  # noqa: E731
    monkeypatch.setitem(datasets.READERS, "fours", reader)
    assert load("fours", "train+test", tmp_path).labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert prepare.main(["fours", f"--data_dir={tmp_path}"]) == 0
    assert capsys.readouterr().out == "fours: needs no preparation\n"
