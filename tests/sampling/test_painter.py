"""Batches, devices and padding change no sample; pictures of any size are the same function of position."""

import jax
import numpy as np
import pytest
from tiny_runs import LATENT_SIZE, LinearMachine, tiny_run

from dfm.errors import UserError
from dfm.models import latent_vectors
from dfm.priors.gaussian import Gaussian, Normal
from dfm.priors.mixture import Mixture
from dfm.sampling import Painter, draw

SEED = 5


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny_run(tmp_path_factory.mktemp("run"), table=True, model=LinearMachine())


@pytest.fixture(scope="module")
def prior(run):
    return Gaussian.fit(run.latents)


@pytest.fixture(scope="module")
def pictures(run, prior):
    """Samples 0 to 69, drawn at once on one device."""
    return drawn(run, prior, 0, 70, 70, devices=jax.devices()[:1])


def drawn(run, prior, start, count, batch_size, **options):
    return np.concatenate(list(draw(run, prior, SEED, start, count, batch_size, **options)))


def assert_same(one, other):
    """Up to one level: a value on the border between two may round either way."""
    assert one.dtype == other.dtype == np.uint8
    np.testing.assert_allclose(one.astype(int), other.astype(int), atol=1)


def test_there_is_something_to_see(pictures):
    assert pictures.shape == (70, 8, 8, 1)
    assert pictures.std() > 5 and len(np.unique(pictures.reshape(70, -1), axis=0)) == 70


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_batch_size_changes_no_sample(run, prior, pictures, batch_size):
    count = min(70, 5 * batch_size - 1 if batch_size > 1 else 5)
    assert_same(drawn(run, prior, 0, count, batch_size), pictures[:count])


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_devices_change_no_sample(run, prior, pictures, devices):
    assert_same(drawn(run, prior, 0, 10, 8, devices=jax.devices()[:devices]), pictures[:10])


def test_all_devices_take_part_where_they_divide_the_batch(run):
    for batch_size, expected in ((8, 4), (6, 3), (5, 1)):
        painter = Painter(run, batch_size=batch_size)
        latents = next(painter.latent_batches(Normal(LATENT_SIZE), 0, 0, 1))
        assert len(latents.sharding.device_set) == expected


@pytest.mark.parametrize("family", [Normal, Gaussian, Mixture])
def test_start_continues_the_list(run, family):
    prior = family.fit(run.latents, components=2)
    whole = drawn(run, prior, 0, 9, 4)
    assert_same(drawn(run, prior, 6, 3, 4), whole[6:])


def test_the_last_numbers_of_the_list_can_be_drawn(run, prior):
    assert len(drawn(run, prior, 2**32 - 3, 3, 4)) == 3
    with pytest.raises(UserError, match="outside 0 to 4294967296"):
        draw(run, prior, SEED, 2**32 - 3, 4, 4)


def test_seed_changes_samples(run, prior, pictures):
    other = np.concatenate(list(draw(run, prior, SEED + 1, 0, 4, 4)))
    assert np.abs(other.astype(int) - pictures[:4]).max() > 5


def test_temperature_zero_paints_the_mean(run, prior):
    cold = drawn(run, prior, 0, 3, 3, temperature=0.0)
    assert_same(cold, np.repeat(Painter(run, batch_size=3).paint(np.asarray(prior.mean)[None]), 3, axis=0))


def test_no_samples_are_no_batches(run, prior):
    assert list(draw(run, prior, SEED, 0, 0, 4)) == []


def test_one_compilation_for_all_batches(run, prior, monkeypatch):
    traced, decode = [], latent_vectors.decode
    monkeypatch.setattr(latent_vectors, "decode", lambda *arguments: traced.append(arguments) or decode(*arguments))
    # batches of a size that no other test paints
    assert [len(batch) for batch in draw(run, prior, SEED, 0, 27, 11)] == [11, 11, 5]
    assert len(traced) == 1


def test_every_size_samples_one_function_of_position(tmp_path):
    """At three times the size, every third pixel centre coincides with one of the small picture."""
    run = tiny_run(tmp_path, table=True)
    small = Painter(run, batch_size=3).paint(run.latents[:3])
    large = Painter(run, 24, 24, batch_size=3).paint(run.latents[:3])
    assert large.shape == (3, 24, 24, 1)
    assert_same(large[:, 1::3, 1::3], small)
    oblong = Painter(run, 8, 24, batch_size=3).paint(run.latents[:3])
    assert_same(oblong[:, :, 1::3], small)


def test_larger_pictures_take_smaller_batches(run):
    assert Painter(run).batch_size == 64
    assert Painter(run, 32, 32).batch_size == 4
    assert Painter(run, 256, 256).batch_size == 1
    with pytest.raises(UserError, match="batch_size must be at least 1"):
        Painter(run, batch_size=0)


def test_encoding_in_batches_is_encoding_at_once(tmp_path):
    run = tiny_run(tmp_path, table=False)
    images = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 1), dtype=np.uint8)
    expected = run.model.apply({"params": run.params}, images / np.float32(127.5) - 1, method="encode").mode()
    np.testing.assert_allclose(Painter(run, batch_size=4).encode(images), expected, atol=1e-5)


def test_a_table_encodes_nothing(run):
    with pytest.raises(UserError, match="no encoder"):
        Painter(run).encode(np.zeros((1, 8, 8, 1), np.uint8))
