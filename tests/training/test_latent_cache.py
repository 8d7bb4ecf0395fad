"""Cached moments: of these pictures, this encoder and these settings, or made anew, as many at once as fit memory."""

import jax
import numpy as np
import pytest
import tiny_autoencoder as tiny

from dfm.arrays import to_float
from dfm.data import Batches, Dataset
from dfm.data.dataset import ArrayPictures
from dfm.models.autoencoder_kl import AutoencoderKL
from dfm.training import latent_scale
from dfm.training.latent_cache import cached
from dfm.training.latent_scale import pictures_at_once

MODEL = AutoencoderKL(**tiny.MODEL)
COUNT = 20


def batches_of(images):
    dataset = Dataset("pictures", "train", [ArrayPictures(images)], np.zeros(len(images), np.int32))
    return Batches(dataset, 4, 0)


@pytest.fixture(scope="module")
def params():
    return tiny.params_of(tiny.objective())


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 1), np.uint8)


def moments_by_hand(params, images):
    run = jax.jit(lambda params, x: MODEL.apply({"params": params}, x, method="moments"))
    return np.asarray(run(params, to_float(images)))


def files(folder):
    return sorted(path.name for path in folder.glob("moments-*.npy"))


def test_moments_are_those_of_the_batch_s_pictures_and_are_kept(params, images, tmp_path, capsys):
    first = cached(batches_of(images), MODEL, params, tmp_path)
    batch = first.at(3)
    expected = moments_by_hand(params, images)
    np.testing.assert_allclose(batch["moments"], expected[batch["index"]], rtol=1e-4, atol=1e-5)
    assert "encoded once, kept in" in capsys.readouterr().err
    kept = (tmp_path / files(tmp_path)[0]).stat().st_mtime_ns
    again = cached(batches_of(images), MODEL, params, tmp_path)
    np.testing.assert_array_equal(again.moments, first.moments)
    assert (tmp_path / files(tmp_path)[0]).stat().st_mtime_ns == kept and "taken from" in capsys.readouterr().err


def test_other_pictures_encoders_and_settings_have_other_files(params, images, tmp_path):
    """Replaced contents, another order, one picture more, other weights, another activation."""
    replaced = images.copy()
    replaced[7, 3, 3] += 100
    more = np.concatenate([images, images[:1]])
    other = jax.tree.map(lambda leaf: leaf * 1.01, params)
    relu = MODEL.clone(act_fn="relu")
    found, names = [], set()
    for pictures, model, values in (
        (images, MODEL, params),
        (replaced, MODEL, params),
        (images[::-1].copy(), MODEL, params),
        (more, MODEL, params),
        (images, MODEL, other),
        (images, relu, params),
    ):
        found.append(np.array(cached(batches_of(pictures), model, values, tmp_path).moments))
        names.add(*files(tmp_path))  # there is one: those of the others are gone, so that a folder does not fill up
        assert len(names) == len(found)
    np.testing.assert_allclose(found[1][7], moments_by_hand(params, replaced)[7], rtol=1e-4, atol=1e-5)
    assert not np.allclose(found[0][7], found[1][7]) and len(found[3]) == COUNT + 1


@pytest.mark.parametrize("damage", ["cut", "shape", "text"])
def test_a_file_that_does_not_fit_is_made_anew(params, images, tmp_path, damage):
    expected = np.array(cached(batches_of(images), MODEL, params, tmp_path).moments)
    path = tmp_path / files(tmp_path)[0]
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "shape":
        np.save(path, expected[:-1])
    else:
        path.write_text("moments")
    np.testing.assert_array_equal(cached(batches_of(images), MODEL, params, tmp_path).moments, expected)


def test_memory_is_bounded_by_pixels(params, images, tmp_path, monkeypatch):
    assert [pictures_at_once(side, side) for side in (8, 256, 512, 1024, 4096)] == [64, 16, 4, 1, 1]
    whole = np.array(cached(batches_of(images), MODEL, params, tmp_path / "whole").moments)
    monkeypatch.setattr(latent_scale, "PIXELS_AT_ONCE", 3 * 8 * 8)
    taken, take = [], Dataset.take
    monkeypatch.setattr(Dataset, "take", lambda self, rows: (taken.append(len(rows)), take(self, rows))[1])
    parts = np.array(cached(batches_of(images), MODEL, params, tmp_path / "parts").moments)
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    assert max(taken) == 3 and sum(taken) >= COUNT
