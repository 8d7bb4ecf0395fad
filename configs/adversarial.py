"""Adversarial Deep Fourier Machines, and the SNGAN of equal size and steps that they are measured against.

    python -m dfm.train --config=configs/adversarial.py:cells --workdir=runs/cells         blended Fourier cells
    python -m dfm.train --config=configs/adversarial.py:machine --workdir=runs/machine     one Fourier net a picture
    python -m dfm.train --config=configs/adversarial.py:sngan --workdir=runs/sngan         convolutions to the pixel
    python -m dfm.train --config=configs/adversarial.py:cells:wide --workdir=runs/wide     for an accelerator
    python -m dfm.train --config=configs/adversarial.py:quick,dataset=mnist --workdir=runs/quick

All three have one discriminator (dfm/models/gan.py), hinge loss, Adam 2e-4 with betas 0.5 and 0.9, and samples by the
moving average. Generators of `cells` and `sngan` have about 0.38 million parameters, with `wide` 2.8 million and a
discriminator of four times the width, as Miyato et al. 2018; `machine` has dfm_cifar10's net, 3.7 million of whose
4.2 are the last dense layer, under either word. Outcome of 40,000 steps, FID of 10,000 samples against the training
pictures: `cells` 58.1, `sngan` 51.9 (results/README.md), at 8 steps a second of two idle CPU cores; `machine` and
`wide` are not measured yet.
"""

from typing import Any

from ml_collections import ConfigDict

from dfm.config import defaults, parse_words
from dfm.data.datasets import SHAPES

WORDS = ("cells", "machine", "sngan")


def get_config(arg: str = "") -> ConfigDict:
    word, modifiers, options = parse_words(arg, WORDS, ("wide", "quick"), dataset="cifar10")
    height, width, channels = SHAPES.get(options["dataset"], SHAPES["cifar10"])
    wide = "wide" in modifiers
    config = defaults()
    config.dataset.name = options["dataset"]
    size = {"height": height, "width": width, "channels": channels, "latent_size": 128}
    config.model = {**size, **generator(word, wide)}
    config.objective = {"name": "gan", "loss": "hinge", "discriminator_features": 64 if wide else 16}
    config.optimizer.update({"learning_rate": 2e-4, "b1": 0.5, "b2": 0.9})
    config.batch_size, config.total_steps = (128, 100_000) if wide else (64, 40_000)
    config.ema_decay = 0.9999 if wide else 0.999
    config.log_every_steps, config.checkpoint_every_steps, config.sample_every_steps = 200, 2_000, 2_000
    if "quick" in modifiers:
        config.total_steps = 60
        config.log_every_steps, config.checkpoint_every_steps, config.sample_every_steps = 20, 30, 60
    return config


def generator(word: str, wide: bool) -> dict[str, Any]:
    """The model's section, but for its sizes."""
    if word == "machine":
        return {
            "name": "dfm",
            "net_width": 6,
            "net_depth": 10,
            "decoder_widths": (500, 1000),
            "activation": "silu",
            "input_scale": 0.5,
            "input_shift": 0.125,
            "coefficient_rate": 0.06,
            "first_scale": 0.45,
            "hidden_scale": 0.003,
        }
    factor = 4 if wide else 1
    return (
        {"name": "fourier_gan", "features": 64 * factor}
        if word == "cells"
        else {"name": "gan", "features": 16 * factor}
    )
