"""AutoencoderKL: ImageNet crops at f = 8 with four channels, as in latent diffusion, and CIFAR-10 at f = 4 on a CPU.

    python -m dfm.train --config=configs/autoencoder_kl_imagenet.py:f8c4 --workdir=runs/f8c4            GPUs, days
    python -m dfm.train --config=configs/autoencoder_kl_imagenet.py:cifar10 --workdir=runs/vae_cifar10  30 min, one core
    python -m dfm.train --config=configs/autoencoder_kl_imagenet.py:f8c4:quick --workdir=runs/quick     does it run?
    python -m dfm.train --config=configs/autoencoder_kl_imagenet.py:decoder_only --workdir=runs/decoder \\
        --config.pretrained.path=runs/f8c4                        a decoder for the latents of a frozen encoder
    python -m dfm.train --config=configs/autoencoder_kl_imagenet.py:f8c4:small --workdir=runs/crops \\
        --config.dataset.name=folder:PATH                           random windows of a folder's pictures, 1 h, one core

Words: f8c4 (83,653,863 parameters and 2,765,633 of the discriminator), f4c3, f16c16, cifar10; each alone or with
`:decoder_only` and `:small` (the same topology at widths 32 to 128, windows of 64 pixels, 2,000 steps) or `:quick` (60
steps of it, no LPIPS); cifar10 is small as it is. Keys: size of the windows in pixels, decoder_width (a factor).
Data: `python -m dfm.data.prepare imagenet2012`, or cifar10, or a folder. LPIPS weights: --lpips_weights or
DFM_LPIPS_WEIGHTS (VGG-16 as in the publication, or AlexNet); --config.objective.perceptual_weight=0 does without.

Cost and outcome (one CPU core, seed 0): cifar10 31 min, 26.4 dB and LPIPS 0.0087 on the 10,000 test pictures, rFID 57
of 2,048 of them; f8c4:small on 80 photographs 61 min, 21.0 dB on 20 others. f8c4 at its own size was not trained yet.
"""

import math

from ml_collections import ConfigDict

from dfm.config import defaults, parse_words
from dfm.errors import UserError

WORDS, MODIFIERS = ("f8c4", "f4c3", "f16c16", "cifar10"), ("small", "quick", "decoder_only")
# word -> widths, latent channels, widths of the small form; attention in the blocks of the lowest resolution or not
SHAPES = {
    "f8c4": ((128, 256, 512, 512), 4, (32, 64, 128, 128), False),
    "f4c3": ((128, 256, 512), 3, (32, 64, 128), False),
    "f16c16": ((128, 128, 256, 256, 512), 16, (32, 32, 64, 64, 128), True),
}


def get_config(arg: str = "") -> ConfigDict:
    word, modifiers, options = parse_words(arg, WORDS, MODIFIERS, size=0, decoder_width=1.0)
    config, decoder_width = defaults(), options["decoder_width"]
    if word == "cifar10" and (options["size"] or "small" in modifiers):
        raise UserError("cifar10 has 32 pixels and is small as it is: it goes without size and :small")
    if options["size"] < 0 or not 0 < decoder_width < math.inf:
        raise UserError("size must be at least 1 (0: that of the word), decoder_width a number above 0")
    if word == "cifar10":
        cifar10(config)
    else:
        imagenet(config, word, options["size"] or 256)
    if {"small", "quick"} & set(modifiers) and word != "cifar10":
        small(config, word, options["size"] or 64)
    if "quick" in modifiers:
        quick(config)
    if decoder_width != 1.0:
        groups, widths = config.model.norm_num_groups, config.model.block_out_channels
        scaled = (max(1, round(width * decoder_width / groups)) * groups for width in widths)
        config.model.decoder_block_out_channels = tuple(scaled)
        config.pretrained.groups = ("encoder", "quant_conv")
    if "decoder_only" in modifiers:
        decoder_only(config)
    return config


