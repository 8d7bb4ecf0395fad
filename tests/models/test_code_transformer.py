"""The prior over codes: a distribution, causal, drawn as it says, a sample by itself."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfm.errors import UserError
from dfm.models.code_transformer import CodeTransformer

TINY = {"layers": 2, "features": 8, "heads": 2}


def made(height, width, codes, classes=0, seed=0):
    """A model with parameters large enough to have an opinion."""
    model = CodeTransformer(height, width, codes, classes=classes, **TINY)
    variables = jax.jit(model.init)(jax.random.key(seed), jnp.zeros((1, height, width, 1)))
    return model, jax.tree.map(lambda leaf: 4 * leaf if leaf.ndim > 1 else leaf, variables)


def apply(model, variables, *arguments, method):
    return jax.jit(lambda *arguments: model.apply(*arguments, method=method))(variables, *arguments)


def all_codes(codes, positions):
    return jnp.asarray(list(itertools.product(range(codes), repeat=positions)), jnp.int32)


@pytest.mark.parametrize("classes", [0, 2])
def test_probabilities_sum_to_one(classes):
    model, variables = made(2, 2, 3, classes)
    every = all_codes(3, 4)
    for label in range(max(1, classes)):
        labels = jnp.full(len(every), label) if classes else None
        log_prob = apply(model, variables, every, labels, method="log_prob").sum(1)
        assert float(jnp.exp(log_prob).sum()) == pytest.approx(1, abs=1e-5)


def test_a_code_hears_of_those_before_it_and_of_no_other():
    """d logit_i / d input_j = 0 for j >= i, and not for j < i: each position has a code of its own, so the derivative
    by a row of the embedding is that by one input."""
    model, variables = made(2, 3, 6)
    codes = jnp.asarray([[3, 0, 5, 1, 4, 2]], jnp.int32)

    def logits(table):
        params = {**variables["params"], "embedding": {"embedding": table}}
        return model.apply({"params": params}, codes, method="logits")[0]

    jacobian = jax.jit(jax.jacrev(logits))(
        variables["params"]["embedding"]["embedding"]
    )  # position, code, row, feature
    by_input = np.abs(np.asarray(jacobian)[:, :, codes[0]]).max((1, 3))
    heard = np.tril(np.ones((6, 6), bool), -1)
    assert (by_input[~heard] == 0).all() and (by_input[heard] > 0).all()


def test_codes_are_drawn_as_often_as_they_are_probable():
    model, variables = made(1, 3, 3)
    every = all_codes(3, 3)
    expected = np.exp(np.asarray(apply(model, variables, every, method="log_prob").sum(1)))
    noise = jax.random.normal(jax.random.key(0), (20_000, 3))
    drawn = apply(model, variables, noise, method="draw")
    counts = np.bincount(np.asarray(drawn) @ [9, 3, 1], minlength=27)
    np.testing.assert_allclose(counts / 20_000, expected, atol=0.012)
    assert expected.max() > 2 / 27


def test_kept_keys_and_values_change_nothing():
    """Position by position with the whole net each time; and a sample alone is that of a batch."""
    model, variables = made(2, 3, 5, classes=3)
    noise, labels = jax.random.normal(jax.random.key(1), (7, 6)), jnp.arange(7) % 3
    drawn = apply(model, variables, noise, labels, method="draw")
    codes = jnp.zeros((7, 6), jnp.int32)
    for position in range(6):
        chances = jax.nn.softmax(apply(model, variables, codes, labels, method="logits")[:, position])
        level = jax.scipy.stats.norm.cdf(noise[:, position])
        codes = codes.at[:, position].set((jnp.cumsum(chances, -1) <= level[:, None]).sum(-1))
    np.testing.assert_array_equal(drawn, codes)
    alone = apply(model, variables, noise[4:5], labels[4:5], method="draw")
    np.testing.assert_array_equal(alone[0], drawn[4])
    maps = apply(model, variables, noise, labels, method="decode")
    np.testing.assert_allclose(maps[..., 0].reshape(7, 6), 2 * drawn / 4 - 1, atol=1e-6)


def test_at_temperature_zero_the_most_likely_code_follows():
    model, variables = made(1, 4, 5)
    drawn = apply(model, variables, jax.random.normal(jax.random.key(2), (3, 4)), None, 0.0, method="draw")
    best = apply(model, variables, drawn, method="logits").argmax(-1)
    np.testing.assert_array_equal(drawn, best)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="cannot be shared out"):
        CodeTransformer(2, 2, 4, features=6, heads=4)
    with pytest.raises(ValueError, match="at least 1"):
        CodeTransformer(0, 2, 4)
    model, variables = made(2, 2, 4, classes=3)
    with pytest.raises(ValueError, match="conditioned on 3 classes: labels are needed"):
        model.apply(variables, jnp.zeros((1, 4)), method="decode")
    with pytest.raises(UserError, match="2x2, and no more"):
        model.apply(variables, jnp.zeros((1, 4)), jnp.zeros(1, jnp.int32), 3, 3, method="decode")
