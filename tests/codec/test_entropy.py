"""Tables are the same for ever and everywhere; coding is exact, near the ideal length, and safe on damaged bytes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfm.codec import entropy
from dfm.errors import UserError

ALL_TABLES = [(shape, index) for shape in entropy.SHAPES for index in range(1, entropy.SCALES)]
SYMBOLS = np.arange(-entropy.MAX, entropy.MAX + 1)


def standard_deviation(index):
    return 2 ** ((index - 17) / 4)


def draw(shape, index, count, seed=0):
    """`count` integers from one table's own distribution."""
    probabilities = entropy.frequencies(shape, index) / entropy.TOTAL
    return np.random.default_rng(seed).choice(SYMBOLS, count, p=probabilities).astype(np.int32)


def encode(*messages):
    encoder = entropy.Encoder()
    for message in messages:
        encoder.put(*message)
    return encoder.finish()


def test_tables_never_change():
    # A change here makes every .dfm file written before it unreadable.
    assert entropy.tables_hash() == "4e977ff28dc2964ec25e8282869936e7605b977809a5a9a895c362d03b14b6d9"


@pytest.mark.parametrize("shape", entropy.SHAPES)
def test_tables_are_complete_and_symmetric(shape):
    for index in range(1, entropy.SCALES):
        table = entropy.frequencies(shape, index)
        assert table.sum() == entropy.TOTAL and table.min() >= 1
        np.testing.assert_array_equal(table, table[::-1])
        assert (np.diff(table[entropy.MAX :]) <= 1).all()  # falls, up to rounding


@pytest.mark.parametrize("index", [9, 13, 17, 25, 33, 41])
def test_tables_are_the_named_distributions(index):
    sigma = standard_deviation(index)
    edges = np.arange(entropy.MAX + 1) + 0.5

    def gaussian_tail(x):
        return math.erfc(x / sigma / math.sqrt(2)) / 2

    def laplace_tail(x):
        return math.exp(-math.sqrt(2) * x / sigma) / 2

    for shape, tail in [("gaussian", gaussian_tail), ("laplace", laplace_tail)]:
        tails = np.array([tail(x) for x in edges])
        expected = np.concatenate([[1 - 2 * tails[0]], tails[:-1] - tails[1:]])
        found = entropy.frequencies(shape, index)[entropy.MAX :] / entropy.TOTAL
        # the midpoint rule errs with (subcell / sigma)^2; one count for every symbol is 0.02 % in all
        assert np.abs(found - expected).sum() < 0.0005 + 0.0005 / sigma**2


def test_constriction_takes_the_tables_exactly():
    """A symbol's interval is 2^40 - 1 times its cumulative and its frequency, to the last bit: nothing is rounded."""
    unit = (2**64 - 1) >> 24
    for shape, index in ALL_TABLES[::9]:
        table = entropy.frequencies(shape, index)
        cumulative = np.cumsum(table) - table
        for symbol in (*range(0, entropy.MAX, 50), *range(entropy.MAX - 9, entropy.MAX + 10), 2 * entropy.MAX):
            lower = unit * int(cumulative[symbol])
            upper = lower + unit * int(table[symbol])
            points = {lower: symbol, upper - 1: symbol}
            if lower:
                points[lower - 1] = symbol - 1
            for point, expected in points.items():
                decoder = entropy.Decoder(point.to_bytes(8, "big"))
                assert decoder.get(1, shape, index) == expected - entropy.MAX


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(ALL_TABLES), st.integers(0, 300), st.integers(0, 2**32 - 1)), max_size=5))
def test_round_trip(parts):
    messages = [(draw(*table, count, seed), *table) for table, count, seed in parts]
    data = encode(*messages)
    decoder = entropy.Decoder(data)
    for values, shape, index in messages:
        np.testing.assert_array_equal(decoder.get(len(values), shape, index), values)
    decoder.finish()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ALL_TABLES), st.lists(st.integers(-entropy.MAX, entropy.MAX), max_size=40))
def test_round_trip_of_improbable_values(table, values):
    data = encode((values, *table))
    decoder = entropy.Decoder(data)
    np.testing.assert_array_equal(decoder.get(len(values), *table), values)
    decoder.finish()
    assert len(data) <= entropy.code_length_bits(np.array(values, int), *table) * 1.005 / 8 + 2


@pytest.mark.parametrize("shape,index", [*ALL_TABLES[8::11], ("gaussian", 30)])
def test_length_is_near_the_ideal(shape, index):
    values = draw(shape, index, 20_000)
    ideal_bytes = entropy.code_length_bits(values, shape, index) / 8
    assert ideal_bytes - 1 <= len(encode((values, shape, index))) <= 1.001 * ideal_bytes + 2


def test_all_zero_costs_nothing():
    data = encode((np.zeros(10_000, np.int32), "laplace", 0))
    assert data == b""
    decoder = entropy.Decoder(data)
    assert not decoder.get(10_000, "laplace", 0).any()
    decoder.finish()
    assert entropy.best_scale(np.zeros(10, int)) == 0
    assert entropy.code_lengths([0, 1], "laplace")[0] == math.inf


@pytest.mark.parametrize("shape", entropy.SHAPES)
def test_best_scale_is_the_cheapest_and_finds_the_truth(shape):
    for index in (13, 20, 31, 44):
        values = draw(shape, index, 4000)
        best = entropy.best_scale(values, shape)
        assert abs(best - index) <= 1
        lengths = [entropy.code_length_bits(values, shape, other) for other in range(entropy.SCALES)]
        assert lengths[best] == min(lengths)
        assert lengths[best] == pytest.approx(entropy.code_lengths_each(values, shape, best).sum())


def test_values_that_no_table_holds():
    with pytest.raises(UserError, match="larger step"):
        entropy.best_scale(np.array([0, entropy.MAX + 1]))
    with pytest.raises(ValueError, match="do not fit"):
        entropy.Encoder().put([entropy.MAX + 1], "laplace", 5)
    with pytest.raises(ValueError, match="do not fit"):
        entropy.Encoder().put([1], "laplace", 0)


def test_every_other_byte_string_is_refused_or_another_message():
    """A message has one file: what decodes to it with bytes changed, missing or added is refused."""
    values = draw("gaussian", 21, 60)
    data = encode((values, "gaussian", 21))
    changed = [data[:length] for length in range(len(data))]
    changed += [data + bytes([extra]) for extra in range(256)]
    changed += [data[:i] + bytes([data[i] ^ flip]) + data[i + 1 :] for i in range(len(data)) for flip in range(1, 256)]
    for other in changed:
        decoder = entropy.Decoder(other)
        try:
            found = decoder.get(len(values), "gaussian", 21)
            decoder.finish()
        except UserError:
            continue
        assert (found != values).any()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80), st.lists(st.tuples(st.sampled_from(ALL_TABLES), st.integers(0, 500)), max_size=6))
def test_random_bytes_never_crash(data, parts):
    decoder = entropy.Decoder(data)
    try:
        for table, count in parts:
            assert np.abs(decoder.get(count, *table)).max(initial=0) <= entropy.MAX
        decoder.finish()
    except UserError:
        pass
