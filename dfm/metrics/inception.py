"""The Inception-v3 of FID (TensorFlow graph of 2015-12-05): uint8 pictures -> 2,048 features, in Flax.

It differs from other Inceptions: TensorFlow 1's bilinear resize to 299 without half-pixel shift, (x - 128) / 128,
average pools that leave the padding out, and a maximum in the pool branch of the last block. Batch norms (eps 1e-3)
are folded into the convolutions when weights are loaded (inception_weights.py); 5.71e9 multiply-adds a picture.

Submodules bear torchvision's names. Two things differ from the usual writing, and are equal in exact arithmetic:
1x1 convolutions of one block share one matrix product, and an average pool follows its 1x1 convolution (a mean of
fewer channels), since both are linear and the pool keeps constants.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from dfm.shapes import typechecked

INPUT_SIZE = 299
FEATURES = 2048
CLASSES = 1008
MULTIPLY_ADDS = 5_711_168_096  # of the convolutions, for one picture of 299 x 299; counted in tests/metrics
RESIZE_ID = "tf1-bilinear-299"  # names of the steps before the net, for the record of a result
SCALE_ID = "(x - 128) / 128"

PRECISION = jax.lax.Precision.HIGHEST  # TF32 and bfloat16, the accelerators' defaults, move FID in its first decimal


class Convolution(nn.Module):
    """x * kernel + bias; the ReLU is the caller's. The batch norm is folded into both."""

    inputs: int
    outputs: int
    kernel_size: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: str = "SAME"

    def setup(self) -> None:
        shape = (*self.kernel_size, self.inputs, self.outputs)
        self.kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        self.bias = self.param("bias", nn.initializers.zeros, (self.outputs,))

    def __call__(self, x: Float[Array, "batch height width inputs"]) -> Float[Array, "batch h w outputs"]:
        y = jax.lax.conv_general_dilated(
            x,
            self.kernel,
            (self.stride, self.stride),
            self.padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=PRECISION,
        )
        return y + self.bias


def relu_chain(x: Array, convolutions: Sequence[Convolution]) -> Array:
    for convolution in convolutions:
        x = nn.relu(convolution(x))
    return x


def pointwise(x: Array, convolutions: Sequence[Convolution]) -> list[Array]:
    """Several 1x1 convolutions of one input as one matrix product; outputs before the ReLU."""
    kernel = jnp.concatenate([convolution.kernel[0, 0] for convolution in convolutions], axis=-1)
    bias = jnp.concatenate([convolution.bias for convolution in convolutions])
    y = jnp.einsum("bhwi,io->bhwo", x, kernel, precision=PRECISION) + bias
    return jnp.split(y, np.cumsum([convolution.outputs for convolution in convolutions])[:-1].tolist(), axis=-1)


def average_pool(x: Float[Array, "batch height width channel"]) -> Float[Array, "batch height width channel"]:
    """Mean over 3x3, padding left out of sum and count."""
    sums = sum_of_three(sum_of_three(x, 1), 2)
    rows, columns = (np.array([3 - (i in (0, size - 1)) for i in range(size)], np.float32) for size in x.shape[1:3])
    return sums * jnp.asarray(1 / np.outer(rows, columns), x.dtype)[None, :, :, None]


def sum_of_three(x: Array, axis: int) -> Array:
    """x[i - 1] + x[i] + x[i + 1] along one axis, zero outside."""
    size = x.shape[axis]
    padded = jnp.pad(x, [(1, 1) if i == axis else (0, 0) for i in range(x.ndim)])
    return sum(jax.lax.slice_in_dim(padded, start, start + size, axis=axis) for start in range(3))  # type: ignore


def max_pool(x: Float[Array, "batch height width channel"], stride: int = 2, padding: str = "VALID") -> Array:
    return nn.max_pool(x, (3, 3), (stride, stride), padding)


