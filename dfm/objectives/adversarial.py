"""Losses of a discriminator and of a generator, and the adaptive weight between reconstruction and adversarial loss.

Logits are of pictures or their patches, positive for real; every loss is a mean over all patches of all pictures.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dfm.shapes import typechecked

Logits = Float[Array, "batch *patch"]
Scalar = Float[Array, ""]

GRADIENT_FLOOR = 1e-4  # added to the norm of the adversarial gradient, as in the reference


@typechecked
def hinge(real: Logits, fake: Logits) -> Scalar:
    """1/2 (mean max(0, 1 - D(x)) + mean max(0, 1 + D(x_hat)))."""
    return 0.5 * (jax.nn.relu(1.0 - real).mean() + jax.nn.relu(1.0 + fake).mean())


@typechecked
def vanilla(real: Logits, fake: Logits) -> Scalar:
    """1/2 (mean softplus(-D(x)) + mean softplus(D(x_hat))): the cross entropy of Goodfellow et al. 2014."""
    return 0.5 * (jax.nn.softplus(-real).mean() + jax.nn.softplus(fake).mean())


DISCRIMINATOR_LOSSES: dict[str, Callable[[Array, Array], Array]] = {"hinge": hinge, "vanilla": vanilla}


@typechecked
def generator_loss(fake: Logits) -> Scalar:
    """-mean D(x_hat), for either loss of the discriminator, as in Rombach et al. 2022."""
    return -fake.mean()


@typechecked
def lecam(real: Logits, fake: Logits, average_real: Scalar, average_fake: Scalar) -> Scalar:
    """mean max(0, D(x) - a_hat)^2 + mean max(0, a - D(x_hat))^2 (Tseng et al. 2021, Eq. 3, as their code has it).

    a and a_hat are moving averages of the mean logits of real pictures and reconstructions: it draws each kind of
    logits towards the other one's average, which keeps a discriminator of few pictures from being sure.
    """
    above = jax.nn.relu(real - average_fake)
    below = jax.nn.relu(average_real - fake)
    return jnp.square(above).mean() + jnp.square(below).mean()


def r1_penalty(logits: Callable[[Array], Array], images: Float[Array, "batch height width channel"]) -> Array:
    """1/2 mean over pictures of ||grad_x mean D(x)||^2 (Mescheder et al. 2018): flat where pictures are real.

    D(x) of a picture is the mean of its patches. With a batch norm the other pictures of the batch take part.
    """
    gradient = jax.grad(lambda x: logits(x).reshape(len(x), -1).mean(1).sum())(images)
    return 0.5 * jnp.square(gradient.astype(jnp.float32)).sum((1, 2, 3)).mean()


@typechecked
def adaptive_weight(reconstruction: Float[Array, "..."], adversarial: Float[Array, "..."], maximum: float) -> Scalar:
    """min(||g_reconstruction|| / (||g_adversarial|| + 1e-4), maximum) (Esser et al. 2021, Eq. 7).

    Args:
        reconstruction, adversarial: gradients of the two losses with respect to the decoder's last kernel.
    """
    norms = [jnp.sqrt(jnp.square(gradient.astype(jnp.float32)).sum()) for gradient in (reconstruction, adversarial)]
    return jnp.clip(norms[0] / (norms[1] + GRADIENT_FLOOR), 0.0, maximum)
