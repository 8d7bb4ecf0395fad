"""The work of a decode is bounded; pictures of a size class are compiled once."""

import numpy as np
import pytest

from dfm import codec
from dfm.codec.bench.compilation import compilation_seconds
from dfm.codec.profiles import MAX_WORK, make_profile
from dfm.codec.weights.payload import Architecture, Net
from dfm.errors import UserError

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_more_work_than_the_limit_is_refused():
    data = codec.encode(np.full((20, 30, 3), 200, np.uint8), profile="weights")
    with pytest.raises(UserError, match=r"takes about 1.4e\+05 multiplications.*--any-work"):
        codec.decode(data, max_work=100_000)
    for limit in (200_000, None):
        assert codec.decode(data, max_work=limit).shape == (20, 30, 3)


def test_a_valid_file_of_hours_exceeds_the_default_limit():
    """115 kB may hold 64 layers of 12 inputs for 471 million pixels: eleven hours."""
    hours = Net(Architecture((12,) * 64, 3, "cos_sin", "quantized", 0.75), [])
    assert make_profile("weights", {}).work(hours, (2**14, 2**14, 3)) > 50 * MAX_WORK


@pytest.mark.parametrize("shape", [(1, 1, 3), (512, 768, 3), (3000, 4000, 3), (2**14, 2**14, 1)])
def test_nothing_is_planned_that_would_be_refused(shape):
    profile = make_profile("weights", {})
    plans = [profile.plan(shape, 100, None), *profile.ladder(shape)]
    assert all(profile.work(Net(plan.choice, []), shape) <= MAX_WORK for plan in plans)
    with pytest.raises(UserError, match="too much work"):
        make_profile("weights", {"widths": (12,) * 64}).plan((2**14, 2**14, 3), None, None)


def test_where_the_ladder_ends_is_said():
    profile = make_profile("weights", {})
    assert profile.plan((512, 768, 3), 75, None).note is None
    assert "the largest net takes about" in profile.plan((3000, 4000, 3), 100, None).note
    assert "less than 5,000,000" in profile.plan((512, 768, 3), None, 5_000_000).note


@pytest.mark.usefixtures("few_steps_and_nets")
def test_a_second_picture_of_a_size_class_compiles_nothing(photo):
    """Neither to encode it nor to decode it: 12x16, 11x15 and 14x17 pixels are padded alike."""
    codec.decode(codec.encode(photo, widths=(2, 2)))
    for other in (photo[:11, :15], np.tile(photo, (2, 2, 1))[:14, 3:20]):
        with compilation_seconds() as compilation:
            data = codec.encode(other, widths=(2, 2))
            codec.decode(data)
        assert compilation.count == 0
