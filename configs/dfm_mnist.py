"""Deep Fourier Machines that paint MNIST: width 4, depth 6, 352 coefficients from 55 latents (Asadi 2022, 5.2.2).

    python -m dfm.train --config=configs/dfm_mnist.py --workdir=runs/mnist                     tuned
    python -m dfm.train --config=configs/dfm_mnist.py:class=2 --workdir=runs/twos              one digit alone
    python -m dfm.train --config=configs/dfm_mnist.py:thesis --workdir=runs/mnist_thesis       the recipe of the thesis
    python -m dfm.train --config=configs/dfm_mnist.py:quick --workdir=runs/quick               a minute: does it run?

Data: `python -m dfm.data.prepare mnist`. A table of latents, one row a picture; other pictures get theirs by
`python -m dfm.sample --what=invert`.

Cost and outcome (one CPU core, seed 0; PSNR on 5,000 training pictures): tuned 100,000 steps at up to 150 a second,
22.4 dB where 55 principal components have 19.7, fd-mnist of 10,000 samples of a mixture of ten Gaussians 71.5; class=2
and class=7 25,000 steps in 2.5 min, 22.8 and 25.3 dB (PCA 20.2 and 22.4); thesis 2 min, 10.1 dB, below the 11.7 dB of a
constant picture.
"""

from ml_collections import ConfigDict

from dfm.config import defaults, parse_arg


def get_config(arg: str = "") -> ConfigDict:
    word, options = parse_arg(arg, ("tuned", "thesis", "quick"), **{"class": -1})
    config = defaults()
    config.dataset.name = "mnist"
    config.dataset.label = options["class"]
    config.batch_size = 64
    config.model = {
        "name": "dfm",
        "height": 28,
        "width": 28,
        "channels": 1,
        "net_width": 4,
        "net_depth": 6,
        "basis": "cas",
        "latent_size": 55,
        "decoder_widths": (170, 220),
        "encoder_widths": (),
    }
    if word == "thesis":
        thesis(config)
        return config
    tuned(config, total_steps=100_000 if options["class"] < 0 else 25_000)
    if word == "quick":
        config.total_steps = 1_500
        config.optimizer.warmup_steps = 150
        config.sample_every_steps = config.checkpoint_every_steps = 500
    return config


def tuned(config: ConfigDict, total_steps: int) -> None:
    """Ours: shared coefficients + deviations, rates a layer, half a period, a table that starts from PCA, cosine."""
    config.model.update({"activation": "silu", "input_scale": 0.5, "input_shift": 0.125})
    config.objective = {
        "name": "reconstruction",
        "latent_penalty": 2e-4,
        "points_per_picture": 196,
        "latent_start": "pca",
        "latent_noise": 0.5,
    }
    config.total_steps = total_steps
    config.optimizer.update(
        {
            "learning_rate": 2e-3,
            "schedule": "cosine",
            "warmup_steps": total_steps // 50,
            "b2": 0.99,
            "gradient_clip_norm": 1.0,
        }
    )
    config.ema_decay = 0.999
    config.log_every_steps = 500
    config.checkpoint_every_steps = config.sample_every_steps = 5_000


def thesis(config: ConfigDict) -> None:
    """Section 5.1.3 to the letter: Gaussian weights and latents of variance 2e-2, lambda 0.5 with means over pixels,
    Adam 1e-3 -> 1e-7, a table that learns 10^6 times slower, train and test pictures. The thesis gives no step count.
    """
    config.dataset.split = "train+test"
    config.model.update({"activation": "relu", "kernel_variance": 2e-2})
    config.objective = {"name": "reconstruction", "latent_penalty": 0.5, "latent_variance": 2e-2}
    config.total_steps = 2_000
    config.optimizer.update({"learning_rate": 1e-3, "final_learning_rate": 1e-7, "schedule": "linear"})
    config.optimizer.groups = {"latents": {"learning_rate": 1e-9, "final_learning_rate": 1e-13}}
    config.log_every_steps = 50
    config.checkpoint_every_steps = config.sample_every_steps = 500


def sweep(add) -> None:
    for learning_rate in (1e-3, 2e-3, 4e-3):
        for latent_penalty in (1e-5, 1e-4):
            add(**{"optimizer.learning_rate": learning_rate, "objective.latent_penalty": latent_penalty})
