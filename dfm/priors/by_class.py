"""Densities p(z|y) for each class y of a conditional model, and the mixture p(z) = sum_y p(y) p(z|y)."""

import dataclasses
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray, UInt32

from dfm.errors import UserError
from dfm.priors.prior import Labels, Prior, Progress, draw_class, keys_at

CLASS_WEIGHTS, OF_CLASS = "class_log_weights", "by_class/"  # names of the stored arrays


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ByClass(Prior):
    """One density a class: `own`, with the class's arrays in place of some of its fields.

    Attributes:
        class_log_weights: log p(y), how often the latents had each class.
        own: the family, and all that the classes share.
        varying: fields of `own` with a leading axis of classes.
    """

    class_log_weights: Float[Array, " classes"]
    own: Prior
    varying: dict[str, Float[Array, "classes ..."]]

    @property
    def name(self) -> str:  # type: ignore[override]  # that of the family, which files and commands know
        return self.own.name

    @property
    def is_bound(self) -> bool:  # type: ignore[override]
        return self.own.is_bound

    @property
    def classes(self) -> int:
        return len(self.class_log_weights)

    @property
    def dimension(self) -> int:
        return self.own.dimension

    @classmethod
    def fit(cls, latents: Float[ArrayLike, "n d"], **options: Any) -> Self:
        raise TypeError("densities by class are fitted by `fit_by_class`")

    def of_class(self, label: Any) -> Prior:
        """p(z|y) of one class."""
        fields = {name: jnp.asarray(values)[label] for name, values in self.varying.items()}
        return dataclasses.replace(self.own, **fields)  # type: ignore[type-var]

    def sample_one(self, key: PRNGKeyArray, temperature: Float[ArrayLike, ""]) -> Float[Array, " d"]:
        return self.of_class(draw_class(key, self.class_log_weights)).sample_one(key, temperature)

    @jax.jit
    def sample_at(
        self,
        key: PRNGKeyArray,
        indices: UInt32[ArrayLike, " n"],
        temperature: float | Array = 1.0,
        labels: Labels = None,
    ) -> Float[Array, "n d"]:
        keys = keys_at(key, indices)
        if labels is None:
            return jax.vmap(lambda own_key: self.sample_one(own_key, temperature))(keys)
        return jax.vmap(lambda own_key, label: self.of_class(label).sample_one(own_key, temperature))(keys, labels)

    @jax.jit
    def log_prob(self, z: Float[ArrayLike, "n d"], labels: Labels = None) -> Float[Array, " n"]:
        z = jnp.asarray(z)
        if labels is not None:
            return jax.vmap(lambda one, label: self.of_class(label).log_prob(one[None])[0])(z, jnp.asarray(labels))
        each = jax.lax.map(lambda label: self.of_class(label).log_prob(z), jnp.arange(self.classes))
        return jax.scipy.special.logsumexp(self.class_log_weights[:, None] + each, axis=0)

    def moments(self) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d d"]] | None:
        """By the laws of total mean and covariance."""
        found = [self.of_class(label).moments() for label in range(self.classes)]
        known = [moments for moments in found if moments is not None]
        if len(known) < len(found):
            return None
        weights = np.exp(np.asarray(self.class_log_weights, np.float64))
        means = np.stack([mean for mean, _ in known])
        within = sum(weight * covariance for weight, (_, covariance) in zip(weights, known, strict=True))
        centred = means - weights @ means
        return weights @ means, within + (weights[:, None] * centred).T @ centred

    def arrays(self) -> dict[str, np.ndarray]:
        varying = {OF_CLASS + name: np.asarray(values) for name, values in self.varying.items()}
        return {CLASS_WEIGHTS: np.asarray(self.class_log_weights), **self.own.arrays(), **varying}


def restored(family: type[Prior], arrays: dict[str, np.ndarray]) -> Prior:
    """The prior of stored arrays, by class or not; TypeError where they are not those of this family."""
    if CLASS_WEIGHTS not in arrays:
        return family.from_arrays(arrays)
    varying = {name.removeprefix(OF_CLASS): arrays[name] for name in arrays if name.startswith(OF_CLASS)}
    shared = {name: arrays[name] for name in arrays if not name.startswith(OF_CLASS) and name != CLASS_WEIGHTS}
    as_jax = {name: jnp.asarray(values, jnp.float32) for name, values in varying.items()}
    return ByClass(jnp.asarray(arrays[CLASS_WEIGHTS], jnp.float32), family.from_arrays(shared), as_jax)


def class_log_weights(labels: Int[np.ndarray, " n"], classes: int) -> Float[Array, " classes"]:
    """log of how often each class is there; e^-80 for one that is not, which is then never drawn unasked."""
    counts = np.bincount(labels, minlength=classes)
    return jnp.asarray(np.log(np.maximum(counts / len(labels), np.exp(-80.0))), jnp.float32)


def fit_by_class(
    family: type[Prior],
    latents: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    classes: int,
    progress: Progress | None = None,
    **options: Any,
) -> Prior:
    """p(z|y) of a family: by its own `fit_classes` where a net is told the label, otherwise one fit after the other.

    Raises:
        UserError: a class without latents, or one whose fit does not succeed, by its label.
    """
    counts = np.bincount(labels, minlength=classes)
    if (counts == 0).any():
        raise UserError(f"no latents of class {int(np.argmin(counts))}: a density for each class needs some of each")
    if own := getattr(family, "fit_classes", None):
        return own(latents, labels, classes, progress=progress, **options)
    fitted = []
    for label in range(classes):

        def report(done: int, total: int, before: int = label) -> None:
            if progress is not None:
                progress(before * total + done, classes * total)

        try:
            fitted.append(family.fit(latents[labels == label], progress=report, **options))
        except UserError as error:
            raise UserError(f"class {label}: {error}") from None
    varying = {
        field.name: jnp.stack([getattr(prior, field.name) for prior in fitted])
        for field in dataclasses.fields(fitted[0])  # type: ignore[arg-type]
    }
    return ByClass(class_log_weights(labels, classes), fitted[0], varying)
