import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfm.array_files import hash_arrays, hash_pictures, picture_digest
from dfm.errors import UserError
from dfm.metrics import classifier, networks
from dfm.metrics.features import Extractor, FeatureNetwork, rebatch


@pytest.fixture(scope="module")
def digits():
    return networks.load("digits")


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (23, 8, 8, 1), dtype=np.uint8)


def extracted(network, batches, batch_size, devices=None):
    return np.concatenate(list(Extractor(network, batch_size, devices)(batches)))


def test_rebatching_keeps_the_order():
    batches = np.split(np.arange(40).reshape(20, 2), [3, 3, 11, 12])
    parts = list(rebatch(batches, 6))
    assert [len(part) for part in parts] == [6, 6, 6, 2]
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(40).reshape(20, 2))


@pytest.mark.parametrize(("batch_size", "devices"), [(1, 1), (7, 1), (23, 1), (100, 1), (8, 2), (8, 4), (5, 4)])
def test_every_picture_once_whatever_batches_and_devices(digits, pictures, batch_size, devices):
    reference = np.asarray(digits.apply(digits.params, jnp.asarray(pictures)))
    found = extracted(digits, np.split(pictures, [5, 6]), batch_size, jax.local_devices()[:devices])
    np.testing.assert_allclose(found, reference, rtol=1e-5, atol=1e-5)


def test_order_moves_with_the_pictures(digits, pictures):
    order = np.random.default_rng(1).permutation(len(pictures))
    found, moved = extracted(digits, [pictures], 8), extracted(digits, [pictures[order]], 8)
    np.testing.assert_allclose(moved, found[order], rtol=1e-5, atol=1e-5)


def test_no_pictures_are_no_features(digits):
    assert list(Extractor(digits, 4)([])) == []


def test_options_that_a_jaxlib_does_not_know_are_left_out(monkeypatch, pictures):
    from dfm.metrics import features

    monkeypatch.setattr(features, "CPU_OPTIONS", {"xla_no_such_option": "1"})
    features.cpu_options.cache_clear()
    try:
        assert features.cpu_options() is None
    finally:
        features.cpu_options.cache_clear()


def test_networks_by_name(digits):
    assert digits.distance == "fd-digits" and digits.size == 64
    assert networks.load("mnist").distance == "fd-mnist"
    with pytest.raises(UserError, match="did you mean 'inception'"):
        networks.load("inceptoin")


def test_classifier_refuses_other_sizes(digits):
    with pytest.raises(UserError, match="fd-digits is for pictures of 8x8 pixels, not 28x28"):
        extracted(digits, [np.zeros((2, 28, 28, 1), np.uint8)], 2)


def test_colour_pictures_become_grey(digits, pictures):
    grey, colour = (extracted(digits, [x], 23) for x in (pictures, pictures.repeat(3, axis=-1)))
    np.testing.assert_allclose(grey, colour, rtol=1e-5, atol=1e-5)


def test_classifier_is_trained_in_seconds_and_the_stored_one_knows_digits(monkeypatch):
    from dfm.data import load

    train, test = load("digits", "train"), load("digits", "test")
    images, labels = train.take(np.arange(len(train))), train.labels
    test_images = test.take(np.arange(len(test)))
    stored, _ = classifier.load_params("digits")
    assert classifier.accuracy("digits", stored, test_images, test.labels) > 0.94
    monkeypatch.setitem(classifier.TRAIN_EPOCHS, "digits", 15)  # of 60: enough for the bound below
    trained = classifier.train("digits", images, labels)
    assert classifier.accuracy("digits", trained, test_images, test.labels) > 0.93


def test_logits_are_those_of_the_classifier(digits, pictures):
    params, _ = classifier.load_params("digits")
    logits = classifier.Classifier(8).apply(params, jnp.asarray(pictures))
    np.testing.assert_allclose(digits.logits(extracted(digits, [pictures], 23)), logits, rtol=1e-4, atol=1e-3)


def test_hashes_tell_names_types_shapes_and_values_apart():
    base = {"a": np.zeros(4, np.float32), "b": np.ones(2)}
    assert hash_arrays(base) == hash_arrays(dict(reversed(base.items())))
    others = [
        {"a": base["a"], "c": base["b"]},
        base | {"a": np.zeros(4, np.float64)},
        base | {"a": np.zeros((2, 2), np.float32)},
        base | {"a": np.full(4, 1e-9, np.float32)},
    ]
    assert len({hash_arrays(arrays) for arrays in [base, *others]}) == 5


def test_hash_of_pictures_depends_on_the_set_and_not_on_its_order(pictures):
    digests = [picture_digest(picture) for picture in pictures]
    assert hash_pictures(digests) == hash_pictures(digests[::-1])
    assert hash_pictures(digests) != hash_pictures(digests[1:])
    assert picture_digest(pictures[0]) != picture_digest(pictures[0].reshape(4, 16, 1))


def test_feature_network_describes_itself():
    network = FeatureNetwork("n", "fd-n", 2, {}, lambda p, x: x, "hash", "none", "none")
    assert network.describe() == {"extractor": "n", "extractor_sha256": "hash", "resize": "none", "scale": "none"}
