import numpy as np
import pytest
import tiny_runs
from PIL import Image

from dfm.errors import UserError
from dfm.evaluation import sources
from dfm.evaluation.models import check_finite_parameters
from dfm.evaluation.protocols import pad_to_32, stretch
from dfm.evaluation.references import Statistics, open_reference
from dfm.evaluation.sources import ArraySource, SampleSource, Subset, Transformed, open_source
from dfm.priors.gaussian import Normal
from dfm.sampling import RunData


def random_pictures(count, shape=(8, 8, 1), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def all_of(source):
    return np.concatenate(list(source.batches(0, source.count)))


def write_folder(path, images, suffix=".png"):
    path.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(path / f"{number:03d}{suffix}")
    return path


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(sources, "CHUNK", 5)


@pytest.mark.parametrize("shape", [(8, 8, 1), (6, 9, 3)])
def test_folder_and_npz_give_the_same_pictures(tmp_path, shape):
    images = random_pictures(12, shape)
    write_folder(tmp_path / "pictures", images)
    np.savez(tmp_path / "pictures.npz", images=images)
    for spec in ("pictures", "pictures.npz"):
        source = open_source(str(tmp_path / spec))
        assert (source.count, source.shape, source.warnings) == (12, shape, [])
        np.testing.assert_array_equal(all_of(source), images)
        np.testing.assert_array_equal(np.concatenate(list(source.batches(3, 10))), images[3:10])


def test_grey_npz_may_lack_its_channel(tmp_path):
    np.savez(tmp_path / "grey.npz", images=random_pictures(3)[..., 0])
    assert open_source(str(tmp_path / "grey.npz")).shape == (8, 8, 1)


@pytest.mark.parametrize("name", ["arr_0", "samples"])
def test_names_of_other_programs(tmp_path, name):
    images = random_pictures(3)
    np.savez(tmp_path / "x.npz", **{name: images})
    np.testing.assert_array_equal(all_of(open_source(str(tmp_path / "x.npz"))), images)
    assert open_reference(str(tmp_path / "x.npz")).count == 3
    np.savez(tmp_path / "x.npz", mu=np.zeros(4), sigma=np.eye(4), **{name: images})  # as guided-diffusion's references
    assert isinstance(open_reference(str(tmp_path / "x.npz")), Statistics)


def test_a_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_folder(tmp_path / "pictures", random_pictures(4))
    np.savez(tmp_path / "x.npz", images=random_pictures(3))
    for spec, count in (("~/pictures", 4), ("folder:~/pictures", 4), ("~/x.npz", 3)):
        assert open_source(spec).count == open_reference(spec).count == count


def test_a_class_is_of_a_data_set(tmp_path):
    write_folder(tmp_path / "pictures", random_pictures(4))
    np.savez(tmp_path / "x.npz", images=random_pictures(3))
    np.savez(tmp_path / "s.npz", mu=np.zeros(4), sigma=np.eye(4))
    for spec in ("pictures", "x.npz", "s.npz"):
        with pytest.raises(UserError, match="label chooses a class of a data set"):
            open_reference(str(tmp_path / spec), label=3)


def test_jpeg_is_warned_of(tmp_path):
    folder = write_folder(tmp_path / "lossy", random_pictures(2, (8, 8, 3)), ".jpg")
    assert "2 JPEG files" in open_source(str(folder)).warnings[0]


def test_data_set_by_name_and_class():
    whole, twos = open_source("digits:test"), open_source("digits:test", label=2)
    assert whole.count == 297 and whole.id == "digits:test" and whole.shape == (8, 8, 1)
    assert twos.id == "digits:test[label=2]" and 20 < twos.count < 40


def test_mixed_sizes_name_both_files(tmp_path):
    folder = write_folder(tmp_path / "mixed", random_pictures(3))
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(folder / "zzz.png")
    said = r"zzz.png: is 9 x 8 .*000.png is 8 x 8: pictures of one size are needed"
    with pytest.raises(UserError, match=said + r" \(or a size to bring them to\)$"):
        all_of(open_source(str(folder)))
    with pytest.raises(UserError, match=said + "$"):  # samples, which --size does not touch
        all_of(open_source(str(folder), may_resize=False))


def test_grey_among_coloured_becomes_coloured(tmp_path):
    coloured, grey = random_pictures(2, (8, 8, 3)), random_pictures(1)
    folder = write_folder(tmp_path / "pictures", [grey[0], *coloured])  # the grey one first: it does not decide
    source = open_source(str(folder))
    assert source.shape == (8, 8, 3) and "1 of 3 pictures are grey" in source.warnings[0]
    np.testing.assert_array_equal(all_of(source), [np.repeat(grey[0], 3, axis=2), *coloured])


@pytest.mark.parametrize("size", [None, 4])
def test_all_damaged_pictures_are_named_before_any_is_used(tmp_path, size):
    folder = write_folder(tmp_path / "pictures", random_pictures(4, (8, 8, 3)))
    for name in ("001.png", "003.png"):  # cut within the pixels: the first bytes are sound
        (folder / name).write_bytes((folder / name).read_bytes()[:90])
    with pytest.raises(UserError, match=r"2 of 4 pictures cannot be read: .*001.png.*; .*003.png"):
        open_source(str(folder), size=size)
    (folder / "000.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="000.png"):
        open_source(str(folder), size=size)


def test_a_size_takes_the_central_square(tmp_path):
    tall, wide = np.zeros((30, 10), np.uint8), np.zeros((20, 40, 3), np.uint8)
    tall[10:20] = 200  # grey, of the very size: its central square comes as it is, in three channels
    wide[:, 4:36, 1] = 90
    for name, picture in (("a.png", tall), ("b.png", wide)):
        (tmp_path / "pictures" / name).parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "pictures" / name)
    source = open_source(f"folder:{tmp_path}/pictures", size=10)
    assert (source.id, source.shape) == ("pictures at 10x10", (10, 10, 3))
    first, second = all_of(source)
    assert (first == 200).all() and (second == [0, 90, 0]).all()
    np.savez(tmp_path / "x.npz", images=random_pictures(3))
    for spec, message in [
        ("digits:test", "a size is for folders"),
        ("folder:nowhere", "no such folder"),
        (f"{tmp_path}/x.npz", "with a size"),
        (f"{tmp_path}/pictures/a.png", "with a size"),
    ]:
        with pytest.raises(UserError, match=message):
            open_source(spec, size=8)


def test_folders_below_belong_to_it_but_splits_do_not_mix(tmp_path):
    images = random_pictures(4)
    write_folder(tmp_path / "train", images[:3])
    write_folder(tmp_path / "train" / "class", images[3:])
    assert open_source(f"folder:{tmp_path}").count == 4
    write_folder(tmp_path / "test", images[:1])
    with pytest.raises(UserError, match="holds train and test; name one of them"):
        open_source(f"folder:{tmp_path}")
    assert open_source(f"folder:{tmp_path}/train").count == 4


def test_corrupt_picture_is_named(tmp_path):
    folder = write_folder(tmp_path / "corrupt", random_pictures(3))
    data = (folder / "001.png").read_bytes()
    (folder / "001.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="001.png: damaged or truncated"):
        all_of(open_source(str(folder)))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.full((2, 8, 8, 1), np.nan, np.float32)}, "must be uint8.*float32, and hold NaN"),
        ({"images": np.zeros((2, 8, 8, 1), np.float32)}, "must be uint8.*float32$"),
        ({"images": np.zeros((2, 8, 8, 4), np.uint8)}, "one or three channels"),
        ({"images": np.zeros((0, 8, 8, 1), np.uint8)}, "one or three channels"),
        ({"pictures": np.zeros(3)}, r"no array named images or arr_0 or samples \(there are: pictures\)"),
        ({"images": np.array([{}], dtype=object)}, "damaged, or no .npz"),
    ],
)
def test_wrong_arrays_are_explained(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(UserError, match=message):
        open_source(str(tmp_path / "x.npz"))


def test_what_is_not_there(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.txt").write_text("x")
    (tmp_path / "cut.npz").write_bytes(b"PK")
    for spec, message in [
        ("empty", "no pictures"),
        ("note.txt", "single file"),
        ("none", "no such folder or file"),
        ("cut.npz", "damaged"),
        ("none.npz", "no such file"),
    ]:
        with pytest.raises(UserError, match=message):
            open_source(str(tmp_path / spec))
    with pytest.raises(UserError, match="unknown split"):
        open_source("digits:valid")


def test_subset_has_each_picture_once_in_order_and_is_not_the_beginning():
    images = np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1)
    subset = Subset(ArraySource("x", images), 10)
    numbers = all_of(subset).ravel()
    assert list(numbers) == sorted(set(numbers.tolist())) and len(numbers) == 10 and numbers[-1] > 20
    np.testing.assert_array_equal(subset.rows, numbers)
    parts = [np.concatenate(list(subset.batches(start, start + 5))) for start in (0, 5)]
    np.testing.assert_array_equal(np.concatenate(parts).ravel(), numbers)
    with pytest.raises(UserError, match="has 40 pictures, not 41"):
        Subset(ArraySource("x", images), 41)


def test_samples_depend_on_seed_and_number_alone(tmp_path):
    run = tiny_runs.tiny_run(tmp_path, table=True)
    prior, data = Normal(3), RunData(run)
    first = SampleSource(data, lambda: prior, seed=1, count=20)
    whole = all_of(first)
    assert whole.shape == (20, 8, 8, 1) == (first.count, *first.shape)
    part = np.concatenate(list(first.batches(7, 15)))
    assert np.abs(part.astype(int) - whole[7:15]).max() <= 1
    other = all_of(SampleSource(data, lambda: prior, seed=2, count=20))
    assert (other != whole).any()


def test_diverged_run_is_refused(tmp_path):
    run = tiny_runs.tiny_run(tmp_path, table=True)
    check_finite_parameters(run)
    run.latents[5, 1] = np.nan
    with pytest.raises(UserError, match="the parameters of step 20 hold NaN"):
        check_finite_parameters(run)


def test_pictures_survive_the_model_scale():
    from dfm.arrays import to_float, to_uint8

    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_uint8(to_float(levels)), levels)


def test_stretching_of_dai_and_wipf():
    pictures = np.array([[10, 20, 30], [7, 7, 7]], np.uint8).reshape(2, 1, 1, 3)
    np.testing.assert_allclose(stretch(pictures).reshape(2, 3), [[0, 127.5, 255], [0, 0, 0]])
    transformed = Transformed(ArraySource("x", pictures), stretch, "x")
    assert all_of(transformed).dtype == np.float32 and transformed.shape == (1, 1, 3)


def test_padding_of_mnist():
    padded = pad_to_32(np.full((2, 28, 28, 1), 9, np.uint8))
    assert padded.shape == (2, 32, 32, 1) and padded[0].sum() == 9 * 28 * 28 and padded[0, 2, 2, 0] == 9
    assert pad_to_32(np.zeros((1, 8, 8, 1))).shape == (1, 8, 8, 1)
