"""A conditional model with statistics of its own: the decoder adds a running mean picture of each class."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from dfm.models.distributions import PointMass
from dfm.objectives.per_example import PerExampleWithStatistics
from dfm.objectives.protocol import Group

CLASSES = 10


class AveragingModel(nn.Module):
    """decode: z W + the running mean of the label's pictures; the mean is in the collection "averages"."""

    height: int = 8
    width: int = 8
    channels: int = 1
    stride: int = 1
    latent_shape: tuple[int, ...] = (2,)
    classes: int = CLASSES
    encodes: bool = True
    has_likelihood: bool = False

    def setup(self):
        self.encoder, self.decoder = nn.Dense(2), nn.Dense(64, use_bias=False)
        self.means = self.variable("averages", "means", jnp.zeros, (CLASSES, 64))

    def __call__(self, images, labels):
        return self.decode(self.encode(images, labels).mode(), labels)

    def encode(self, images, labels=None):
        return PointMass(self.encoder(images.reshape(len(images), 64) - self.means.value[labels]))

    def decode(self, z, labels=None, height=None, width=None):
        return (self.decoder(z) + self.means.value[labels]).reshape(len(z), 8, 8, 1)


class Averaging(PerExampleWithStatistics):
    """Squared error; the means follow the pictures at a rate of 0.2 a step, without gradients."""

    def __init__(self, model):
        self.model = model

    @property
    def groups(self):
        return {"encoder": Group(averaged=False)}

    @property
    def model_statistics(self):
        return ("averages",)

    def _variables(self, key):
        return self.model.init(key, jnp.zeros((1, 8, 8, 1)), jnp.zeros(1, jnp.int32))

    def init(self, key):
        return dict(self._variables(key)["params"])

    def init_statistics(self, key):
        return {"averages": self._variables(key)["averages"], "steps": jnp.zeros(())}

    def losses(self, params, statistics, rows, batch, key):
        images, labels = batch["image"], batch["label"]
        means = statistics["averages"]["means"]
        painted = self.model.apply({"params": params, "averages": {"means": means}}, images, labels)
        mse = jnp.square(painted - images).mean((1, 2, 3))
        counts = jax.nn.one_hot(labels, CLASSES).sum(0)[:, None]
        sums = jax.ops.segment_sum(images.reshape(len(images), 64), labels, CLASSES)
        means = jnp.where(counts > 0, 0.8 * means + 0.2 * sums / jnp.maximum(counts, 1), means)
        return mse, {"mse": mse}, {"averages": {"means": means}, "steps": statistics["steps"] + 1}
