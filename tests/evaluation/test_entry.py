"""Evaluations from Python: the same lines as the command's, whatever the pictures come in."""

import numpy as np
import pytest
import tiny_runs
from evaluate_command import evaluated

from dfm.data import load
from dfm.errors import UserError
from dfm.evaluation import Options, evaluate, evaluate_run, make_statistics

NAMES = ("fd-digits", "kd-digits")
WITHOUT_CACHE = Options(cache=False)


@pytest.fixture(scope="module")
def digits():
    return load("digits", "train").take(np.arange(120))


def numbers(lines):
    return {line["metric"]: (line["value"], line["samples"]["sha256"]) for line in lines}


@pytest.fixture(scope="module")
def expected(digits):
    return numbers(evaluate(digits, "digits:test", NAMES, options=WITHOUT_CACHE))


def test_the_command_says_the_same(capsys, tmp_path, digits, expected):
    np.savez(tmp_path / "digits.npz", arr_0=digits)
    arguments = [f"--samples={tmp_path / 'digits.npz'}", "--reference=digits:test", f"--metrics={','.join(NAMES)}"]
    assert numbers(evaluated(capsys, *arguments, "--no_cache")) == expected


@pytest.mark.parametrize("count", [None, 120])
def test_batches_and_functions(digits, expected, count):
    batches = (digits[start : start + 50] for start in range(0, 120, 50))
    assert numbers(evaluate(batches, "digits:test", NAMES, count=count, options=WITHOUT_CACHE)) == expected
    calls = []

    def made(first, count):
        calls.append((first, count))
        return digits[first : first + count]

    assert numbers(evaluate(made, "digits:test", NAMES, count=120, options=WITHOUT_CACHE)) == expected
    assert calls == [(0, 1), (0, 120)]  # its shape, and all of it once for both metrics


def test_a_long_iterator_is_read_as_far_as_it_is_wanted(digits):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield digits[:50]

    line = evaluate(endless(), "digits:test", ["fd-digits"], count=70, options=WITHOUT_CACHE)[0]
    assert line["samples"]["count"] == 70 and len(taken) == 2


def test_arrays_may_be_the_reference(digits):
    line = evaluate(digits, load("digits", "test").take(np.arange(60)), ["fd-digits"])[0]
    assert line["reference"]["count"] == 60 and line["value"] > 0


@pytest.mark.parametrize(
    ("samples", "count", "message"),
    [
        (np.zeros((20, 8, 8, 1)), None, "images must be uint8"),
        (lambda first, count: np.zeros((count, 8, 8, 1), np.uint8), None, "needs a count"),
        (lambda first, count: np.zeros((1, 8, 8, 1), np.uint8), 20, r"gave \[1, 8, 8, 1\] in place of \[20, 8, 8, 1\]"),
        (iter([np.zeros((20, 8, 8, 1), np.uint8)]), 30, "gave 20 pictures in place of 30"),
        (iter([np.zeros((5, 8, 8, 1), np.uint8), np.zeros((5, 9, 8, 1), np.uint8)]), 10, "a batch of"),
        (iter([]), None, "no pictures"),
        (iter([]), 0, "the number of samples must be at least 1, not 0"),
        (np.zeros((20, 8, 8, 1), np.uint8), 0, "the number of samples must be at least 1, not 0"),
        (np.zeros((20, 8, 8, 1), np.uint8), -3, "the number of samples must be at least 1, not -3"),
    ],
)
def test_what_cannot_be_used_is_explained(samples, count, message):
    with pytest.raises(UserError, match=message):
        evaluate(samples, "digits:test", ["fd-digits"], count=count, options=WITHOUT_CACHE)


def test_equal_sets_are_said_to_be_equal(digits):
    def warnings(samples):
        return " ".join(evaluate(samples, digits, ["fd-digits"])[0]["warnings"])

    assert "samples and reference are the same pictures" in warnings(digits[::-1])
    assert "the same pictures" not in warnings(digits[:-1])


def test_what_has_no_number_has_a_reason():
    constant = np.full((30, 8, 8, 1), 7, np.uint8)
    line = evaluate(constant, constant, ["mmd-digits"])[0]
    assert line["value"] is None and "the bandwidth, is 0" in line["details"]["why_null"]


def test_a_run_that_is_open_already(tmp_path):
    run = tiny_runs.tiny_run(tmp_path, table=True)
    lines = evaluate_run(run, ("latents", "smoothness"), priors=("normal", "gaussian"), options=WITHOUT_CACHE)
    found = [(line["metric"], line["prior"]) for line in lines]
    assert found == [  # what no prior changes is there once
        ("active_units", None),
        ("posterior_kl", "normal"),
        ("posterior_sliced", "normal"),
        ("smoothness", None),
        ("posterior_kl", "gaussian"),
        ("posterior_sliced", "gaussian"),
    ]
    z = np.asarray(run.latents, np.float64)
    covariance, mean = np.cov(z, rowvar=False), z.mean(0)
    exact = 0.5 * (np.trace(covariance) + mean @ mean - 3 - np.linalg.slogdet(covariance)[1])
    assert lines[1]["value"] == pytest.approx(exact, rel=1e-6) and lines[1]["details"]["prior_samples"] == 0


def test_statistics_are_made_of_what_a_program_has(tmp_path, digits):
    measured = make_statistics(iter([digits[:50], digits[50:]]), tmp_path / "s.npz", "digits", keep_features=True)
    assert measured.count == 120
    lines = evaluate(digits, str(tmp_path / "s.npz"), ("fd-digits", "mind-digits"))
    assert [line["value"] for line in lines] == pytest.approx([0, 0], abs=1e-4)
    assert any("the same pictures" in warning for warning in lines[0]["warnings"])