class BlockA(nn.Module):
    """35x35: 1x1, 5x5, double 3x3 and pool branches."""

    inputs: int
    pool: int

    def setup(self) -> None:
        n = self.inputs
        self.branch1x1 = Convolution(n, 64)
        self.branch5x5_1 = Convolution(n, 48)
        self.branch5x5_2 = Convolution(48, 64, (5, 5))
        self.branch3x3dbl_1 = Convolution(n, 64)
        self.branch3x3dbl_2 = Convolution(64, 96, (3, 3))
        self.branch3x3dbl_3 = Convolution(96, 96, (3, 3))
        self.branch_pool = Convolution(n, self.pool)

    def __call__(self, x: Array) -> Array:
        a, b, c, pooled = pointwise(x, [self.branch1x1, self.branch5x5_1, self.branch3x3dbl_1, self.branch_pool])
        b = self.branch5x5_2(nn.relu(b))
        c = relu_chain(nn.relu(c), [self.branch3x3dbl_2, self.branch3x3dbl_3])
        return nn.relu(jnp.concatenate([a, b, c, average_pool(pooled)], axis=-1))


class BlockB(nn.Module):
    """35x35 -> 17x17."""

    inputs: int

    def setup(self) -> None:
        self.branch3x3 = Convolution(self.inputs, 384, (3, 3), 2, "VALID")
        self.branch3x3dbl_1 = Convolution(self.inputs, 64)
        self.branch3x3dbl_2 = Convolution(64, 96, (3, 3))
        self.branch3x3dbl_3 = Convolution(96, 96, (3, 3), 2, "VALID")

    def __call__(self, x: Array) -> Array:
        a = nn.relu(self.branch3x3(x))
        b = relu_chain(x, [self.branch3x3dbl_1, self.branch3x3dbl_2, self.branch3x3dbl_3])
        return jnp.concatenate([a, b, max_pool(x)], axis=-1)


class BlockC(nn.Module):
    """17x17: 7x7 convolutions as pairs of 1x7 and 7x1."""

    width: int
    inputs: int = 768

    def setup(self) -> None:
        n, w = self.inputs, self.width
        self.branch1x1 = Convolution(n, 192)
        self.branch7x7_1 = Convolution(n, w)
        self.branch7x7_2 = Convolution(w, w, (1, 7))
        self.branch7x7_3 = Convolution(w, 192, (7, 1))
        self.branch7x7dbl_1 = Convolution(n, w)
        self.branch7x7dbl_2 = Convolution(w, w, (7, 1))
        self.branch7x7dbl_3 = Convolution(w, w, (1, 7))
        self.branch7x7dbl_4 = Convolution(w, w, (7, 1))
        self.branch7x7dbl_5 = Convolution(w, 192, (1, 7))
        self.branch_pool = Convolution(n, 192)

    def __call__(self, x: Array) -> Array:
        a, b, c, pooled = pointwise(x, [self.branch1x1, self.branch7x7_1, self.branch7x7dbl_1, self.branch_pool])
        b = relu_chain(nn.relu(b), [self.branch7x7_2, self.branch7x7_3])
        double = [self.branch7x7dbl_2, self.branch7x7dbl_3, self.branch7x7dbl_4, self.branch7x7dbl_5]
        c = relu_chain(nn.relu(c), double)
        return jnp.concatenate([nn.relu(a), b, c, nn.relu(average_pool(pooled))], axis=-1)


class BlockD(nn.Module):
    """17x17 -> 8x8."""

    inputs: int = 768

    def setup(self) -> None:
        self.branch3x3_1 = Convolution(self.inputs, 192)
        self.branch3x3_2 = Convolution(192, 320, (3, 3), 2, "VALID")
        self.branch7x7x3_1 = Convolution(self.inputs, 192)
        self.branch7x7x3_2 = Convolution(192, 192, (1, 7))
        self.branch7x7x3_3 = Convolution(192, 192, (7, 1))
        self.branch7x7x3_4 = Convolution(192, 192, (3, 3), 2, "VALID")

    def __call__(self, x: Array) -> Array:
        a, b = pointwise(x, [self.branch3x3_1, self.branch7x7x3_1])
        a = relu_chain(nn.relu(a), [self.branch3x3_2])
        b = relu_chain(nn.relu(b), [self.branch7x7x3_2, self.branch7x7x3_3, self.branch7x7x3_4])
        return jnp.concatenate([a, b, max_pool(x)], axis=-1)


