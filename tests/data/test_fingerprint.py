import numpy as np

from dfm.data import fingerprint, load
from dfm.data.dataset import ArrayPictures, Dataset
from dfm.picture_files import save_picture


def of_arrays(images, labels=None):
    return Dataset("mine", "train", [ArrayPictures(images)], np.zeros(len(images), int) if labels is None else labels)


def test_every_pixel_order_and_label_counts():
    images = np.random.default_rng(0).integers(0, 256, (30, 4, 5, 1), dtype=np.uint8)
    before = of_arrays(images).fingerprint()
    assert before == of_arrays(images.copy()).fingerprint() and before["count"] == 30
    other = images.copy()
    other[17, 2, 3] ^= 1
    assert fingerprint.differences(before, of_arrays(other).fingerprint()) == ["the pictures themselves"]
    assert fingerprint.differences(before, of_arrays(images[::-1].copy()).fingerprint()) == ["the pictures themselves"]
    assert fingerprint.differences(before, of_arrays(images, np.ones(30, int)).fingerprint()) == ["the labels"]
    assert fingerprint.differences(before, of_arrays(images[1:]).fingerprint()) == ["30 pictures then, 29 now"]
    assert fingerprint.differences({}, before) == []  # a run older than fingerprints


def test_one_class_is_identified_by_its_own_pictures():
    images = np.random.default_rng(0).integers(0, 256, (30, 4, 5, 1), dtype=np.uint8)
    labels = np.arange(30) % 3
    before = of_arrays(images, labels).of_label(1).fingerprint()
    images[2] ^= 1  # of class 2
    assert of_arrays(images, labels).of_label(1).fingerprint() == before
    images[4] ^= 1
    assert of_arrays(images, labels).of_label(1).fingerprint() != before


def test_of_many_bytes_evenly_spaced_pictures_are_read(monkeypatch):
    images = np.zeros((100, 4, 5, 1), np.uint8)
    monkeypatch.setattr(fingerprint, "HASHED_BYTES", 10 * 20)
    assert list(fingerprint.spaced(100, images.nbytes)) == list(range(0, 100, 10))
    before = of_arrays(images).fingerprint()
    images[55] = 1
    assert of_arrays(images).fingerprint() == before
    images[50] = 1
    assert of_arrays(images).fingerprint() != before


def test_files_are_identified_by_name_and_contents_wherever_the_folder_is(tmp_path):
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        for name in "ab":
            save_picture(tmp_path / place / f"{name}.png", np.full((8, 8, 1), ord(name), np.uint8))
    here, there = (load(f"folder:{tmp_path / place}").fingerprint() for place in ("here", "there"))
    assert here == there and set(here) == {"count", "labels", "names", "contents"}
    (tmp_path / "there" / "b.png").rename(tmp_path / "there" / "c.png")
    renamed = load(f"folder:{tmp_path / 'there'}").fingerprint()
    assert fingerprint.differences(here, renamed) == ["the names of pictures"]
