"""BD-rates: the definition's fixed points, and curves that it does not fit."""

import pytest

from dfm.codec.bench.codecs import Codec
from dfm.codec.bench.rate_distortion import bd_rate, summarise

CURVE = [(0.2, 25.0), (0.4, 28.0), (0.8, 31.5), (1.6, 35.5)]


def test_bd_rate_against_itself_is_zero():
    assert bd_rate(CURVE, CURVE)["percent"] == pytest.approx(0, abs=1e-9)


def test_bd_rate_at_half_the_rate_is_minus_fifty_percent():
    entry = bd_rate(CURVE, [(rate / 2, value) for rate, value in CURVE])
    assert entry["percent"] == pytest.approx(-50)
    assert entry["psnr_range"] == [25.0, 35.5] and entry["overlap"] == 1 and entry["reason"] is None


def test_bd_rate_of_other_numbers_of_points_and_partial_overlap():
    entry = bd_rate(CURVE, [(0.3, 24.0), (0.5, 27.0), (0.9, 30.0)])
    assert entry["psnr_range"] == [25.0, 30.0]
    assert entry["overlap"] == pytest.approx(5 / 11.5)
    assert entry["percent"] > 0


def test_bd_rate_without_overlap_says_why():
    entry = bd_rate(CURVE, [(0.1, 10.0), (0.2, 12.0)])
    assert entry["percent"] is None and "no common PSNR" in entry["reason"]
    assert "fewer than two points" in bd_rate(CURVE, [(0.3, 27.0)])["reason"]
    assert "fewer than two points" in bd_rate(CURVE, [(0.3, None), (0.4, 30.0)])["reason"]


def test_bd_rate_ignores_points_that_cost_more_for_less():
    with_waste = [*CURVE, (0.9, 30.0), (1.6, 35.0)]
    assert bd_rate(with_waste, CURVE)["percent"] == pytest.approx(0, abs=1e-9)


def test_bd_rates_of_a_run():
    def rows(codec, factor):
        return [
            {
                "picture": picture,
                "codec": codec,
                "setting": str(index),
                "bits_per_pixel": factor * rate * scale,
                "psnr": value,
                "ssim": 0.9,
                "mse": 255**2 / 10 ** (value / 10),
                "encode_seconds": 0.1,
                "encode_compile_seconds": 0.0,
                "decode_seconds": 0.1,
                "decode_compile_seconds": 0.0,
            }
            for picture, scale in (("a", 1), ("b", 2))
            for index, (rate, value) in enumerate(CURVE)
        ]

    codecs = [Codec(name, "", ("0", "1", "2", "3"), None, None) for name in ("jpeg", "half")]
    found = summarise(rows("jpeg", 1) + rows("half", 0.5), codecs, "as-is", "jpeg")["bd_rate"]["codecs"]
    assert found["jpeg"]["averaged_curve"]["percent"] == pytest.approx(0, abs=1e-9)
    assert found["half"]["averaged_curve"]["percent"] == pytest.approx(-50)
    assert found["half"]["per_picture_mean"]["percent"] == pytest.approx(-50)
    assert found["half"]["per_picture_mean"]["pictures"] == 2
    alone = summarise(rows("half", 0.5), codecs[1:], "as-is", "jpeg")["bd_rate"]["codecs"]["half"]
    assert alone["averaged_curve"]["reason"] == "no jpeg in this run"
