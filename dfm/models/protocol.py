"""What a model offers to training, sampling and evaluation: pictures to distributions of latents, latents to pictures.

A model is a Flax module. Its methods are called with `variables`, {"params": groups of parameters, and a collection for
all else that it keeps, such as "batch_stats"}:

    posterior = model.apply(variables, images, labels, method="encode")
    images = model.apply(variables, posterior.mode(), labels, method="decode")

Within a module that holds it as a submodule, `model.encode(images)` is the same. dfm/models/latent_vectors.py has
latents as vectors, whatever their shape, for densities and everything else that wants vectors.
"""

from typing import Any, Protocol

import jax
from jaxtyping import Array, Float, Int

from dfm.models.distributions import Distribution

LatentShape = Any  # a tuple of sizes, (12,) or (4, 4, 8); or a tree of them, where latents are a hierarchy
Latents = Any  # an array [batch, *latent_shape]; or a tree of them


class Model(Protocol):
    """A generator, and an autoencoder where it `encodes`.

    Besides what stands here it has `__call__(images)`, which uses all of its parameters: one picture through it is how
    `init` makes them. The keys of config.model are the fields of the module.

    Attributes:
        height, width, channels: pixels of the pictures that it is built for.
        stride: sides of pictures that `encode` takes are multiples of it; callers pad the others.
        latent_shape: of one picture of height x width; sides that the stride does not divide are padded.
        classes: number of labels, 0, 1, ..., that it is conditioned on; 0: labels have no effect.
        encodes: whether there is `encode`. Without it latents are a table of the training's, or only drawn (a GAN).
        has_likelihood: whether its objective bounds or gives log p(x).
    """

    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def stride(self) -> int: ...
    @property
    def latent_shape(self) -> LatentShape: ...
    @property
    def classes(self) -> int: ...
    @property
    def encodes(self) -> bool: ...
    @property
    def has_likelihood(self) -> bool: ...

    def encode(
        self, images: Float[Array, "batch height width channels"], labels: Int[Array, " batch"] | None = None
    ) -> Distribution:
        """q(z | image) of pictures in [-1, 1]; a point mass where it is deterministic."""

    def decode(
        self,
        z: Latents,
        labels: Int[Array, " batch"] | None = None,
        height: int | None = None,
        width: int | None = None,
    ) -> Float[Array, "batch height width channels"]:
        """Pictures in about [-1, 1] of latents; height and width in pixels, None: what the latents give.

        Raises:
            UserError: a size that these latents cannot have.
        """

    def init(self, rngs: jax.Array, *args: Any, **kwargs: Any) -> Any:
        """First variables, from one call of the module: Flax's."""

    def apply(self, variables: Any, *args: Any, method: str, **kwargs: Any) -> Any:
        """A method with these variables: Flax's."""
