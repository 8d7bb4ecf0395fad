"""The ladder of nets and the scale of quality."""

import itertools

import pytest

from dfm.codec.weights import architectures
from dfm.codec.weights.payload import PRECISIONS, Architecture
from dfm.errors import UserError
from dfm.models.fourier import coefficient_count


def test_quality_scale():
    rates = [architectures.bits_per_pixel(quality) for quality in range(101)]
    assert rates[0] == pytest.approx(0.05) and rates[100] == pytest.approx(2) and rates == sorted(rates)
    for quality in (-1, 100.5, float("nan")):
        with pytest.raises(UserError, match="outside 0 ... 100"):
            architectures.bits_per_pixel(quality)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("basis", ["cos_sin", "cas"])
@pytest.mark.parametrize("channels", [1, 3])
def test_ladder(channels, basis, precision):
    ladder = architectures.ladder(channels, basis)
    counts = [coefficient_count(widths, channels, basis) for widths in ladder]
    assert counts == sorted(set(counts)) and len(set(ladder)) == len(ladder) > 30
    sizes = [architectures.expected_bytes(widths, channels, basis, precision) for widths in ladder]
    assert all(small < large for small, large in itertools.pairwise(sizes))
    for widths in ladder:
        Architecture(widths, channels, basis, precision, 0.75)  # every net can be stored
