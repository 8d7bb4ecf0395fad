"""A model that compiles in a moment, with the interface of the real ones: linear maps between pictures and latents."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from dfm.config import defaults
from dfm.models.distributions import PointMass
from dfm.objectives.per_example import PerExample

SIZE, LATENTS = 64, 4  # of a digit: 8 x 8


class LinearMachine(nn.Module):
    """decode: pictures from latents; encode: latents from pictures, unless they are a table."""

    encodes: bool = True
    height: int = 8
    width: int = 8
    channels: int = 1
    stride: int = 1
    latent_shape: tuple[int, ...] = (LATENTS,)
    classes: int = 0
    has_likelihood: bool = False

    def setup(self):
        self.decoder = nn.Dense(SIZE)
        if self.encodes:
            self.encoder = nn.Dense(LATENTS)

    def __call__(self, images):
        z = self.encode(images).mode() if self.encodes else jnp.zeros((len(images), LATENTS))
        return self.decode(z)

    def encode(self, images, labels=None):
        return PointMass(self.encoder(images.reshape(len(images), SIZE)))

    def decode(self, z, labels=None, height=None, width=None):
        return jnp.tanh(self.decoder(z)).reshape(len(z), 8, 8, 1)


class Reconstruction(PerExample):
    """Mean squared error, with a little noise on the latents, so that keys matter; NaN wherever `break_at` is met."""

    def __init__(self, model: LinearMachine, noise: float = 0.01, break_at: int = -1):
        self.model, self.noise, self.break_at = model, noise, break_at

    def init(self, key) -> dict[str, Any]:
        return dict(self.model.init(key, jnp.zeros((1, 8, 8, 1)))["params"])

    def init_latents(self, key, examples: int):
        return None if self.model.encodes else 0.1 * jax.random.normal(key, (examples, LATENTS))

    def __call__(self, params, latents, batch, key):
        images = batch["image"]
        encoded = self.model.apply({"params": params}, images, method="encode").mode() if latents is None else latents
        z = encoded + self.noise * jax.random.normal(key, encoded.shape)
        painted = self.model.apply({"params": params}, z, method="decode")
        mse = ((painted - images) ** 2).mean((1, 2, 3))
        if self.break_at >= 0:  # an example that comes up in some step
            mse = jnp.where((batch["index"] == self.break_at).any(), jnp.nan, mse)
        return mse + 1e-4 * (z**2).sum(-1), {"mse": mse}


def tiny_config(encodes: bool = True, **changes) -> ConfigDict:
    """A run of a few steps on the digits."""
    config = defaults()
    config.batch_size, config.total_steps = 20, 12
    config.log_every_steps, config.checkpoint_every_steps, config.sample_every_steps = 3, 4, 0
    config.model.encodes = encodes
    config.objective.break_at = -1
    config.optimizer.learning_rate = 1e-2
    config.update_from_flattened_dict(changes)
    return config


def install(monkeypatch=None) -> None:
    """Lets every config build the stand-in in place of a real model and objective."""
    from dfm import models, objectives

    put = setattr if monkeypatch is None else monkeypatch.setattr
    put(models, "build", lambda config, shape=None: LinearMachine(config.encodes, height=config.get("height", 8)))
    put(objectives, "build", lambda config, model: Reconstruction(model, break_at=config.get("break_at", -1)))
