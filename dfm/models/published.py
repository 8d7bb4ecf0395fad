"""The shapes of published AutoencoderKLs."""

from typing import Any

from dfm.models.autoencoder_kl import AutoencoderKL


def published_variants() -> dict[str, AutoencoderKL]:
    """By name: sd, sdxl, sd3, flux, flux2, flux2-small-decoder, kl-f4, kl-f16; the weights are the user's.

    The scale of the latents is in the files of flux2 and is that of the diffusion model for kl-f4 and kl-f16.
    """
    widths: dict[str, Any] = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
    no_quant: dict[str, Any] = {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}
    return {
        "sd": AutoencoderKL(**widths, sample_size=512, scaling_factor=0.18215),
        "sdxl": AutoencoderKL(**widths, sample_size=1024, scaling_factor=0.13025),
        "sd3": AutoencoderKL(**widths, **no_quant, sample_size=1024, scaling_factor=1.5305, shift_factor=0.0609),
        "flux": AutoencoderKL(**widths, **no_quant, sample_size=1024, scaling_factor=0.3611, shift_factor=0.1159),
        "flux2": AutoencoderKL(**widths, latent_channels=32, sample_size=1024, patch_size=(2, 2)),
        "flux2-small-decoder": AutoencoderKL(
            **widths,
            latent_channels=32,
            sample_size=1024,
            patch_size=(2, 2),
            decoder_block_out_channels=(96, 192, 384, 384),
        ),
        "kl-f4": AutoencoderKL(block_out_channels=(128, 256, 512), layers_per_block=2, latent_channels=3),
        "kl-f16": AutoencoderKL(
            block_out_channels=(128, 128, 256, 256, 512),
            layers_per_block=2,
            latent_channels=16,
            down_block_types=(*("DownEncoderBlock2D",) * 4, "AttnDownEncoderBlock2D"),
            up_block_types=("AttnUpDecoderBlock2D", *("UpDecoderBlock2D",) * 4),
        ),
    }
