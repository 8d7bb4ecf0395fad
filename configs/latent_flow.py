"""A prior on the latents of a finished run, by flow matching: local machines, AutoencoderKL, any model with an encoder.

    python -m dfm.train --config=configs/latent_flow.py --config.dataset.name=latents:runs/local --workdir=runs/flow
    python -m dfm.train --config=configs/latent_flow.py:wide,classes=10 ...                           by class
    python -m dfm.sample --workdir=runs/local --prior=latents:runs/flow --output=pictures
    python -m dfm.evaluate --workdir=runs/local --prior=latents:runs/flow --reference=cifar10:train

Words: small (width 256, depth 6), wide (width 384, depth 8, for an accelerator), quick (does it run?). `classes` is
the number of labels that it is conditioned on, `patch` the side of the square of places that make a token. The model of
the latents must not be trained further: its flow knows it by its parameters.

Cost and outcome: not measured yet.
"""

from ml_collections import ConfigDict

from dfm.config import defaults, parse_arg

SIZES = {"small": (256, 6, 4), "wide": (384, 8, 6), "quick": (64, 2, 2)}  # features, depth, heads


def get_config(arg: str = "") -> ConfigDict:
    word, options = parse_arg(arg, tuple(SIZES), classes=0, patch=1)
    features, depth, heads = SIZES[word]
    config = defaults()
    config.dataset.name = "latents:RUN"
    config.batch_size = 256
    config.model = {
        "name": "latent_flow",
        "features": features,
        "depth": depth,
        "heads": heads,
        "classes": options["classes"],
        "patch_size": options["patch"],
        "sampler": "heun",
        "sampling_steps": 20,
        "guidance": 1.0,
    }
    config.objective = {"name": "flow_matching"}
    config.total_steps = 50 if word == "quick" else 50_000
    config.optimizer.update({"learning_rate": 3e-4, "warmup_steps": min(1_000, config.total_steps // 5), "b2": 0.99})
    config.optimizer.gradient_clip_norm = 1.0
    config.ema_decay = 0.9995
    config.log_every_steps, config.checkpoint_every_steps, config.sample_every_steps = 200, 2_000, 0
    if word == "quick":
        config.log_every_steps, config.checkpoint_every_steps = 10, 25
    return config
