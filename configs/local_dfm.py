"""Local Deep Fourier Machines: a grid of latents, and a small Fourier net a cell (dfm/models/local_dfm.py).

    python -m dfm.train --config=configs/local_dfm.py:4x4x16 --workdir=runs/local             CIFAR-10, 256 numbers
    python -m dfm.train --config=configs/local_dfm.py:8x8x16 --workdir=runs/local1024         CIFAR-10, 1,024 numbers
    python -m dfm.train --config=configs/local_dfm.py:8x8x4:perceptual --workdir=runs/lpips   with LPIPS in the loss
    python -m dfm.train --config=configs/local_dfm.py:4x4x4,dataset=mnist --workdir=runs/mnist
    python -m dfm.train --config=configs/local_dfm.py:quick --workdir=runs/quick              does it run?

Words: 4x4x16, 8x8x4, 8x8x16, 4x4x4, as rows x columns x channels of the latents of 32x32 pixels. Modifiers: `wide` has
twice the channels and two residual blocks more on either side, for an accelerator; `perceptual` adds 0.1 LPIPS;
`noisy` adds noise to the latents, which keeps the decoder smooth for a prior (configs/latent_flow.py).

Outcome, of the mean squared error on CIFAR-10's test split: 8x8x4:perceptual:noisy 26.2 dB after 12,000 steps (256
principal components: 25.8), 8x8x16 35.3 dB after 10,000 (results/README.md). Cost: 0.3 s a step of 128 pictures on two
busy CPU cores.
"""

from ml_collections import ConfigDict

from dfm.config import defaults, parse_words
from dfm.data.datasets import SHAPES

WIDTHS = {"4x4": (32, 64, 128), "8x8": (64, 128)}  # of the encoder's convolutions of stride 2
WORDS = ("4x4x16", "8x8x4", "8x8x16", "4x4x4")


def get_config(arg: str = "") -> ConfigDict:
    word, modifiers, options = parse_words(arg, WORDS, ("wide", "perceptual", "noisy", "quick"), dataset="cifar10")
    grid, _, channels = word.rpartition("x")
    height, width, colours = SHAPES.get(options["dataset"], SHAPES["cifar10"])
    factor = 2 if "wide" in modifiers else 1
    config = defaults()
    config.dataset.name = options["dataset"]
    config.batch_size = 128
    config.model = {
        "name": "local_dfm",
        "height": height,
        "width": width,
        "channels": colours,
        "encoder_widths": tuple(factor * width for width in WIDTHS[grid]),
        "latent_channels": int(channels),
        "features": factor * 128,
        "blocks": 3 if "wide" in modifiers else 1,
        "encoder_blocks": 2 if "wide" in modifiers else 0,
    }
    config.objective = {"name": "autoencoding"}
    if "perceptual" in modifiers:
        config.objective["perceptual_weight"] = 0.1
    if "noisy" in modifiers:
        config.objective.update({"latent_noise": 0.1, "code_penalty": 1e-4})
    config.total_steps = 20_000
    config.optimizer.update(
        {"learning_rate": 2e-3, "schedule": "cosine", "warmup_steps": 500, "b2": 0.99, "gradient_clip_norm": 1.0}
    )
    config.ema_decay = 0.999
    config.log_every_steps, config.checkpoint_every_steps, config.sample_every_steps = 200, 2_000, 2_000
    if "quick" in modifiers:
        config.total_steps, config.optimizer.warmup_steps = 200, 20
        config.log_every_steps, config.checkpoint_every_steps, config.sample_every_steps = 20, 100, 200
    return config
