"""Any data set that tensorflow-datasets knows, by a tiny one of our own: its records, and their faults."""

import io

import numpy as np
import pytest
from PIL import Image

from dfm.data import Batches, load
from dfm.data.prepare import main, prepare
from dfm.errors import UserError


@pytest.fixture(scope="module")
def tiny():
    """A builder of our own, known to tensorflow-datasets as `dfm_tiny`; `make(data_dir, ...)` prepares it."""
    import tensorflow_datasets as tfds

    class DfmTiny(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.10.0")
        shape, labelled, splits = (5, 4, 3), True, {"train": 6, "validation": 4}

        def _info(self):
            label = {"label": tfds.features.ClassLabel(num_classes=3)} if self.labelled else {}
            features = {"text": tfds.features.Text(), "image": tfds.features.Image(shape=self.shape), **label}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(count) for split, count in self.splits.items()}

        def _generate_examples(self, count):
            for i in range(count):
                buffer = io.BytesIO()
                size = (4, 5) if self.shape[0] else (4 + i, 5)
                Image.new("RGB", size, (i, 0, 0)).save(buffer, "PNG")
                buffer.seek(0)
                yield i, {"image": buffer, "text": "", **({"label": i % 3} if self.labelled else {})}

    return DfmTiny


@pytest.fixture
def variant(tiny, monkeypatch):
    def variant(**attributes):
        for key, value in attributes.items():
            monkeypatch.setattr(tiny, key, value)

    return variant


def test_any_data_set_of_tensorflow_datasets(tmp_path, tiny, variant):
    with pytest.raises(UserError, match="python -m dfm.data.prepare dfm_tiny"):
        load("dfm_tiny", "train", tmp_path)
    report = prepare("dfm_tiny", tmp_path, quiet=True)
    assert report.startswith("dfm_tiny: train 6 pictures of 5x4x3, test 4 pictures of 5x4x3 in")
    both = load("dfm_tiny", "train+test", tmp_path)
    levels = both.take(range(10))[:, 0, 0, 0]
    assert sorted(levels[:6]) == list(range(6)) and sorted(levels[6:]) == list(range(4))
    assert (both.labels == levels % 3).all()


def test_pictures_of_several_sizes_stay_in_the_records(tmp_path, tiny, variant):
    variant(shape=(None, None, 3))
    report = prepare("dfm_tiny", tmp_path, quiet=True)
    assert "train 6 pictures of several sizes, test 4 pictures of several sizes" in report
    arrays = {path.name for path in (tmp_path / "dfm_tiny").glob("*.npy")}
    assert arrays == {"test-labels.npy", "train-labels.npy"}
    dataset = load("dfm_tiny", "train+test", tmp_path)
    assert dataset.shape is None and len(dataset) == 10
    for i in range(10):
        picture = dataset.picture(i)
        assert picture.shape == (5, 4 + picture[0, 0, 0], 3) and dataset.labels[i] == picture[0, 0, 0] % 3
    batch = Batches(dataset, 5, 0, crop=(4, 4)).at(0)
    assert (batch["image"][:, 0, 0, 0] % 3 == batch["label"]).all()
    assert prepare("dfm_tiny", tmp_path, quiet=True) == report


def test_data_without_labels_or_test_split(tmp_path, tiny, variant):
    variant(labelled=False, splits={"train": 3})
    assert "train 3 pictures of 5x4x3, no test split" in prepare("dfm_tiny", tmp_path, quiet=True)
    assert load("dfm_tiny", "train", tmp_path).labels.tolist() == [0, 0, 0]
    variant(shape=(None, None, 3))
    prepare("dfm_tiny", tmp_path / "odd", quiet=True)
    np.save(tmp_path / "odd" / "dfm_tiny" / "test-labels.npy", np.zeros(2, np.int32))
    with pytest.raises(UserError, match="has no test split"):
        load("dfm_tiny", "test", tmp_path / "odd")
    np.save(tmp_path / "odd" / "dfm_tiny" / "train-labels.npy", np.zeros(2, np.int32))
    with pytest.raises(UserError, match="2 labels, but 3 pictures; prepare it again"):
        load("dfm_tiny", "train", tmp_path / "odd")


