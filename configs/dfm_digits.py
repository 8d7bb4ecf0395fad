"""A Deep Fourier Machine that generates 8x8 digits: scikit-learn's 1,500 real ones, no download.

    python -m dfm.train --config=configs/dfm_digits.py --workdir=runs/digits             tuned
    python -m dfm.train --config=configs/dfm_digits.py:quick --workdir=runs/quick        under a minute on two cores
    python -m dfm.train --config=configs/dfm_digits.py:thesis --workdir=runs/thesis      the recipe of Asadi 2022
    python -m dfm.train --config=configs/dfm_digits.py:class=2 --workdir=runs/twos       one class alone

The net is small, as the pictures are: width 3, depth 3, 68 coefficients from 12 latents, one table row a picture.

Cost: 30,000 steps, 75 s of one CPU core. Outcome (seed 0): 24.0 dB on the training pictures; fd-digits of 10,000
samples of a mixture of ten Gaussians 18.8, rfd-digits 2.9 (results/evaluate.jsonl). Without `input_shift` 19.4 dB,
23.6 and 13.1: four of the 64 pixels lay on the crease that dfm/models/dfm.py derives.
"""

from ml_collections import ConfigDict

from dfm.config import defaults, parse_arg


def get_config(arg: str = "") -> ConfigDict:
    word, options = parse_arg(arg, ("tuned", "thesis", "quick"), **{"class": -1})
    config = defaults()
    config.batch_size = 50
    config.total_steps = 30_000
    config.dataset.name = "digits"
    config.dataset.label = options["class"]
    config.model = {
        "name": "dfm",
        "height": 8,
        "width": 8,
        "channels": 1,
        "net_width": 3,
        "net_depth": 3,
        "basis": "cas",
        "latent_size": 12,
        "decoder_widths": (64, 128),
        "encoder_widths": (),
    }
    if word == "thesis":
        thesis(config)
    else:
        tuned(config)
        config.checkpoint_every_steps = config.sample_every_steps = 5_000
        config.log_every_steps = 500
    if word == "quick":
        config.total_steps = 600
        config.log_every_steps, config.checkpoint_every_steps, config.sample_every_steps = 50, 300, 300
    return config


def tuned(config: ConfigDict) -> None:
    """Ours, as for MNIST: a smooth decoder over a table that starts from PCA, half a period, warm-up and cosine."""
    config.model.update({"activation": "silu", "input_scale": 0.5, "input_shift": 0.125})
    config.objective = {"name": "reconstruction", "latent_penalty": 2e-4, "latent_start": "pca", "latent_noise": 0.3}
    config.optimizer.update(
        {"learning_rate": 4e-3, "schedule": "cosine", "warmup_steps": 200, "b2": 0.99, "gradient_clip_norm": 1.0}
    )
    config.ema_decay = 0.99


def thesis(config: ConfigDict) -> None:
    """Asadi 2022, section 5.2: Adam, linear 1e-3 -> 1e-7, a table that learns 10^6 times slower, lambda 0.5."""
    config.model.update({"activation": "relu", "kernel_variance": 2e-2})
    config.objective = {"name": "reconstruction", "latent_penalty": 0.5, "latent_variance": 2e-2}
    config.optimizer.learning_rate = 1e-3
    config.optimizer.final_learning_rate = 1e-7
    config.optimizer.schedule = "linear"
    config.optimizer.groups = {"latents": {"learning_rate": 1e-9, "final_learning_rate": 1e-13}}


def sweep(add) -> None:
    for learning_rate in (3e-4, 1e-3, 3e-3):
        for latent_size in (8, 12, 16):
            add(**{"optimizer.learning_rate": learning_rate, "model.latent_size": latent_size})
