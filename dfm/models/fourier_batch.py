"""The Fourier net for generators: one set of coefficients a picture, many pictures at once.

Arrays are [picture, input, point], where those of `fourier.py` have the points in front of the inputs (`fourier_sum`
says why). Width 4, 64 pictures of 784 points, two CPU cores: a third of the time, forward and backward.
"""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from dfm.models.fourier_kernels import fourier_sum
from dfm.shapes import typechecked


@typechecked
def fourier_net_batch(
    layers: Sequence[Mapping[str, Array]], x: Float[Array, "points inputs"]
) -> Float[Array, "batch points channels"]:
    """The same points through one net a picture; equals `fourier_net(layers, x)` (Asadi 2022, Eq. 4.6).

    Args:
        layers: coefficients as in `fourier_layer`, each with a leading picture axis.
        x: the points, shared by all pictures.
    """
    batch = next(iter(layers[0].values())).shape[0]
    y = jnp.broadcast_to(x.T, (batch, *x.T.shape))
    for layer in layers:
        y = fourier_layer_batch(y, layer)
    return jnp.tanh(jnp.swapaxes(y, 1, 2))


@typechecked
def fourier_layer_batch(
    x: Float[Array, "batch inputs points"], coefficients: Mapping[str, Float[Array, "batch frequencies outputs"]]
) -> Float[Array, "batch outputs points"]:
    """`fourier_layer` (Asadi 2022, Eq. 4.5) with one set of coefficients an example and the points as the last axis.

    Returns:
        float32 or wider, whatever the coefficients: phases need it.
    """
    cos, sin = (coefficients["cas"],) * 2 if "cas" in coefficients else (coefficients["cos"], coefficients["sin"])
    dtype = jnp.promote_types(jnp.result_type(x, cos, sin), jnp.float32)
    x, cos, sin = x.astype(dtype), cos.astype(dtype), sin.astype(dtype)
    y = fourier_sum(x, cos, sin, "points_last")
    return y + x if x.shape == y.shape else y