def test_records_are_found_without_their_code_and_the_newest_version_counts(tmp_path, tiny):
    tiny(data_dir=tmp_path).download_and_prepare(file_format="array_record")
    (tmp_path / "dfm_tiny").rename(tmp_path / "renamed")
    (tmp_path / "renamed" / "1.10.0").rename(tmp_path / "renamed" / "1.9.0")
    (tmp_path / "renamed" / "1.10.0").mkdir()
    (tmp_path / "renamed" / "1.10.0" / "dataset_info.json").write_text("{")
    with pytest.raises(UserError, match="1.10.0: damaged description"):
        prepare("renamed", tmp_path, quiet=True)
    (tmp_path / "renamed" / "1.10.0" / "dataset_info.json").unlink()
    assert "train 6 pictures" in prepare("renamed", tmp_path, quiet=True)
    with pytest.raises(UserError, match="did you mean 'renamed'"):
        load("renamde", "train", tmp_path)


def test_configs_are_asked_for_by_name(tmp_path, tiny):
    tiny(data_dir=tmp_path).download_and_prepare(file_format="array_record")
    for config in ("small", "large"):
        (tmp_path / "mine" / config).mkdir(parents=True)
    (tmp_path / "dfm_tiny" / "1.10.0").rename(tmp_path / "mine" / "small" / "1.0.0")
    assert "train 6 pictures" in prepare("mine/small", tmp_path, quiet=True)
    assert len(load("mine/small", "train", tmp_path)) == 6
    (tmp_path / "mine" / "large" / "1.0.0").mkdir()
    (tmp_path / "mine" / "large" / "1.0.0" / "dataset_info.json").write_text("{}")
    with pytest.raises(UserError, match="choose one: mine/large, mine/small"):
        prepare("mine", tmp_path, quiet=True)


def test_other_formats_and_damaged_records_are_refused(tmp_path, tiny):
    tiny(data_dir=tmp_path).download_and_prepare(file_format="array_record")
    folder = tmp_path / "dfm_tiny" / "1.10.0"
    description = (folder / "dataset_info.json").read_text()
    (folder / "dataset_info.json").write_text(description.replace("array_record", "tfrecord"))
    with pytest.raises(UserError, match="prepared as tfrecord, which takes TensorFlow to read"):
        prepare("dfm_tiny", tmp_path, quiet=True)


def test_damaged_pictures_in_records_are_counted_out(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(
        tiny,
        "_generate_examples",
        lambda self, count: iter(
            [(i, {"image": io.BytesIO(b"no picture"), "text": "", "label": 0}) for i in range(count)]
        ),
    )
    with pytest.raises(UserError, match=r"dfm_tiny, train: picture 0 is damaged \(UnidentifiedImageError\)"):
        prepare("dfm_tiny", tmp_path, quiet=True)
    assert not list((tmp_path / "dfm_tiny").glob("*.npy")) and not list((tmp_path / "dfm_tiny").glob(".dfm-*"))


def test_other_peoples_failures_become_one_line(tmp_path, tiny, monkeypatch, capsys):
    def fail(error):
        def _split_generators(self, dl_manager):
            raise error

        monkeypatch.setattr(tiny, "_split_generators", _split_generators)
        assert main(["dfm_tiny", f"--data_dir={tmp_path}"]) == 2
        output = capsys.readouterr()
        assert output.out == ""
        return output.err.splitlines()[-1]

    assert "tfds build dfm_tiny --file_format=array_record" in fail(ImportError("No module named 'tensorflow'"))
    assert "No module named 'pydub'" in fail(ImportError("No module named 'pydub'"))
    assert fail(AssertionError("place it\n by hand")).endswith("dfm_tiny: cannot be prepared: place it by hand")


def test_tensorflow_datasets_is_kept_from_trying_for_minutes(tmp_path, tiny, dead_url, monkeypatch, capsys):
    from tensorflow_datasets.core.download.checksums import UrlInfo

    monkeypatch.setattr(tiny, "url_infos", {dead_url + "a.zip": UrlInfo(1, "00", "a.zip")})
    assert main(["dfm_tiny", f"--data_dir={tmp_path}", "--quiet"]) == 2
    assert f"dfm_tiny: cannot download {dead_url}a.zip (no network" in capsys.readouterr().err
    (tmp_path / "downloads" / "manual").mkdir(parents=True)
    (tmp_path / "downloads" / "manual" / "a.zip").write_text("")
    assert main(["dfm_tiny", f"--data_dir={tmp_path}", "--quiet"]) == 0