class BlockE(nn.Module):
    """8x8, 2,048 channels out; `pool` is "average", or "max" in the last block."""

    inputs: int
    pool: str

    def setup(self) -> None:
        n = self.inputs
        self.branch1x1 = Convolution(n, 320)
        self.branch3x3_1 = Convolution(n, 384)
        self.branch3x3_2a = Convolution(384, 384, (1, 3))
        self.branch3x3_2b = Convolution(384, 384, (3, 1))
        self.branch3x3dbl_1 = Convolution(n, 448)
        self.branch3x3dbl_2 = Convolution(448, 384, (3, 3))
        self.branch3x3dbl_3a = Convolution(384, 384, (1, 3))
        self.branch3x3dbl_3b = Convolution(384, 384, (3, 1))
        self.branch_pool = Convolution(n, 192)

    def __call__(self, x: Array) -> Array:
        shared = [self.branch1x1, self.branch3x3_1, self.branch3x3dbl_1]
        if self.pool == "average":
            a, b, c, pooled = pointwise(x, [*shared, self.branch_pool])
            pooled = average_pool(pooled)
        else:
            a, b, c = pointwise(x, shared)
            pooled = self.branch_pool(max_pool(x, stride=1, padding="SAME"))
        b, c = nn.relu(b), relu_chain(nn.relu(c), [self.branch3x3dbl_2])
        pairs = [self.branch3x3_2a(b), self.branch3x3_2b(b), self.branch3x3dbl_3a(c), self.branch3x3dbl_3b(c)]
        return nn.relu(jnp.concatenate([a, *pairs, pooled], axis=-1))


class Inception(nn.Module):
    """Prepared pictures -> the 2,048 features of the last pool, which are not negative."""

    def setup(self) -> None:
        self.Conv2d_1a_3x3 = Convolution(3, 32, (3, 3), 2, "VALID")
        self.Conv2d_2a_3x3 = Convolution(32, 32, (3, 3), 1, "VALID")
        self.Conv2d_2b_3x3 = Convolution(32, 64, (3, 3))
        self.Conv2d_3b_1x1 = Convolution(64, 80)
        self.Conv2d_4a_3x3 = Convolution(80, 192, (3, 3), 1, "VALID")
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = BlockA(192, 32), BlockA(256, 64), BlockA(288, 64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = BlockC(128), BlockC(160), BlockC(160), BlockC(192)
        self.Mixed_7a = BlockD()
        self.Mixed_7b, self.Mixed_7c = BlockE(1280, "average"), BlockE(2048, "max")

    def __call__(self, x: Float[Array, "batch 299 299 3"]) -> Float[Array, "batch 2048"]:
        x = max_pool(relu_chain(x, [self.Conv2d_1a_3x3, self.Conv2d_2a_3x3, self.Conv2d_2b_3x3]))
        x = max_pool(relu_chain(x, [self.Conv2d_3b_1x1, self.Conv2d_4a_3x3]))
        for block in (
            self.Mixed_5b,
            self.Mixed_5c,
            self.Mixed_5d,
            self.Mixed_6a,
            self.Mixed_6b,
            self.Mixed_6c,
            self.Mixed_6d,
            self.Mixed_6e,
            self.Mixed_7a,
            self.Mixed_7b,
            self.Mixed_7c,
        ):
            x = block(x)
        return jnp.mean(x, axis=(1, 2))


@typechecked
def prepare(pictures: Num[Array, "batch height width channel"]) -> Float[Array, "batch 299 299 3"]:
    """What the graph of 2015 does in front of its first layer: grey to RGB, resize, (x - 128) / 128.

    Pictures are uint8; floats in 0 ... 255 are for those legacy protocols that do not round.
    """
    if pictures.shape[-1] == 1:
        pictures = jnp.repeat(pictures, 3, axis=-1)
    return (resize_tf1(pictures.astype(jnp.float32), INPUT_SIZE) - 128) / 128


def resize_tf1(x: Float[Array, "batch height width channel"], size: int) -> Float[Array, "batch size size channel"]:
    """tf.image.resize_bilinear of TensorFlow 1: src = i * n / size in float32, no half-pixel shift, no antialiasing."""
    for axis in (2, 1):  # TensorFlow blends along the rows first
        below, above, fraction = _source(x.shape[axis], size)
        left, right = jnp.take(x, below, axis=axis), jnp.take(x, above, axis=axis)
        x = left + (right - left) * fraction.reshape([-1 if i == axis else 1 for i in range(4)])
    return x


def _source(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    position = np.arange(new, dtype=np.float32) * (np.float32(old) / np.float32(new))
    below = position.astype(np.int32)
    return below, np.minimum(below + 1, old - 1), position - below.astype(np.float32)