def imagenet(config: ConfigDict, word: str, size: int) -> None:
    """Rombach et al. 2022: L1 + LPIPS + 1e-6 KL + 0.5 adaptive hinge from step 50,001, Adam (0.5, 0.9), rate 4.5e-6
    times the batch; ours are the average of the weights, and that the discriminator learns 5,000 steps earlier.
    """
    widths, channels, _, attends = SHAPES[word]
    levels = len(widths) - 1
    config.dataset.update({"name": "imagenet2012", "crop": (size, size), "flip": True})
    config.model = {
        "name": "autoencoder_kl",
        "block_out_channels": widths,
        "latent_channels": channels,
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "sample_size": size,
        "decoder_block_out_channels": widths,
        "remat": False,
        "down_block_types": ("DownEncoderBlock2D",) * levels + (("Attn" if attends else "") + "DownEncoderBlock2D",),
        "up_block_types": (("Attn" if attends else "") + "UpDecoderBlock2D",) + ("UpDecoderBlock2D",) * levels,
    }
    config.objective = {
        "name": "autoencoder",
        "pixel_loss": "l1",
        "perceptual_weight": 1.0,
        "kl_weight": 1e-6,
        "adversarial_weight": 0.5,
        "adversarial_loss": "hinge",
        "discriminator_start_step": 45_000,
        "adversarial_start_step": 50_000,
        "r1_weight": 0.0,
        "lecam_weight": 0.0,
        "learn_log_variance": False,
        "freeze_encoder": False,
        "sample_posterior": True,
        "discriminator_features": 64,
        "discriminator_layers": 3,
    }
    config.batch_size, config.total_steps = 24, 250_000
    config.optimizer.update(
        {
            "name": "adam",
            "learning_rate": 24 * 4.5e-6,
            "b1": 0.5,
            "b2": 0.9,
            "groups": {"discriminator": {"learning_rate": 24 * 4.5e-6, "b1": 0.5}},
        }
    )
    config.ema_decay = 0.999
    config.compute_dtype = "bfloat16"
    config.log_every_steps, config.checkpoint_every_steps, config.sample_every_steps = 100, 5_000, 5_000


def cifar10(config: ConfigDict) -> None:
    """A small one, 1.4 million parameters, for half an hour of one CPU core: f = 4, 8x8 latents of four channels.

    Narrow where pixels are many: that is where the time goes. Larger rates than above, as the steps are few.
    """
    imagenet(config, "f8c4", 32)
    config.dataset.update({"name": "cifar10", "crop": (), "flip": True})
    config.model.update(
        {
            "block_out_channels": (16, 32, 96),
            "decoder_block_out_channels": (16, 32, 96),
            "layers_per_block": 1,
            "norm_num_groups": 8,
            "down_block_types": ("DownEncoderBlock2D",) * 3,
            "up_block_types": ("UpDecoderBlock2D",) * 3,
        }
    )
    config.objective.update({"discriminator_features": 32, "discriminator_layers": 2})
    short(config, batch_size=16, total_steps=4_500)
    config.optimizer.learning_rate = 2e-3


def small(config: ConfigDict, word: str, size: int) -> None:
    """The same topology, narrow, on small windows: what a CPU or a hundred pictures allow.

    Four channels a group at the finest level, as at full width, and not norms of single channels.
    """
    widths = SHAPES[word][2]
    config.model.update({"block_out_channels": widths, "decoder_block_out_channels": widths, "sample_size": size})
    config.model.norm_num_groups = 8
    config.dataset.crop = (size, size)
    config.objective.update({"discriminator_features": 32, "discriminator_layers": 2})
    short(config, batch_size=8, total_steps=2_000)


def short(config: ConfigDict, batch_size: int, total_steps: int) -> None:
    """Few steps: Muon, a large rate that falls, a discriminator for the last quarter, an average over the last ninth.

    Muon and the start of the layers: scripts/study_autoencoder_start.py. The rate here was chosen by
    probes on crops, which are not kept; that of cifar10 lies between the two of the study.
    """
    config.batch_size, config.total_steps, config.ema_decay = batch_size, total_steps, 1 - 9 / total_steps
    config.objective.update(
        {
            "discriminator_start_step": total_steps * 11 // 18,
            "adversarial_start_step": total_steps * 13 // 18,
            "adversarial_weight": 0.1,
        }
    )
    config.optimizer.update(
        {
            "name": "muon",
            "learning_rate": 1e-3,
            "final_learning_rate": 1e-5,
            "schedule": "cosine",
            "warmup_steps": 100,
            "b1": 0.9,
            "b2": 0.99,
            "gradient_clip_norm": 1.0,
            "groups": {"discriminator": {"name": "adam", "learning_rate": 2e-4, "b1": 0.5}},
        }
    )
    config.compute_dtype = "float32"
    config.log_every_steps, config.checkpoint_every_steps, config.sample_every_steps = 100, 1_000, 1_000


def quick(config: ConfigDict) -> None:
    """Steps that compile in seconds, without weights of another net; everything is on from the first one."""
    config.objective.update(
        {
            "perceptual_weight": 0.0,
            "discriminator_start_step": 0,
            "adversarial_start_step": 0,
            "discriminator_features": 16,
        }
    )
    config.optimizer.update({"name": "adam", "warmup_steps": 6})  # Muon takes longer to compile
    config.batch_size, config.total_steps, config.ema_decay = 8, 60, 0.9
    config.log_every_steps, config.checkpoint_every_steps, config.sample_every_steps = 10, 30, 30


def decoder_only(config: ConfigDict) -> None:
    """The encoder stays, bit by bit, and with it the meaning of latents; without mirrors its latents are cached."""
    config.objective.freeze_encoder = True


def sweep(add) -> None:
    for kl_weight in (1e-7, 1e-6, 1e-5):
        add(**{"objective.kl_weight": kl_weight})
