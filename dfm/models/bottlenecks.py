"""What lies between encoder and decoder: a point, a Gaussian, or a code of a book (the bottleneck is the model).

A bottleneck says what the encoder must put out for a latent of a given shape, and what distribution that is.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from dfm.models.distributions import DiagonalGaussian, Distribution, PointMass
from dfm.shapes import typechecked

CODEBOOK = "codebook"  # the collection of a codebook that moves by averages and not by gradients


class Bottleneck(Protocol):
    def encoder_outputs(self, latent_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of what the encoder gives for one picture."""

    def __call__(self, encoded: Float[Array, "batch *outputs"]) -> Distribution:
        """The distribution of latents."""

    def decoder_input(self, z: Float[Array, "batch *latent"]) -> Array:
        """Latents as the decoder takes them."""


class Point(nn.Module):
    """z = e(x): an autoencoder without a word about its latents."""

    def encoder_outputs(self, latent_shape: tuple[int, ...]) -> tuple[int, ...]:
        return latent_shape

    def __call__(self, encoded: Array) -> Distribution:
        return PointMass(encoded)

    def decoder_input(self, z: Array) -> Array:
        return z


class Gaussian(nn.Module):
    """q(z|x) = N(mu(x), diag sigma^2(x)) (Kingma and Welling 2014); the encoder gives mu and log sigma^2."""

    def encoder_outputs(self, latent_shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*latent_shape[:-1], 2 * latent_shape[-1])

    def __call__(self, encoded: Array) -> Distribution:
        return DiagonalGaussian.from_moments(encoded)

    def decoder_input(self, z: Array) -> Array:
        return z


class Quantized(NamedTuple):
    """Vectors and their codes.

    Attributes:
        encoded: z_e, as the encoder gave them.
        vectors: e_k, the nearest of the book.
        codes: k, int32.
    """

    encoded: Float[Array, "*batch size"]
    vectors: Float[Array, "*batch size"]
    codes: Int[Array, " *batch"]


class VectorQuantizer(nn.Module):
    """z_q = e_k with k = argmin_k ||z_e - e_k||, a code for each position of the latent (van den Oord et al. 2017).

    Gradients pass straight through to z_e. The book is a parameter "book" that learns from ||sg[z_e] - e||^2
    (`averaged` False), or a collection of moving averages: "sums" [codes, size] and "counts" [codes] of the encodings
    that chose each code, of which the book is the ratio (ibid., appendix A.1), moved by `moved` after the look-up.

    Attributes:
        codes: K. size: of a code, the last axis of the latent. averaged: see above.
    """

    codes: int
    size: int
    averaged: bool = True

    def setup(self):
        start = nn.initializers.uniform(2.0 / self.codes)  # 0 ... 2/K, then centred: within 1/K as in the paper
        shape = (self.codes, self.size)
        centred = lambda key: start(key, shape) - 1.0 / self.codes  # noqa: E731
        if not self.averaged:
            self.parameter = self.param("book", centred)
            return
        self.sums = self.variable(CODEBOOK, "sums", lambda: centred(self.make_rng("params")))
        self.counts = self.variable(CODEBOOK, "counts", lambda: jnp.ones(self.codes))

    @property
    def book(self) -> Float[Array, "codes size"]:
        if not self.averaged:
            return self.parameter
        return self.sums.value / self.counts.value[:, None]

    def encoder_outputs(self, latent_shape: tuple[int, ...]) -> tuple[int, ...]:
        return latent_shape

    @typechecked
    def quantize(self, encoded: Float[Array, "*batch size"]) -> Quantized:
        """Nearest codes, by ||z||^2 - 2 z.e + ||e||^2, in which the first term decides nothing."""
        book = self.book
        distances = jnp.square(book).sum(-1) - 2.0 * encoded @ book.T
        codes = jnp.argmin(distances, axis=-1)
        return Quantized(encoded, book[codes], codes)

    def __call__(self, encoded: Array) -> Distribution:
        return PointMass(self.quantize(encoded).vectors)

    def decoder_input(self, z: Array) -> Array:
        """The nearest codes of any vectors: whatever drew them, the decoder sees codes."""
        found = self.quantize(z)
        return z + jax.lax.stop_gradient(found.vectors - z)

    def embed(self, codes: Int[Array, "*batch"]) -> Float[Array, "*batch size"]:
        return self.book[codes]


@typechecked
def moved(
    average: dict[str, Array], found: Quantized, decay: float, restart_below: float, key: Array
) -> dict[str, Float[Array, "..."]]:
    """The averages after a step: decay old + (1 - decay) new sums and counts of the encodings that chose each code.

    A code whose average count has fallen below `restart_below` is dead and begins anew at an encoding of this batch,
    drawn at random, with a count of one and a sum to match: no division by zero, no code that flies off.

    Args:
        average: "sums" [codes, size], "counts" [codes].
    """
    encoded = jax.lax.stop_gradient(found.encoded).reshape(-1, found.encoded.shape[-1])
    chosen = jax.nn.one_hot(found.codes.reshape(-1), len(average["counts"]), dtype=encoded.dtype)
    counts = decay * average["counts"] + (1.0 - decay) * chosen.sum(0)
    sums = decay * average["sums"] + (1.0 - decay) * chosen.T @ encoded
    fresh = encoded[jax.random.randint(key, (len(counts),), 0, len(encoded))]
    dead = counts < restart_below
    return {"sums": jnp.where(dead[:, None], fresh, sums), "counts": jnp.where(dead, 1.0, counts)}


def code_usage(counts: Float[Array, " codes"]) -> dict[str, Array]:
    """Of how often each code was chosen over a data set: `code_usage`, the share that ever was; `code_perplexity`,
    exp of the entropy: as many equally likely codes would carry as much."""
    shares = counts / counts.sum()
    entropy = -jnp.where(shares > 0, shares * jnp.log(jnp.where(shares > 0, shares, 1.0)), 0.0).sum()
    return {"code_usage": (counts > 0).mean(), "code_perplexity": jnp.exp(entropy)}


BOTTLENECKS: dict[str, Any] = {"point": Point, "gaussian": Gaussian, "vq": VectorQuantizer}
