"""Runs small enough to compile in a second, with what dfm.sampling needs of a run: on scikit-learn's digits, 8x8."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from dfm.models.distributions import PointMass
from dfm.models.fourier import coefficient_count, fourier_net, split_coefficients
from dfm.training.runs import Run

LATENT_SIZE = 3
WIDTHS = (2, 2)


class TinyMachine(nn.Module):
    """z -> coefficients by one Dense layer -> Fourier net; pictures -> z by one Dense layer."""

    height: int = 8
    width: int = 8
    channels: int = 1
    latent_size: int = LATENT_SIZE
    encodes: bool = True
    stride: int = 1
    classes: int = 0
    has_likelihood: bool = False

    @property
    def latent_shape(self):
        return (self.latent_size,)

    def setup(self):
        # gentle, as a trained decoder is: neighbouring latents paint neighbouring pictures
        normal = nn.initializers.normal
        count = coefficient_count(WIDTHS, self.channels, "cas")
        self.decoder = nn.Dense(count, kernel_init=normal(0.05), bias_init=normal(0.2))
        self.encoder = nn.Dense(self.latent_size)

    def __call__(self, images):
        return self.decode(self.encode(images).mode())

    def encode(self, images, labels=None):
        return PointMass(self.encoder(images.reshape(len(images), -1)))

    def decode(self, z, labels=None, height=None, width=None):
        height, width = height or self.height, width or self.width
        rows, columns = (jnp.arange(height) + 0.5) / height, (jnp.arange(width) + 0.5) / width
        points = jnp.stack(jnp.meshgrid(columns, rows), -1).reshape(-1, 2)
        painted = fourier_net(split_coefficients(self.decoder(z), WIDTHS, self.channels), points)
        return painted.reshape(len(z), height, width, self.channels)


class LinearMachine(TinyMachine):
    """The same with tanh(A z + b) for a decoder: it compiles faster still, and paints one size only."""

    def setup(self):
        self.decoder = nn.Dense(self.height * self.width * self.channels, bias_init=nn.initializers.normal(0.2))
        self.encoder = nn.Dense(self.latent_size)

    def decode(self, z, labels=None, height=None, width=None):
        return jnp.tanh(self.decoder(z)).reshape(len(z), self.height, self.width, self.channels)


class Generator(LinearMachine):
    """Latents are only drawn, as a GAN's are: neither an encoder nor, in its run, a table."""

    encodes: bool = False

    def setup(self):
        self.decoder = nn.Dense(self.height * self.width * self.channels, bias_init=nn.initializers.normal(0.2))

    def __call__(self, images):
        return self.decode(jnp.zeros((len(images), self.latent_size)))

    def encode(self, images, labels=None):
        raise AssertionError("a generator was asked to encode")


class ClassMachine(TinyMachine):
    """Conditional: every picture of class k has the level 25 k and nothing else; a latent's first number is k too."""

    classes: int = 10

    def setup(self):
        self.encoder = nn.Dense(self.latent_size)

    def encode(self, images, labels=None):
        z = self.encoder(images.reshape(len(images), -1))
        return PointMass(z if labels is None else z.at[:, 0].set(labels))

    def decode(self, z, labels=None, height=None, width=None):
        levels = jnp.zeros(len(z)) if labels is None else 25 * labels
        size = (len(z), height or self.height, width or self.width, self.channels)
        return jnp.broadcast_to((levels / 127.5 - 1)[:, None, None, None], size)


def tiny_run(
    workdir,
    table: bool,
    step: int = 20,
    name: str = "digits",
    label: int = -1,
    count: int = 1500,
    model: nn.Module | None = None,
    split: str = "train",
) -> Run:
    """A run with random parameters, its latents a table or from an encoder."""
    model = model or TinyMachine()
    params = _params(model, step)
    config = {
        "seed": 0,
        "dataset": {"name": name, "split": split, "label": label, "crop": [], "flip": False},
        "model": {"name": "dfm", "height": model.height, "width": model.width, "channels": model.channels},
    }
    latents = None
    if table:
        spread = np.array([2.0, 1.0, 0.5])
        latents = (np.random.default_rng(step).normal(size=(count, LATENT_SIZE)) * spread + 0.3).astype(np.float32)
        params, model = {"decoder": params["decoder"]}, model.clone(encodes=False)
    return Run(ConfigDict(config), Path(workdir), step, model, None, params, latents)


@functools.cache
def _params(model: nn.Module, seed: int) -> dict:
    images = jnp.zeros((1, model.height, model.width, model.channels))
    return jax.jit(model.init)(jax.random.key(seed), images)["params"]
