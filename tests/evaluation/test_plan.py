import dataclasses

import numpy as np
import pytest

from dfm.errors import UserError
from dfm.evaluation.evaluation import Evaluation, Sampler
from dfm.evaluation.metric import SAMPLES, Metric, Value
from dfm.evaluation.plan import Resources, make_plan
from dfm.evaluation.references import Statistics
from dfm.evaluation.registry import GROUPS, METRICS, known_names, parse_metrics, result_name
from dfm.evaluation.report import format_number, make_line, merge_repeats
from dfm.evaluation.sources import ArraySource
from dfm.metrics import networks


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


def resources(count=30, model=False, reference=None):
    return Resources(True, model, reference, count, (8, 8, 1))


def test_names_and_groups():
    reconstruction = ["psnr", "ssim", "ms_ssim", "lpips", "rfid"]
    diagnostics = ["memorisation", "active_units", "posterior_kl", "posterior_sliced", "smoothness"]
    found = [request.name for request in parse_metrics("reconstruction,diagnostics")]
    assert found == [*reconstruction, *diagnostics]
    assert GROUPS["latents"] == ("active_units", "posterior_kl", "posterior_sliced")
    assert parse_metrics("honesty") == parse_metrics("diagnostics")  # the word of earlier versions
    request = parse_metrics("kd-digits")[0]
    assert (request.name, request.metric, request.network) == ("kd-digits", "kid", "digits")
    assert parse_metrics("fid-digits") == parse_metrics("fd-digits")
    assert [request.name for request in parse_metrics("fid, kid,fid")] == ["fid", "kid"]
    assert parse_metrics(("fid", "kid")) == parse_metrics("fid,kid")
    for name in known_names():
        assert parse_metrics(name)


def test_fid_is_the_name_of_one_network_only():
    for metric in (name for name, entry in METRICS.items() if entry.features):
        assert result_name(metric, "inception") == metric
        assert not result_name(metric, "digits").startswith(("fid", "kid", "is"))


@pytest.mark.parametrize("word", ["fd", "psnr-digits", "fd-imagenet", "kd"])
def test_nonsense_is_refused(word):
    with pytest.raises(UserError, match="unknown metric"):
        parse_metrics(word)


def test_inception_score_needs_the_head(digits_for_inception):
    requests = parse_metrics("is,fid")
    digits_for_inception(head=False)
    with pytest.raises(UserError, match="is: these weights lack the 1008-way head.*These remain: fid"):
        make_plan(requests, resources(reference=pictures()))
    digits_for_inception(head=True)
    plan = make_plan(requests, resources(reference=pictures()))
    assert plan.networks_of("samples") == {"inception": requests}
    lines = list(Evaluation(plan, [Sampler(lambda seed: pictures())], pictures(40, seed=1)).lines())
    assert [line["metric"] for line in lines] == ["is", "fid"]
    assert 1 <= lines[0]["value"] <= 10 and lines[0]["spread_over"] == "splits" and lines[0]["details"]["head_sha256"]


def test_a_metric_on_samples_may_look_at_the_pictures(monkeypatch):
    """Mean brightness has no network: one line over seeds all the same, and a refusal where there are no pictures."""

    def brightness(inputs):
        means = [
            np.mean(np.concatenate(list(source.batches(0, source.count))))
            for source in (inputs.samples, inputs.originals)
        ]
        return {"brightness": Value(float(means[0] - means[1]))}

    monkeypatch.setitem(METRICS, "brightness", Metric(brightness, "difference of means", SAMPLES))
    white, grey = (
        ArraySource(name, np.full((3, 8, 8, 1), level, np.uint8)) for name, level in (("w", 255), ("g", 100))
    )
    plan = make_plan(parse_metrics("brightness"), resources(count=3, reference=grey))
    sampler = Sampler(lambda seed: (white, grey)[seed])
    lines = list(Evaluation(plan, [sampler], grey, seeds=(0, 1)).lines())
    assert [(line["metric"], line["value"], line["details"]["values"]) for line in lines] == [
        ("brightness", 77.5, [155.0, 0.0])
    ]
    assert lines[0]["samples"]["count"] == 3 and lines[0]["reference"]["id"] == "g"
    with pytest.raises(UserError, match="brightness: needs the references' pictures, and moments.npz holds statistics"):
        make_plan(parse_metrics("brightness"), resources(reference=Statistics("moments.npz", {})))


def test_counts_that_are_too_small_are_refused():
    for metric, smallest in [("precision_recall-digits", 4), ("density_coverage-digits", 6), ("fd-digits", 2)]:
        with pytest.raises(UserError, match=f"at least {smallest} are needed"):
            make_plan(parse_metrics(metric), resources(count=smallest - 1, reference=pictures()))
        with pytest.raises(UserError, match=f"at least {smallest} are needed"):
            make_plan(parse_metrics(metric), resources(reference=pictures(smallest - 1)))


def test_repeats_are_merged():
    merged = merge_repeats([Value(1.0, 0.1, "subsets", {"k": 3}), Value(3.0, 0.2, "subsets", {"k": 3})])
    assert (merged.value, merged.spread, merged.spread_over) == (2.0, pytest.approx(np.sqrt(2)), "repeats")
    assert merged.details == {"k": 3, "values": [1.0, 3.0], "spreads": [0.1, 0.2]}
    assert merge_repeats([Value(1.0, 0.1, "splits")]).spread_over == "splits"
    assert merge_repeats([Value(None), Value(1.0)]).value is None


def test_lines_hold_no_nan():
    line = make_line("fid", Value(float("nan"), details={"x": float("inf")}), {"warnings": []}, {"commit": None})
    assert line["value"] is None and line["details"] == {"x": None, "why_null": "the computation gave nan"}


def test_numbers_for_people():
    assert [format_number(x) for x in (None, 110.298799, 0.0001234567, 5.0)] == ["", "110.2988", "0.0001235", "5"]
