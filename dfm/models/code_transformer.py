"""A prior over the codes of a VQ-VAE (van den Oord et al. 2017, section 3.3): a causal transformer.

log p(k [| y]) = sum_i log p(k_i | k_1 ... k_(i-1) [, y]) over the positions of the grid, row by row. Drawing is a
function of noise, one standard normal number a position: the inverse of the distribution function of k_i at Phi(z_i).
So the model is a generator like any other, whose pictures are maps of codes, and a sample depends on its own noise.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, ArrayLike, Float, Int

from dfm.errors import UserError
from dfm.shapes import typechecked

Labels = Int[Array, " batch"] | None
Cache = tuple[Array, Array]  # keys and values of one block, [batch, positions, heads, features / heads]


class CodeTransformer(nn.Module):
    """Attributes:
    height, width: rows and columns of the grid; in a config 0 stands for those of the data.
    codes: K, the size of the book; likewise.
    layers, features, heads: of the transformer.
    classes: number of labels that it is conditioned on; 0: none.
    """

    height: int
    width: int
    codes: int
    layers: int = 4
    features: int = 128
    heads: int = 4
    classes: int = 0

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.codes, self.layers, self.features, self.heads) < 1:
            raise ValueError("height, width, codes, layers, features and heads must be at least 1")
        if self.features % self.heads:
            raise ValueError(f"features {self.features} cannot be shared out among {self.heads} heads")
        super().__post_init__()

    @property
    def channels(self) -> int:
        return 1

    @property
    def stride(self) -> int:
        return 1

    @property
    def positions(self) -> int:
        return self.height * self.width

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return (self.positions,)

    @property
    def encodes(self) -> bool:
        return False

    @property
    def has_likelihood(self) -> bool:
        return True

    def setup(self):
        small = nn.initializers.normal(0.02)
        self.embedding = nn.Embed(self.codes, self.features, embedding_init=small)
        self.begin = nn.Embed(max(1, self.classes), self.features, embedding_init=small)  # in front of the first code
        self.places = self.param("places", small, (self.positions, self.features))
        self.blocks = [CausalBlock(self.features, self.heads) for _ in range(self.layers)]
        self.norm, self.head = nn.LayerNorm(), nn.Dense(self.codes)

    def __call__(self, images: Float[Array, "batch height width 1"], labels: Labels = None) -> Array:
        """All parameters in one call, for `init`."""
        if self.classes and labels is None:
            labels = jnp.zeros(len(images), jnp.int32)
        return self.logits(images.reshape(len(images), -1).astype(jnp.int32), labels)

    def encode(self, images: Array, labels: Labels = None):
        raise UserError("a prior over codes has no encoder")

    @typechecked
    def logits(
        self, codes: Int[Array, "batch positions"], labels: Labels = None
    ) -> Float[Array, "batch positions codes"]:
        """Of each code, given those before it."""
        x = jnp.concatenate([self._first(labels, len(codes))[:, None], self.embedding(codes)[:, :-1]], 1) + self.places
        visible = jnp.tril(jnp.ones((self.positions, self.positions), bool))
        for block in self.blocks:
            x, _ = block(x, visible)
        return self.head(self.norm(x))

    def log_prob(self, codes: Int[Array, "batch positions"], labels: Labels = None) -> Float[Array, "batch positions"]:
        """log p(k_i | k_<i) of each code, in nats."""
        logits = self.logits(codes, labels).astype(jnp.float32)
        return jnp.take_along_axis(jax.nn.log_softmax(logits), codes[..., None], -1)[..., 0]

    @typechecked
    def draw(
        self, noise: Float[Array, "batch positions"], labels: Labels = None, temperature: Float[ArrayLike, ""] = 1.0
    ) -> Int[Array, "batch positions"]:
        """Codes of noise, one after the other; keys and values of those before are kept.

        Args:
            temperature: divides the logits; 0: the most likely code each time.
        """
        module, variables = self.unbind()
        shape = (len(noise), self.positions, self.heads, self.features // self.heads)
        cache = [(jnp.zeros(shape), jnp.zeros(shape)) for _ in range(self.layers)]

        def step(carry: tuple[Array, list[Cache]], own: tuple[Array, Array]) -> tuple[Any, Array]:
            (before, cache), (position, noise) = carry, own
            found: Any = module.apply(variables, before, position, cache, labels, method="_next")
            logits, cache = found
            chances = jax.nn.softmax(logits.astype(jnp.float32) / jnp.maximum(temperature, 1e-6))
            below = jnp.cumsum(chances, -1)
            level = jnp.minimum(jax.scipy.stats.norm.cdf(noise), 1.0 - 1e-6)[:, None] * below[:, -1:]
            code = jnp.argmax(below > level, -1).astype(jnp.int32)  # the first: one of chance 0 is never it
            return (code, cache), code

        start = jnp.zeros(len(noise), jnp.int32)
        _, codes = jax.lax.scan(step, (start, cache), (jnp.arange(self.positions), noise.T))
        return codes.T

    def decode(
        self,
        z: Float[Array, "batch positions"],
        labels: Labels = None,
        height: int | None = None,
        width: int | None = None,
    ) -> Float[Array, "batch height width 1"]:
        """Maps of codes as grey levels, code 0 black and the last one white.

        Raises:
            UserError: a larger size than that of the grid.
        """
        if (height or 0) > self.height or (width or 0) > self.width:
            raise UserError(f"these maps of codes are {self.height}x{self.width}, and no more, not {height}x{width}")
        codes = self.draw(z, labels).reshape(-1, self.height, self.width, 1)
        return (2.0 * codes / max(1, self.codes - 1) - 1.0)[:, :height, :width]

    def _first(self, labels: Labels, count: int) -> Float[Array, "batch features"]:
        if self.classes and labels is None:
            raise ValueError(f"this model is conditioned on {self.classes} classes: labels are needed")
        return self.begin(labels if self.classes else jnp.zeros(count, jnp.int32))

    def _next(self, before: Array, position: Array, cache: list[Cache], labels: Labels) -> tuple[Array, list[Cache]]:
        """Logits at one position, after the code before it."""
        x = jnp.where(position == 0, self._first(labels, len(before)), self.embedding(before)) + self.places[position]
        x, visible, kept = x[:, None], (jnp.arange(self.positions) <= position)[None], []
        for block, own in zip(self.blocks, cache, strict=True):
            x, own = block(x, visible, own, position)
            kept.append(own)
        return self.head(self.norm(x))[:, 0], kept


class CausalBlock(nn.Module):
    """x + attention(norm(x)), then x + net(norm(x)): pre-norm (Xiong et al. 2020)."""

    features: int
    heads: int

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch queries features"],
        visible: Array,
        cache: Cache | None = None,
        position: Array | int = 0,
    ) -> tuple[Array, Cache]:
        """(output, keys and values).

        Args:
            visible: [queries, positions], what each query may see.
            cache: keys and values of all positions, into which those of these queries go at `position`.
        """
        shape = (*x.shape[:2], self.heads, self.features // self.heads)
        mixed = nn.Dense(3 * self.features)(nn.LayerNorm()(x))
        query, key, value = (part.reshape(shape) for part in jnp.split(mixed, 3, -1))
        if cache is not None:
            key, value = (
                jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), position, 1)
                for old, new in zip(cache, (key, value), strict=True)
            )
        scores = jnp.einsum("bqhe,bphe->bhqp", query, key) / shape[-1] ** 0.5
        scores = jnp.where(visible, scores.astype(jnp.float32), -jnp.inf)
        seen = jnp.einsum("bhqp,bphe->bqhe", jax.nn.softmax(scores).astype(x.dtype), value)
        x = x + nn.Dense(self.features)(seen.reshape(x.shape))
        hidden = jax.nn.gelu(nn.Dense(4 * self.features)(nn.LayerNorm()(x)))
        return x + nn.Dense(self.features)(hidden), (key, value)
