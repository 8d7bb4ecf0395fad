"""Bounds on log p(x) of the reference's pictures, of models that were trained for one: nats, and bits a dimension.

Sums over a picture, means over pictures. Of a Gaussian or Laplace decoder, nats are of densities of values in [-1, 1],
which can be as high as one likes; bits/dim are of the Gaussian's mass on each of 256 levels (Ho et al. 2020), which
cannot: these compare between models. Of a Bernoulli decoder, nats are those of binary pictures.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from dfm.arrays import padded_batches, to_float
from dfm.evaluation.metric import MODEL, Inputs, Metric, Value, no_value
from dfm.evaluation.sources import CHUNK
from dfm.metrics.picture_quality import PEAK
from dfm.objectives.elbo import Elbo, iwae_nats
from dfm.objectives.likelihoods import SMALLEST_LOG_SIGMA, bits_per_dim

if TYPE_CHECKING:
    from dfm.sampling import RunData
    from dfm.training.runs import Run

FITTED_PICTURES = 5_000  # of the training, whose errors give the sigma of sigma: "optimal"
GREY = "the pictures are grey: the cross entropy of a Bernoulli decoder bounds no probability of theirs"
OF_LEVELS = ("gaussian", "discretised_gaussian")  # likelihoods with a mass on each of the 256 levels, hence bits/dim
NO_LEVELS = "bits/dim are of a Gaussian decoder's mass on 256 levels"


def why_no_likelihood(run: "Run") -> str | None:
    if not run.model.has_likelihood or not isinstance(run.objective, Elbo):
        return "the model was trained for no bound on log p(x)"
    return None


def _elbo(inputs: Inputs) -> dict[str, Value]:
    """ELBO = -(distortion + rate), with one draw z ~ q(z|x) a picture; the KL is in closed form where there is one."""
    objective = evaluated_objective(inputs)
    if _is_grey(objective, inputs):
        return dict.fromkeys(("elbo_nats", "distortion_nats", "rate_nats"), no_value(GREY))
    distortion, rate = _each(inputs, objective, _terms)
    found = {
        "elbo_nats": _value(-(distortion + rate), objective),
        "distortion_nats": _value(distortion, objective),
        "rate_nats": _value(rate, objective),
    }
    if objective.likelihood not in OF_LEVELS:
        return found | {"elbo_bits_per_dim": no_value(NO_LEVELS)}
    levels = dataclasses.replace(objective, likelihood="discretised_gaussian")
    return found | {"elbo_bits_per_dim": _bits(np.add(*_each(inputs, levels, _terms)), levels)}


def _iwae(inputs: Inputs) -> dict[str, Value]:
    """log 1/k sum_i p(x|z_i) p(z_i) / q(z_i|x), a bound that is tighter with every k (Burda et al. 2016)."""
    objective, name = evaluated_objective(inputs), f"iwae_{inputs.draws}"
    if _is_grey(objective, inputs):
        return {f"{name}_nats": no_value(GREY)}
    bound = functools.partial(_bound, inputs.draws)
    found = {f"{name}_nats": _value(-_each(inputs, objective, bound)[0], objective)}
    if objective.likelihood not in OF_LEVELS:
        return found | {f"{name}_bits_per_dim": no_value(NO_LEVELS)}
    levels = dataclasses.replace(objective, likelihood="discretised_gaussian")
    return found | {f"{name}_bits_per_dim": _bits(_each(inputs, levels, bound)[0], levels)}


def evaluated_objective(inputs: Inputs) -> Elbo:
    """The run's objective with a sigma that does not look at the pictures that are evaluated.

    Where it was "optimal" for each batch, it is the root mean squared error of the training pictures.
    """
    assert inputs.data is not None and isinstance(inputs.data.run.objective, Elbo)
    objective = inputs.data.run.objective
    if objective.sigma != "optimal":
        return objective
    return dataclasses.replace(objective, sigma="fixed", sigma_value=_training_error(inputs.data, inputs.seed))


def _training_error(data: "RunData", seed: int) -> float:
    """Root mean squared error of training pictures from draws of their posteriors, in values of [-1, 1]."""
    rows = np.arange(min(FITTED_PICTURES, len(data.train))) * len(data.train) // min(FITTED_PICTURES, len(data.train))
    pictures, labels = data.pictures(data.train, rows), data.train.labels[rows]
    objective, params = data.run.objective, data.run.params
    found = [
        np.asarray(_errors(objective, params, images, own, jax.random.key(seed)))[:count]
        for images, own, count in _batches(pictures, labels)
    ]
    return max(float(np.sqrt(np.concatenate(found).mean())), float(np.exp(SMALLEST_LOG_SIGMA)))


def _each(inputs: Inputs, objective: Elbo, function: Callable[..., Any]) -> list[np.ndarray]:
    """Numbers of `function` for each picture, one array for each that it returns."""
    assert inputs.data is not None and inputs.originals is not None
    source, params = inputs.originals, inputs.data.run.params
    position, found = 0, []
    for pictures in source.batches(0, source.count):
        labels = None if source.labels is None else source.labels[position : position + len(pictures)]
        for images, own, count in _batches(pictures, labels):
            key = jax.random.fold_in(jax.random.key(inputs.seed), position)
            numbers = function(objective, params, images, own, key)
            found.append([np.asarray(part, np.float64)[:count] for part in numbers])
            position += count
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def _batches(pictures: np.ndarray, labels: np.ndarray | None) -> Iterator[tuple[Any, Any, int]]:
    if labels is None:
        labels = np.zeros(len(pictures), np.int32)
    both = zip(padded_batches(pictures, CHUNK), padded_batches(labels, CHUNK), strict=True)
    return ((jnp.asarray(images), jnp.asarray(own), count) for (images, count), (own, _) in both)


@functools.partial(jax.jit, static_argnums=0)
def _terms(objective: Elbo, params: Any, images: jax.Array, labels: jax.Array, key: jax.Array) -> Any:
    return objective.terms(params, to_float(images), labels if objective.model.classes else None, key)[:2]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _bound(draws: int, objective: Elbo, params: Any, images: jax.Array, labels: jax.Array, key: jax.Array) -> Any:
    own = labels if objective.model.classes else None
    return (iwae_nats(objective, params, to_float(images), own, key, draws),)


@functools.partial(jax.jit, static_argnums=0)
def _errors(objective: Elbo, params: Any, images: jax.Array, labels: jax.Array, key: jax.Array) -> jax.Array:
    return objective.terms(params, to_float(images), labels if objective.model.classes else None, key)[2]


def _is_grey(objective: Elbo, inputs: Inputs) -> bool:
    """Whether a Bernoulli decoder is asked for the probability of pictures that are not black and white."""
    assert inputs.originals is not None
    if objective.likelihood != "bernoulli":
        return False
    batches = inputs.originals.batches(0, inputs.originals.count)
    return any(((batch != 0) & (batch != PEAK)).any() for batch in batches)


def _value(each: np.ndarray, objective: Elbo) -> Value:
    details: dict[str, Any] = {
        "likelihood": objective.likelihood,
        "count": len(each),
        "sum_over": "a picture",
        "mean_over": "pictures",
    }
    if objective.likelihood != "bernoulli":
        details["sigma"] = objective.sigma if objective.sigma == "learned" else objective.sigma_value
    return Value(float(each.mean()), float(each.std()), "pictures", details)


def _bits(nats: np.ndarray, objective: Elbo) -> Value:
    model = objective.model
    return _value(bits_per_dim(nats, (model.height, model.width, model.channels)), objective)


LIKELIHOOD_METRICS: dict[str, Metric] = {
    "elbo": Metric(_elbo, "evidence lower bound: distortion and rate", MODEL, ("likelihood",), likelihood=True),
    "iwae": Metric(
        _iwae,
        "importance-weighted bound on log p(x)",
        MODEL,
        ("likelihood",),
        likelihood=True,
        options=("importance_samples",),
    ),
}
