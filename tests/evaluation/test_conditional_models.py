"""Conditional models under evaluation: their samples have classes, and reconstructions those of their originals."""

import numpy as np
import pytest
import tiny_runs

from dfm.data import load
from dfm.errors import UserError
from dfm.evaluation import Options, evaluate_run
from dfm.evaluation.sources import SampleSource
from dfm.priors.gaussian import Normal
from dfm.sampling import RunData


@pytest.fixture
def run(tmp_path):
    return tiny_runs.tiny_run(tmp_path, table=False, model=tiny_runs.ClassMachine())


def classes(source, start, stop):
    pictures = np.concatenate(list(source.batches(start, stop)))
    assert (pictures == pictures[:, :1, :1]).all()
    return pictures[:, 0, 0, 0] // 25


def test_samples_have_classes_as_often_as_the_training(run):
    def source(**options):
        return SampleSource(RunData(run), lambda: Normal(3), count=2000, **options)

    drawn = classes(source(seed=0), 0, 2000)
    known = load("digits", "train").labels
    np.testing.assert_allclose(np.bincount(drawn) / 2000, np.bincount(known) / len(known), atol=0.03)
    np.testing.assert_array_equal(classes(source(seed=0), 130, 150), drawn[130:150])  # of seed and number alone
    assert (classes(source(seed=1), 0, 50) != drawn[:50]).any()
    assert (classes(source(seed=0, label=4), 0, 50) == 4).all() and source(seed=0, label=4).id == "samples[label=4]"


def test_reconstructions_have_the_class_of_their_original(run):
    test = load("digits", "test")
    smoothness, psnr = evaluate_run(run, ["psnr", "smoothness"], "digits:test", options=Options(num_references=50))
    rows = np.sort(np.random.default_rng(0).permutation(297)[:50])  # as Subset has them
    errors = np.square(test.take(rows).astype(float) - 25.0 * test.labels[rows, None, None, None]).mean((1, 2, 3))
    assert psnr["value"] == pytest.approx(np.mean(10 * np.log10(255**2 / errors)), abs=1e-6)
    assert smoothness["value"] == 0  # latents change no picture


def test_pictures_without_a_class_are_refused(run):
    with pytest.raises(UserError, match="conditioned on a class: name one of 0 to 9"):
        evaluate_run(run, ["psnr"], load("digits", "test").take(np.arange(9)))
