"""PatchGAN discriminator: one real-or-painted logit for each overlapping patch of a picture (Isola et al. 2017)."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from dfm.shapes import typechecked

KERNEL, SLOPE = 4, 0.2
WIDEST = 8  # no layer is wider than eight times the first
MOMENTUM, EPSILON = 0.9, 1e-5  # of the running statistics; PyTorch's momentum of 0.1 counts the new value


class NLayerDiscriminator(nn.Module):
    """C(features) stride 2 -> `layers` - 1 more of stride 2 -> one of stride 1 -> one logit, LeakyReLU 0.2 between.

    Convolutions are 4x4, padded by 1, normal(0, 0.02); all but the first and the last are followed by a batch norm
    (scale normal(1, 0.02)) and have no bias. 3 layers of 64 features: 2,765,633 parameters, 30x30 logits at 256x256.

    Batch norm. Normalisation is by the batch at hand, in every pass of a training, as in the reference, whose
    discriminator is never switched to evaluation. Under jit the mean over a batch that is split over devices is that of
    the whole batch, so N devices are one device. The running statistics ("batch_stats") are kept all the same: they
    cost nothing, and whoever continues with the discriminator, or scores a single picture, needs them. Only passes
    with `mutable=["batch_stats"]` move them, and the trainer makes those of the discriminator's own step only.

    Attributes:
        features: width of the first layer; it doubles a layer, up to eight times.
        layers: convolutions of stride 2.
        dtype: what is computed in; None: the type of the input. Statistics are float32.
    """

    features: int = 64
    layers: int = 3
    dtype: Any = None

    @property
    def smallest_side(self) -> int:
        """Of pictures: two convolutions of stride 1 follow the last halving, and each takes a row."""
        return 3 * 2**self.layers

    @nn.compact
    @typechecked
    def __call__(
        self, images: Float[Array, "batch height width channel"], use_running_average: bool = False
    ) -> Float[Array, "batch rows columns 1"]:
        """Logits, positive for real. `use_running_average`: normalise by the running statistics."""
        x = nn.leaky_relu(self._conv(self.features, 2, True)(images), SLOPE)
        for layer in range(1, self.layers + 1):
            width = self.features * min(2**layer, WIDEST)
            x = self._conv(width, 2 if layer < self.layers else 1, False)(x)
            x = nn.BatchNorm(
                use_running_average,
                momentum=MOMENTUM,
                epsilon=EPSILON,
                dtype=self.dtype,
                use_fast_variance=False,
                scale_init=_around(1.0),
                axis_name=None,
            )(x)
            x = nn.leaky_relu(x, SLOPE)
        logits = self._conv(1, 1, True)(x)
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

    def _conv(self, width: int, stride: int, bias: bool) -> nn.Conv:
        return nn.Conv(width, (KERNEL, KERNEL), stride, 1, use_bias=bias, dtype=self.dtype, kernel_init=_around(0.0))


def _around(mean: float) -> nn.initializers.Initializer:
    normal = nn.initializers.normal(0.02)
    return lambda key, shape, dtype=jnp.float32: mean + normal(key, shape, dtype)
