import dataclasses

import jax
import numpy as np
import pytest

from dfm.array_files import read_arrays, write_npz
from dfm.data import load
from dfm.errors import UserError
from dfm.evaluation import Options, evaluate
from dfm.evaluation.measure import measure, measure_all, share
from dfm.evaluation.plan import Resources, make_plan
from dfm.evaluation.references import Statistics, hash_source, measure_reference, open_reference, save_statistics
from dfm.evaluation.registry import parse_metrics
from dfm.evaluation.sources import ArraySource, DatasetSource
from dfm.metrics import networks
from dfm.metrics.features import Extractor
from dfm.metrics.frechet import frechet_distance


@pytest.fixture(scope="module")
def digits():
    return networks.load("digits")


@pytest.fixture(scope="module")
def test_split():
    return DatasetSource(load("digits", "test"))


@pytest.fixture(scope="module")
def train(digits):
    return measure(DatasetSource(load("digits", "train")), Extractor(digits, 64), True)


def test_fd_depends_neither_on_batches_devices_nor_order(digits, test_split, train):
    reference = measure(test_split, Extractor(digits, 32, jax.local_devices()[:1]), True)
    value = frechet_distance(train.moments, reference.moments).value
    assert value > 1
    pictures = load("digits", "test").take(np.random.default_rng(0).permutation(297))
    for source, batch_size, devices in [(test_split, 7, 1), (test_split, 300, 4), (ArraySource("x", pictures), 64, 2)]:
        measured = measure(source, Extractor(digits, batch_size, jax.local_devices()[:devices]), False)
        assert frechet_distance(train.moments, measured.moments).value == pytest.approx(value, abs=1e-3)
        assert measured.sha256 == reference.sha256 and measured.count == 297


def test_progress_counts_every_picture(digits, test_split):
    done = []
    measure(test_split, Extractor(digits, 100), False, done.append)
    assert sum(done) == 297


def test_one_picture_is_too_few(digits):
    with pytest.raises(UserError, match="1 picture; a covariance needs at least 2"):
        measure(ArraySource("x", np.zeros((1, 8, 8, 1), np.uint8)), Extractor(digits, 4), False)


def test_broken_weights_are_noticed(digits, test_split):
    broken = jax.tree.map(lambda leaf: leaf * np.nan, digits.params)
    network = networks.FeatureNetwork("n", "fd-n", 64, broken, digits.apply, "", "", "")
    with pytest.raises(UserError, match="a feature is NaN or infinite"):
        measure(test_split, Extractor(network, 100), False)


def test_shares_of_processes_are_a_partition():
    for count, processes in [(10, 3), (2, 4), (297, 2)]:
        parts = [share(count, process, processes) for process in range(processes)]
        assert [row for start, stop in parts for row in range(start, stop)] == list(range(count))


def test_statistics_come_back(digits, test_split, tmp_path):
    measured = measure(test_split, Extractor(digits, 100), True)
    path = tmp_path / "stats.npz"
    save_statistics(str(path), measured, digits, {"command": "x"})
    reference = open_reference(str(path))
    assert isinstance(reference, Statistics) and reference.has_features
    again = reference.measured(digits)
    assert (again.id, again.count, again.sha256, again.warnings) == ("digits:test", 297, measured.sha256, [])
    assert frechet_distance(again.moments, measured.moments).value == pytest.approx(0, abs=1e-4)
    np.testing.assert_array_equal(again.features, measured.features)
    with pytest.raises(UserError, match="made with digits-classifier-v1, not with mnist-classifier-v1"):
        reference.measured(networks.load("mnist"))


def test_statistics_of_other_programs(digits, test_split, tmp_path):
    measured = measure(test_split, Extractor(digits, 100), False)
    for names in [("mu", "sigma"), ("m", "s")]:
        arrays = dict(zip(names, (measured.moments.mean, measured.moments.covariance), strict=True))
        write_npz(tmp_path / "foreign.npz", arrays)
        foreign = open_reference(str(tmp_path / "foreign.npz")).measured(digits)
        assert foreign.count is None and "neither its network nor its count" in foreign.warnings[0]
        assert frechet_distance(foreign.moments, measured.moments).value == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros(3)}, "neither images nor mean and covariance"),
        ({"mu": np.zeros(3), "sigma": np.eye(3)}, r"shapes \[3\] and \[3, 3\], not \[64\]"),
        ({"mu": np.full(64, np.nan), "sigma": np.eye(64)}, "hold NaN"),
        ({"mean": np.zeros(64), "covariance": np.eye(64), "facts": np.array("{")}, "no JSON"),
        ({"mu": np.zeros(64), "sigma": np.tril(np.ones((64, 64)))}, "not symmetric"),
        ({"mu": np.zeros(64), "sigma": np.eye(64), "features": np.zeros((9, 63))}, r"shape \[9, 63\], not \[N, 64\]"),
        ({"mu": np.zeros(64), "sigma": np.eye(64), "features": np.full((9, 64), np.nan)}, "no finite numbers"),
    ],
)
def test_wrong_statistics_are_explained(digits, tmp_path, arrays, message):
    write_npz(tmp_path / "x.npz", arrays)
    with pytest.raises(UserError, match=message):
        open_reference(str(tmp_path / "x.npz")).measured(digits)


