import dataclasses

import numpy as np
import pytest

from dfm.errors import UserError
from dfm.evaluation.jobs import Evaluation, Sampler
from dfm.evaluation.metrics import METRICS, Value, result_name
from dfm.evaluation.plan import HONESTY, RECONSTRUCTION, Means, known_names, make_plan, parse_metrics
from dfm.evaluation.report import format_number, make_line, merge_repeats
from dfm.evaluation.sources import ArraySource
from dfm.metrics import networks
from dfm.metrics.networks import WeightFiles


@pytest.fixture
def digits_for_inception(monkeypatch):
    """The digits' classifier in Inception's place, with and without a head."""
    network = networks.load("digits")

    def put(head):
        own = dataclasses.replace(network, logits=network.logits if head else None, side=None)
        monkeypatch.setitem(networks.NETWORKS, "inception", lambda files: own)

    return put


def pictures(count=30, seed=0):
    return ArraySource("x", np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8))


def means(count=30, workdir=False, reference=None):
    return Means(workdir, reference, count, (8, 8, 1), WeightFiles())


def test_names_and_groups():
    assert [wish.name for wish in parse_metrics("reconstruction,honesty")] == [*RECONSTRUCTION, *HONESTY]
    wish = parse_metrics("kd-digits")[0]
    assert (wish.name, wish.metric, wish.network) == ("kd-digits", "kid", "digits")
    assert parse_metrics("fid-digits") == parse_metrics("fd-digits")
    assert [wish.name for wish in parse_metrics("fid, kid,fid")] == ["fid", "kid"]
    for name in known_names():
        assert parse_metrics(name)


def test_fid_is_the_name_of_one_network_only():
    for metric in METRICS:
        assert result_name(metric, "inception") == metric
        assert not result_name(metric, "digits").startswith(("fid", "kid", "is"))


@pytest.mark.parametrize("word", ["fd", "psnr-digits", "fd-imagenet", "kd"])
def test_nonsense_is_refused(word):
    with pytest.raises(UserError, match="unknown metric"):
        parse_metrics(word)


def test_inception_score_needs_the_head(digits_for_inception):
    wishes = parse_metrics("is,fid")
    digits_for_inception(head=False)
    with pytest.raises(UserError, match="is: these weights lack the 1008-way head.*These remain: fid"):
        make_plan(wishes, means(reference=pictures()))
    digits_for_inception(head=True)
    plan = make_plan(wishes, means(reference=pictures()))
    assert plan.by_network == {"inception": ["is", "fid"]}
    evaluation = Evaluation(plan, pictures(40, seed=1), WeightFiles(), seeds=[0])
    lines = list(evaluation.sample_lines(Sampler(lambda seed: pictures())))
    assert [line["metric"] for line in lines] == ["is", "fid"]
    assert 1 <= lines[0]["value"] <= 10 and lines[0]["spread_over"] == "splits" and lines[0]["details"]["head_sha256"]


def test_counts_that_are_too_small_are_refused():
    for metric, smallest in [("precision_recall-digits", 4), ("density_coverage-digits", 6), ("fd-digits", 2)]:
        with pytest.raises(UserError, match=f"at least {smallest} are needed"):
            make_plan(parse_metrics(metric), means(count=smallest - 1, reference=pictures()))
        with pytest.raises(UserError, match=f"at least {smallest} are needed"):
            make_plan(parse_metrics(metric), means(reference=pictures(smallest - 1)))


def test_repeats_are_merged():
    merged = merge_repeats([Value(1.0, 0.1, "subsets", {"k": 3}), Value(3.0, 0.2, "subsets", {"k": 3})])
    assert (merged.value, merged.spread, merged.spread_over) == (2.0, pytest.approx(np.sqrt(2)), "repeats")
    assert merged.details == {"k": 3, "values": [1.0, 3.0], "spreads": [0.1, 0.2]}
    assert merge_repeats([Value(1.0, 0.1, "splits")]).spread_over == "splits"
    assert merge_repeats([Value(None), Value(1.0)]).value is None


def test_lines_hold_no_nan():
    line = make_line("fid", Value(float("nan"), details={"x": float("inf")}), {"warnings": []}, {"commit": None})
    assert line["value"] is None and line["details"] == {"x": None}


def test_numbers_for_people():
    assert [format_number(x) for x in (None, 110.298799, 0.0001234567, 5.0)] == ["", "110.2988", "0.0001235", "5"]
