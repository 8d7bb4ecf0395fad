"""Deep Fourier Machines that generate pictures: an MLP turns a latent into the coefficients of a Fourier net.

Asadi 2022, sections 4.2.2 and 5.2. The latents of the training pictures are the output of an MLP encoder (Algorithm 3),
or, without one, a learnable table that the training owns (Algorithm 2). Satisfies dfm/models/protocol.py.

**Which part of the period a picture covers.** The first layer sees a point x only through u = input_scale x +
input_shift, and with the basis "cas" only through cas(2 pi k.u) for k = 10, 01, 11. As cas(t) = cos t + sin t =
sqrt(2) cos(t - pi/4) is even about pi/4, cas(2 pi v) = cas(2 pi w) where v = w or v + w = 1/4 (mod 1). Going through
the eight cases, two different points have the same features, and the same colour whatever the coefficients, exactly on

    u1 + u2 = 1/4 or 3/4:  (u1, u2) and (1/4 - u1, 1/4 - u2)
    u2 = 0 or 1/2:         (u1, u2) and (1/4 - u1, u2)
    u1 = 0 or 1/2:         (u1, u2) and (u1, 1/4 - u2)        (all mod 1).

Near such a line the picture is folded: a crease. At scale 1 all of them cross the picture, wherever it is shifted to.
At 1/2 without a shift they are the border and x1 + x2 = 1/2, where (x1, x2) meets (x2, x1): a line through pixel
centres. cas is one-to-one on [1/8, 5/8] and on nothing longer, so a picture has no such pair where the scale is at
most 1/2 and the shift puts its middle at 3/8 of the period:

    input_shift = 3/8 - input_scale / 2, at half a period 1/8.

There, features stand still (their derivative has rank one) in the four corners, and on the left and right border at
x2 = 3/4, on the upper and lower one at x1 = 3/4; with a smaller scale nowhere. With "cos_sin", which knows cos and sin
of each phase, features tell u mod 1 exactly: nothing is folded at any scale below 1, at 1 opposite borders are tied,
and a shift changes nothing but the coefficients. In the first layer alone it would double that layer's coefficients,
and the thesis' counts, 352 and 3,672, would be left. scripts/study_crease.py compares scales, shifts and bases.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

from dfm.models.distributions import PointMass
from dfm.models.fourier import COEFFICIENT_NAMES, Basis, coefficient_count, layer_sizes, split_coefficients
from dfm.models.fourier_batch import fourier_net_batch
from dfm.registry import check_value
from dfm.shapes import typechecked

ACTIVATIONS = {"relu": nn.relu, "silu": nn.silu, "gelu": nn.gelu, "tanh": nn.tanh}
MAXIMUM_NET_WIDTH = 12


class MLP(nn.Module):
    """Dense layers `layers_0`, `layers_1`, ... with the activation between them.

    Attributes:
        widths: outputs of each layer.
        kernel_variance: variance of every kernel entry at the start; None: 2 / inputs (He), 1 / inputs in the last.
        last_kernel_init, last_bias_init: of the last layer, in place of these; biases start at 0 otherwise.
    """

    widths: Sequence[int]
    activation: str
    kernel_variance: float | None = None
    last_kernel_init: nn.initializers.Initializer | None = None
    last_bias_init: nn.initializers.Initializer = nn.initializers.zeros

    def setup(self):
        hidden, last = nn.initializers.he_normal(), nn.initializers.lecun_normal()
        if self.kernel_variance is not None:
            hidden = last = nn.initializers.normal(self.kernel_variance**0.5)
        inits = [hidden] * (len(self.widths) - 1) + [self.last_kernel_init or last]
        biases = [nn.initializers.zeros] * (len(self.widths) - 1) + [self.last_bias_init]
        self.layers = [
            nn.Dense(width, kernel_init=kernel_init, bias_init=bias_init)
            for width, kernel_init, bias_init in zip(self.widths, inits, biases, strict=True)
        ]

    def __call__(self, x: Array) -> Array:
        return self.layers[-1](self.hidden(x))

    def hidden(self, x: Array) -> Array:
        """What the last layer is given."""
        for layer in self.layers[:-1]:
            x = ACTIVATIONS[self.activation](layer(x))
        return x


class DeepFourierMachine(nn.Module):
    """Latents to pictures, and pictures to latents where there is an encoder.

    The decoder's output is the coefficient vector (order of `split_coefficients`), multiplied by fixed rates a layer of
    the Fourier net. Its last bias holds the coefficients that all pictures share, its last kernel the deviations.

    Attributes:
        height, width, channels: of the pictures it is trained on. It paints any other size too.
        net_width, net_depth, basis: of the Fourier net; "cas" reproduces the thesis' 352 and 3,672 coefficients.
        latent_size: length of z.
        decoder_widths, encoder_widths: hidden layers of the two MLPs; no encoder widths: no encoder.
        activation: of the MLPs.
        kernel_variance: the thesis' start: every kernel entry from a Gaussian of this variance, and rates of 1. None:
            ours, by the attributes below.
        first_scale, hidden_scale, last_scale: standard deviation of the output of the first, a hidden and the last
            Fourier layer at the start; a coefficient of a layer with m inputs has scale / sqrt(2^m).
        deviation_scale: deviations of the coefficients at the start, relative to their standard deviation.
        coefficient_rate: rates are coefficient_rate * 2^(2 - m), times 1/3 and 2/3 in the first and the last layer:
            the more coefficients move an output together, the smaller the move of each.
        input_scale: positions in [0, 1] are multiplied by it. The net has period 1: at 1, opposite borders are tied.
        input_shift: added to them then; 3/8 - input_scale / 2 keeps "cas" free of creases (above). 0: the thesis, and
            runs older than this key.
    """

    height: int
    width: int
    channels: int
    net_width: int
    net_depth: int
    latent_size: int
    decoder_widths: Sequence[int]
    encoder_widths: Sequence[int] = ()
    basis: Basis = "cas"
    activation: str = "relu"
    kernel_variance: float | None = None
    first_scale: float = 0.3
    hidden_scale: float = 0.03
    last_scale: float = 0.3
    deviation_scale: float = 0.1
    coefficient_rate: float = 0.1
    input_scale: float = 1.0
    input_shift: float = 0.0

    def __post_init__(self):
        for name, known in (("activation", ACTIVATIONS), ("basis", COEFFICIENT_NAMES)):
            check_value(name, getattr(self, name), known)
        for name in ("height", "width", "channels", "net_width", "net_depth", "latent_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.net_width > MAXIMUM_NET_WIDTH:
            raise ValueError(
                f"net_width {self.net_width} means 2^{self.net_width} coefficients an output; "
                f"at most {MAXIMUM_NET_WIDTH}"
            )
        for name in ("decoder_widths", "encoder_widths"):
            if any(width < 1 for width in getattr(self, name)):
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        super().__post_init__()

    def setup(self):
        widths = (*self.decoder_widths, coefficient_count(self.hidden, self.channels, self.basis))
        if self.kernel_variance is not None:
            self.decoder = MLP(widths, self.activation, self.kernel_variance)
        else:
            shared, rates = self._shared_start()
            start = shared / rates
            self.decoder = MLP(
                widths,
                self.activation,
                last_kernel_init=_scaled(nn.initializers.lecun_normal(), self.deviation_scale * start),
                last_bias_init=_scaled(nn.initializers.normal(1.0), start),
            )
        if self.encodes:
            self.encoder = MLP((*self.encoder_widths, self.latent_size), self.activation, self.kernel_variance)

    @property
    def hidden(self) -> tuple[int, ...]:
        """Widths of the Fourier net's hidden vectors."""
        return (self.net_width,) * self.net_depth

    @property
    def stride(self) -> int:
        return 1

    @property
    def latent_shape(self) -> tuple[int]:
        return (self.latent_size,)

    @property
    def classes(self) -> int:
        return 0

    @property
    def encodes(self) -> bool:
        return bool(self.encoder_widths)

    @property
    def has_likelihood(self) -> bool:
        return False

    def __call__(self, images: Array) -> Array:
        """Reconstructions with an encoder; without one, pictures of the latent 0. Only `init` needs this."""
        zeros = jnp.zeros((images.shape[0], self.latent_size), images.dtype)
        return self.decode(self.encode(images).mode() if self.encodes else zeros)

    @typechecked
    def encode(
        self, images: Float[Array, "batch height width channels"], labels: Int[Array, " batch"] | None = None
    ) -> PointMass:
        """Latents [batch, latent_size] of pictures in [-1, 1].

        Raises:
            ValueError: there is no encoder.
        """
        if not self.encodes:
            raise ValueError("this Deep Fourier Machine has no encoder")
        return PointMass(self.encoder(images.reshape(images.shape[0], -1)))

    @typechecked
    def coefficients(self, z: Float[Array, "batch latent"]) -> Float[Array, "batch count"]:
        """The Fourier nets of these latents as coefficient vectors, float32 or wider."""
        vectors = self.decoder(z)
        vectors = vectors.astype(jnp.promote_types(vectors.dtype, jnp.float32))
        return vectors * self.rates()

    def hidden_activations(self, z: Float[Array, "batch latent"]) -> Float[Array, "batch hidden"]:
        """What the decoder's last dense layer is given."""
        return self.decoder.hidden(z)

    def rates(self) -> Float[np.ndarray, " count"]:
        """By what the decoder's outputs are multiplied; from the thesis' start, by 1."""
        if self.kernel_variance is not None:
            return np.ones(coefficient_count(self.hidden, self.channels, self.basis), np.float32)
        return self._shared_start()[1]

    @typechecked
    def decode(
        self,
        z: Float[Array, "batch latent"],
        labels: Int[Array, " batch"] | None = None,
        height: int | None = None,
        width: int | None = None,
    ) -> Float[Array, "batch height width channels"]:
        """Pictures in (-1, 1) of these latents, at any resolution; None: that of the training."""
        height, width = height or self.height, width or self.width
        pictures = self.paint(self.coefficients(z), pixel_centres(height, width))
        return pictures.reshape(-1, height, width, self.channels)

    @typechecked
    def paint(
        self, vectors: Float[Array, "batch count"], points: Float[Array, "points 2"]
    ) -> Float[Array, "batch points channels"]:
        """The nets of these coefficient vectors at points in [0, 1]^2, (x1, x2) = (across, down)."""
        layers = split_coefficients(vectors, self.hidden, self.channels, self.basis)
        return fourier_net_batch(layers, points * self.input_scale + self.input_shift)

    def _shared_start(self) -> tuple[np.ndarray, np.ndarray]:
        """(standard deviation at the start, rate) of each coefficient."""
        sizes = layer_sizes(self.hidden, self.channels)
        deviations, rates = [], []
        for index, (m, n) in enumerate(sizes):
            scale, rate = self.hidden_scale, 1.0
            if index == 0:
                scale, rate = self.first_scale, 1 / 3
            elif index == len(sizes) - 1:
                scale, rate = self.last_scale, 2 / 3
            count = len(COEFFICIENT_NAMES[self.basis]) * 2**m * n
            deviations.append(np.full(count, scale / 2 ** (m / 2), np.float32))
            rates.append(np.full(count, self.coefficient_rate * rate * 2.0 ** (2 - m), np.float32))
        return np.concatenate(deviations), np.concatenate(rates)


def pixel_centres(height: int, width: int) -> Float[Array, "points 2"]:
    """((column + 1/2) / width, (row + 1/2) / height) of every pixel, row by row."""
    columns, rows = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    return jnp.asarray(np.stack([columns.ravel(), rows.ravel()], -1), jnp.float32)


def _scaled(initializer: nn.initializers.Initializer, scale: np.ndarray) -> nn.initializers.Initializer:
    return lambda key, shape, dtype=jnp.float32: initializer(key, shape, dtype) * scale
