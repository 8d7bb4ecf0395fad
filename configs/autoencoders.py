"""The autoencoder family on digits, MNIST or CIFAR-10: one trunk, one word a model.

    python -m dfm.train --config=configs/autoencoders.py:vae --workdir=runs/vae               on the digits
    python -m dfm.train --config=configs/autoencoders.py:vq_vae,dataset=mnist --workdir=runs/vq
    python -m dfm.train --config=configs/autoencoders.py:gan:quick,dataset=cifar10 --workdir=runs/quick
    python -m dfm.train --config=configs/autoencoders.py:code_prior,dataset=codes:runs/vq --workdir=runs/codes
    python -m dfm.sample --workdir=runs/vq --prior=codes:runs/codes --output=pictures

Words: pca (closed form: one pass, one step), linear_ae (spans what PCA spans), ae, rae (L2), wae (MMD), vae (one
learned sigma), beta_vae (beta 4), vamp_vae (and --config.model.prior=vamp of the other VAEs without classes), sigma_vae
(optimal sigma), bernoulli_vae, conditional_vae, hierarchical_vae, vq_vae (--config.model.averaged_codes=false: its book
learns by gradients), code_prior (a transformer over the codes of a vq_vae's run, told the class with
--config.model.classes=10), gan (--config.objective.loss=vanilla). `:quick` takes 60 steps.

Trunk: dense 64-128-128 for the digits; 64 and 128 channels at f = 4 and a dense layer of 1,024 for the others (Ghosh et
al. 2020 in small). Latents: 8 numbers for digits, 16 for MNIST, 64 for CIFAR-10. Cost and outcome: results/README.md.
"""

from typing import Any

from ml_collections import ConfigDict

from dfm.config import defaults, parse_words
from dfm.data.datasets import SHAPES

LATENTS = {"digits": 8, "mnist": 16, "cifar10": 64}
STEPS = {"digits": 5_000, "mnist": 3_700, "cifar10": 3_700}
WORDS = (
    "vae",
    "pca",
    "linear_ae",
    "ae",
    "rae",
    "wae",
    "beta_vae",
    "vamp_vae",
    "sigma_vae",
    "bernoulli_vae",
    "conditional_vae",
    "hierarchical_vae",
    "vq_vae",
    "code_prior",
    "gan",
)


def get_config(arg: str = "") -> ConfigDict:
    word, modifiers, options = parse_words(arg, WORDS, ("quick",), dataset="digits")
    config = defaults()
    config.dataset.name = options["dataset"]
    config.batch_size = 128 if options["dataset"] != "digits" else 100
    config.total_steps = STEPS.get(options["dataset"], 3_700)
    config.model, config.objective = model_and_objective(word, options["dataset"])
    config.optimizer.update({"learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 300})
    if word == "gan":
        config.optimizer.update(
            {"learning_rate": 2e-4, "schedule": "constant", "b1": 0.5, "b2": 0.9, "warmup_steps": 0}
        )
    config.ema_decay = 0.999
    config.log_every_steps, config.checkpoint_every_steps, config.sample_every_steps = 100, 1_000, 1_000
    if "quick" in modifiers:
        config.total_steps, config.optimizer.warmup_steps = 60, 0
        config.log_every_steps, config.checkpoint_every_steps, config.sample_every_steps = 20, 30, 60
    if word == "code_prior":  # sizes are those of the codes; samples of codes alone say nothing to the eye
        config.dataset.name = options["dataset"] if options["dataset"].startswith("codes:") else "codes:"
        config.sample_every_steps = 0
    if word == "pca":
        config.total_steps, config.ema_decay = 1, 0.0
    return config


def model_and_objective(word: str, dataset: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The two sections of a word; other data sets than those of SHAPES take CIFAR-10's size until it is overridden."""
    height, width, channels = SHAPES.get(dataset, SHAPES["cifar10"])
    size = {"height": height, "width": width, "channels": channels}
    latents = LATENTS.get(dataset, LATENTS["cifar10"])
    trunk: dict[str, Any] = {"name": "autoencoder", **size, "latent": (latents,)}
    trunk |= {"trunk": "dense", "widths": (128, 128)} if dataset == "digits" else {"trunk": "conv"}
    trunk |= {"activation": "relu", "output": "identity"}
    autoencoding = {"name": "autoencoding", "loss": "mse"}
    point = {**trunk, "bottleneck": "point"}
    vae = {**trunk, "prior": "normal", "pseudo_inputs": 100}
    elbo = {"name": "elbo", "likelihood": "gaussian", "beta": 1.0, "warmup_steps": 0}
    learned = {**elbo, "sigma": "learned", "sigma_value": 0.5}
    grid = {"grid": True} if dataset != "digits" else {}
    return {
        "pca": ({**point, "trunk": "dense", "widths": ()}, {"name": "principal_components"}),
        "linear_ae": ({**point, "trunk": "dense", "widths": ()}, autoencoding),
        "ae": (point, autoencoding),
        "rae": (point, {**autoencoding, "code_penalty": 1e-3, "decoder_penalty": 1e-6}),
        "wae": (point, {**autoencoding, "mmd_weight": 0.1}),
        "vae": (vae, learned),
        "beta_vae": (vae, {**learned, "beta": 4.0}),
        "vamp_vae": ({**vae, "prior": "vamp"}, learned),
        "sigma_vae": (vae, {**elbo, "sigma": "optimal"}),
        "bernoulli_vae": ({**vae, "output": "sigmoid"}, {**elbo, "likelihood": "bernoulli", "sigma": "fixed"}),
        "conditional_vae": ({**trunk, "classes": 10}, learned),
        "hierarchical_vae": (
            {"name": "hierarchical_vae", **size, "levels": 2, "top": latents // 2, "latent_channels": 4},
            {**elbo, "sigma": "optimal", "warmup_steps": 1_000},
        ),
        "vq_vae": (
            {
                **point,
                "bottleneck": "vq",
                **grid,
                "latent": (64,) if grid else (8, 8),
                "codes": 512 if grid else 32,
                "averaged_codes": True,
            },
            {"name": "vector_quantized"},
        ),
        "code_prior": (
            {
                "name": "code_transformer",
                "height": 0,
                "width": 0,
                "codes": 0,
                "layers": 4,
                "features": 128,
                "classes": 0,
            },
            {"name": "code_likelihood"},
        ),
        "gan": (
            {"name": "gan", **size, "latent_size": 128 if grid else 16, "features": 16 if grid else 4},
            {"name": "gan", "loss": "hinge", "discriminator_features": 16 if grid else 4},
        ),
    }[word]
