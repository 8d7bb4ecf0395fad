"""`folder:PATH`: which pictures, which labels, which sizes, and what is refused."""

import os

import numpy as np
import pytest
from PIL import Image

from dfm.data import Batches, load
from dfm.errors import UserError


def save(path, grey=0, size=(6, 4), mode="RGB", **options):
    """A picture of one level, width x height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, grey if mode == "L" else (grey,) * 3).save(path, **options)


def levels(dataset):
    return [int(dataset.picture(i)[0, 0, 0]) for i in range(len(dataset))]


def refusal(path, split="train", **options):
    with pytest.raises(UserError) as caught:
        load(f"folder:{path}", split, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_flat_folder_has_no_labels(tmp_path):
    for name, grey in (("b.png", 2), ("a.png", 1), ("C.BMP", 0), (".hidden.png", 9), ("notes.txt", 0)):
        save(tmp_path / name, grey, format="PNG")
    dataset = load(f"folder:{tmp_path}")
    assert levels(dataset) == [0, 1, 2]  # sorted by name, capitals first
    assert dataset.labels.tolist() == [0, 0, 0] and dataset.label_names == ()
    assert dataset.shape == (4, 6, 3) and dataset.take([2, 0])[:, 0, 0, 0].tolist() == [2, 0]


def test_sub_folders_are_labels(tmp_path):
    for name, grey in (("dog/1.png", 10), ("cat/2.png", 20), ("cat/deeper/1.png", 30), (".cache/1.png", 0)):
        save(tmp_path / name, grey)
    dataset = load(f"folder:{tmp_path}")
    assert dataset.label_names == ("cat", "dog")
    assert levels(dataset) == [20, 30, 10] and dataset.labels.tolist() == [0, 0, 1]
    assert levels(load(f"folder:{tmp_path}", label=1)) == [10]


def test_train_and_test_are_splits_with_common_labels(tmp_path):
    for name, grey in (("train/b/1.png", 1), ("train/c/1.png", 2), ("test/a/1.png", 3), ("test/c/1.png", 4)):
        save(tmp_path / name, grey)
    train, test, both = (load(f"folder:{tmp_path}", split) for split in ("train", "test", "train+test"))
    assert train.label_names == test.label_names == ("a", "b", "c")
    assert (levels(train), train.labels.tolist()) == ([1, 2], [1, 2])
    assert (levels(test), test.labels.tolist()) == ([3, 4], [0, 2])
    assert (levels(both), both.labels.tolist()) == ([1, 2, 3, 4], [1, 2, 0, 2])
    assert both.take([3, 0])[:, 0, 0, 0].tolist() == [4, 1]


def test_without_splits_everything_is_train(tmp_path):
    save(tmp_path / "a.png")
    assert refusal(tmp_path, "test") == f"{tmp_path}: has no sub-folder 'test', so there is no test split"
    assert "no test split" in refusal(tmp_path, "train+test")


def test_sizes_may_differ(tmp_path):
    for i, size in enumerate([(6, 4), (20, 30), (9, 9), (8, 7)]):
        save(tmp_path / f"{i}.png", i, size)
    dataset = load(f"folder:{tmp_path}")
    assert dataset.shape is None and dataset.picture(1).shape == (30, 20, 3)
    batch = Batches(dataset, 4, 0, crop=(8, 8), flip=True).at(0)
    assert batch["image"].shape == (4, 8, 8, 3)
    assert (batch["image"][:, 3, 3, 0] == batch["index"]).all()


def test_sizes_are_those_of_the_upright_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "a.jpg", size=(6, 4), exif=exif)
    dataset = load(f"folder:{tmp_path}")
    assert dataset.shape == (6, 4, 3) == dataset.picture(0).shape


def test_a_turned_png_is_upright_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    save(tmp_path / "a.png", size=(6, 4), exif=exif)
    assert load(f"folder:{tmp_path}").take([0]).shape == (1, 6, 4, 3)


def test_grey_pictures_stay_grey_alone_and_become_colour_in_company(tmp_path):
    save(tmp_path / "grey" / "1.png", 5, mode="L")
    save(tmp_path / "mixed" / "1.png", 5, mode="L")
    save(tmp_path / "mixed" / "2.png", 6)
    save(tmp_path / "splits" / "train" / "1.png", 5, mode="L")
    save(tmp_path / "splits" / "test" / "1.png", 6)
    assert load(f"folder:{tmp_path / 'grey'}").shape == (4, 6, 1)
    mixed = load(f"folder:{tmp_path / 'mixed'}")
    assert mixed.shape == (4, 6, 3) and (mixed.take([0, 1]) == np.array([5, 6])[:, None, None, None]).all()
    assert load(f"folder:{tmp_path / 'splits'}", "train+test").shape == (4, 6, 3)
    assert mixed.notes == [f"{tmp_path / 'mixed'}: 1 of 2 pictures are grey and are read as RGB, like the others"]
    assert load(f"folder:{tmp_path / 'grey'}").notes == []


def test_links_are_followed_but_not_in_circles(tmp_path):
    save(tmp_path / "elsewhere" / "1.png", 1)
    (tmp_path / "data").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "data" / "one")
    os.symlink(tmp_path / "data", tmp_path / "elsewhere" / "back")
    assert levels(load(f"folder:{tmp_path / 'data'}")) == [1]


def test_the_home_folder_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save(tmp_path / "holiday" / "1.png", 1)
    assert levels(load("folder:~/holiday")) == [1]


def test_bad_folders_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    assert refusal(tmp_path / "nowhere") == f"{tmp_path / 'nowhere'}: no such folder"
    assert refusal(tmp_path / "file") == f"{tmp_path / 'file'}: is a file, not a folder"
    assert "no pictures in this folder" in refusal(tmp_path / "empty")
    save(tmp_path / "half" / "a.png")
    save(tmp_path / "half" / "cat" / "a.png")
    assert "some are in none" in refusal(tmp_path / "half")


def test_damaged_pictures_are_named(tmp_path):
    save(tmp_path / "a.png", size=(60, 40))
    (tmp_path / "b.png").write_bytes(b"no picture")
    assert f"{tmp_path / 'b.png'}: not a picture" in refusal(tmp_path)
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(data[: len(data) - 30])  # the header is sound: found when it is decoded
    dataset = load(f"folder:{tmp_path}")
    for failing in (lambda: dataset.take([0, 1]), lambda: next(Batches(dataset, 2, 0).prefetch(0, 1))):
        with pytest.raises(UserError, match="b.png: damaged or truncated"):
            failing()


def test_a_picture_that_changed_meanwhile_is_named(tmp_path):
    save(tmp_path / "a.png")
    dataset = load(f"folder:{tmp_path}")
    save(tmp_path / "a.png", size=(7, 9))
    with pytest.raises(UserError, match="a.png: is 9x7 pixels, but 4x6 was read at first"):
        dataset.take([0])
