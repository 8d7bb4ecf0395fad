"""A prior that dfm.train has trained: a flow from noise to the normalised latents of a model."""

import dataclasses
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray, UInt32

from dfm.errors import UserError
from dfm.priors.prior import CLASS_DRAW, Prior, keys_at


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LatentFlowPrior(Prior):
    """Latents mean + deviation flow(noise), flattened.

    Attributes:
        model: the flow's module, `decode` being its solver; hashable.
        variables: its parameters.
        mean, deviation: of each channel of the latents.
    """

    name: ClassVar[str] = "latents"
    model: Any = dataclasses.field(metadata={"static": True})
    variables: dict[str, Any]
    mean: Float[Array, " channels"]
    deviation: Float[Array, " channels"]

    @property
    def dimension(self) -> int:
        rows, columns, channels = self.model.latent_shape
        return rows * columns * channels

    @property
    def classes(self) -> int:
        return self.model.classes

    @classmethod
    def fit(cls, latents: Float[ArrayLike, "n d"], **options: Any) -> Self:
        raise UserError("a flow is trained by dfm.train, on the data set latents:RUN")

    def sample_one(self, key: PRNGKeyArray, temperature: Float[ArrayLike, ""] = 1.0) -> Float[Array, " d"]:
        return self._of_keys(key[None], temperature, None)[0]

    @jax.jit
    def sample_at(
        self,
        key: PRNGKeyArray,
        indices: UInt32[ArrayLike, " n"],
        temperature: float | Array = 1.0,
        labels: Int[ArrayLike, " n"] | None = None,
    ) -> Float[Array, "n d"]:
        """As `Prior.sample_at`; the flow takes all samples together. Temperature is that of the noise.

        Args:
            labels: of a flow with classes; None: each class as often as the others.
        """
        return self._of_keys(keys_at(key, indices), temperature, labels)

    def log_prob(self, z: Float[ArrayLike, "n d"], labels: Any = None) -> Float[Array, " n"]:
        raise UserError("the density of a flow of latents is not computed")

    def _of_keys(self, keys: Array, temperature: Any, labels: Any) -> Float[Array, "n d"]:
        noise = jax.vmap(lambda own: jax.random.normal(own, self.model.latent_shape))(keys)
        if self.classes and labels is None:
            draw = lambda own: jax.random.randint(jax.random.fold_in(own, CLASS_DRAW), (), 0, self.classes)  # noqa: E731
            labels = jax.vmap(draw)(keys)
        labels = jnp.asarray(labels) if self.classes else None
        found = self.model.apply(self.variables, temperature * noise, labels, method="decode")
        return (self.mean + self.deviation * found).reshape(len(keys), -1)