def test_statistics_that_cannot_serve_are_refused_before_any_work(digits, test_split, tmp_path):
    def refused(message, **arrays):
        write_npz(tmp_path / "x.npz", arrays)
        reference = open_reference(str(tmp_path / "x.npz"))
        resources = Resources(True, False, reference, 30, (8, 8, 1))
        with pytest.raises(UserError, match=message):
            make_plan(parse_metrics("fd-digits,precision_recall-digits"), resources)

    moments = {"mu": np.zeros(64), "sigma": np.eye(64)}
    refused("2 pictures, and at least 4 are needed. These remain: fd-digits", **moments, features=np.zeros((2, 64)))
    refused(
        r"fd-digits: .*x.npz: mean and covariance have shapes \[3\].*These remain: none",
        mu=np.zeros(3),
        sigma=np.eye(3),
    )


def test_a_covariance_that_is_none_is_warned_of(digits, test_split, tmp_path):
    write_npz(tmp_path / "negative.npz", {"mu": np.zeros(64), "sigma": -np.eye(64)})
    reference = str(tmp_path / "negative.npz")
    line = evaluate(test_split, reference, ["fd-digits"], options=Options(cache=False))[0]
    assert line["details"]["most_negative_eigenvalue"] == -1
    assert any("an eigenvalue is -1 times the largest" in warning for warning in line["warnings"])
    assert not any(
        "eigenvalue" in warning for warning in evaluate(test_split, test_split, ["fd-digits"])[0]["warnings"]
    )


def test_both_networks_of_one_pass_see_what_they_see_alone(digits, test_split):
    other = dataclasses.replace(digits, apply=lambda params, x: digits.apply(params, 255 - x))
    networks_at_once = {"a": Extractor(digits, 64), "b": Extractor(other, 100)}
    both = measure_all(test_split, networks_at_once, {"b"})
    for name, extractor in networks_at_once.items():
        alone = measure(test_split, extractor, True)
        np.testing.assert_allclose(both[name].moments.mean, alone.moments.mean, atol=1e-5)
        assert both[name].sha256 == alone.sha256
    assert both["a"].features is None and both["b"].features.shape == (297, 64)


def test_features_of_a_data_set_are_kept(digits, test_split, tmp_path):
    first = measure_reference(test_split, Extractor(digits, 100), True, tmp_path / "cache")
    kept = list((tmp_path / "cache").iterdir())
    assert len(kept) == 1 and kept[0].name.startswith("digits-test-digits-classifier-v1-")

    class Blocked(Extractor):
        def start(self, batch):
            raise AssertionError("extracted again")

    extractor = Blocked(digits, 100)
    again = measure_reference(test_split, extractor, True, tmp_path / "cache")
    assert again.sha256 == first.sha256 == hash_source(test_split) and again.seconds == 0
    np.testing.assert_array_equal(again.features, first.features)
    assert frechet_distance(first.moments, again.moments).value == pytest.approx(0, abs=1e-4)
    kept[0].write_bytes(kept[0].read_bytes()[:5000])  # cut short: measured again
    assert measure_reference(test_split, Extractor(digits, 100), False, tmp_path / "cache").seconds > 0


def test_cache_that_cannot_be_written_costs_nothing_but_a_warning(digits, test_split, tmp_path):
    (tmp_path / "file").write_text("")
    measured = measure_reference(test_split, Extractor(digits, 100), False, tmp_path / "file" / "cache")
    assert measured.count == 297 and "could not be kept" in measured.warnings[0]


def test_stored_arrays_are_no_pickle(digits, test_split, tmp_path):
    save_statistics(str(tmp_path / "s.npz"), measure(test_split, Extractor(digits, 100), False), digits, {})
    assert set(read_arrays(tmp_path / "s.npz")) == {"mean", "covariance", "facts"}
