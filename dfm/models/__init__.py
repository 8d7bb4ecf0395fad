"""Models by name: Flax modules that know neither configs nor losses nor files. `build` imports what a name needs."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from dfm.models.protocol import Model
from dfm.registry import check_offers, construct

MODELS = {
    "dfm": "dfm.models.dfm:DeepFourierMachine",
    "local_dfm": "dfm.models.local_dfm:LocalFourierMachine",
    "autoencoder_kl": "dfm.models.autoencoder_kl:AutoencoderKL",
    "autoencoder": "dfm.models.autoencoder:Autoencoder",
    "hierarchical_vae": "dfm.models.hierarchical_vae:HierarchicalVAE",
    "latent_flow": "dfm.models.latent_flow:LatentFlow",
    "gan": "dfm.models.gan:Generator",
    "code_transformer": "dfm.models.code_transformer:CodeTransformer",
    "fourier_gan": "dfm.models.fourier_gan:FourierGenerator",
}


def build(config: Mapping[str, Any], picture_shape: tuple[int, int, int] | None = None) -> Model:
    """The module of config["name"] with the other keys as its attributes.

    Args:
        picture_shape: (height, width, channels) that it is used at: becomes the `sample_size` of a fully convolutional
            model, whose parameters fit any, and the `latent_grid` of a flow of latents that has none.

    Raises:
        UserError: an unknown model, an unknown or missing key, a value that cannot be, or a class that lacks what the
            protocol asks for.
    """
    model = construct("model", MODELS, config)
    check_offers(f"the model '{config['name']}'", model, Model, optional=("encode",))  # only where it `encodes`
    if picture_shape is None:
        return model
    if getattr(model, "latent_grid", None) == ():
        return model.clone(latent_grid=tuple(picture_shape))
    return for_pictures(model, picture_shape[:2])


def for_pictures(model: Any, size: tuple[int, int]) -> Any:
    """The model for pictures of (height, width): another `sample_size` where it has one, otherwise itself."""
    if (model.height, model.width) == tuple(size) or "sample_size" not in {f.name for f in dataclasses.fields(model)}:
        return model
    return model.clone(sample_size=size[0] if size[0] == size[1] else tuple(size))
