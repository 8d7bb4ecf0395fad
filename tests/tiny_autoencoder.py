"""An autoencoder with all of its objective that compiles in seconds, for tests: pictures of the digits' size."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfm.models.autoencoder_kl import AutoencoderKL
from dfm.objectives.autoencoder import Autoencoder
from dfm.objectives.protocol import group_of
from dfm.training import optimizers
from dfm.training.state import TrainState, averaged

SIDE, BATCH = 8, 8
MODEL = {
    "block_out_channels": (4, 4),
    "norm_num_groups": 2,
    "latent_channels": 2,
    "mid_block_add_attention": False,
    "in_channels": 1,
    "out_channels": 1,
}
OBJECTIVE = {
    "perceptual_weight": 0.5,
    "kl_weight": 0.01,
    "adversarial_start_step": 4,
    "discriminator_start_step": 2,
    "discriminator_features": 4,
    "discriminator_layers": 1,
}
ADAM = {
    "name": "adam",
    "learning_rate": 1e-3,
    "schedule": "constant",
    "final_learning_rate": 0.0,
    "warmup_steps": 0,
    "b1": 0.5,
    "b2": 0.9,
    "weight_decay": 0.0,
    "gradient_clip_norm": 0.0,
    "groups": {},
}


def start_from_numpy(patch: Any) -> None:
    """With this monkeypatch, autoencoders start from NumPy's numbers: compiling their start takes long."""
    first = Autoencoder.init
    start = lambda self, key: random_like(jax.eval_shape(functools.partial(first, self), key), self.log_variance)  # noqa: E731
    patch.setattr(Autoencoder, "init", start)


def perceptual(a: jax.Array, b: jax.Array) -> jax.Array:
    """In place of LPIPS: squared differences of neighbouring pixels, one number a picture, inputs in [0, 255]."""
    rows = [jnp.diff(x, axis=1) / 127.5 for x in (a, b)]
    return jnp.square(rows[0] - rows[1]).mean((1, 2, 3))


def objective(**changes: Any) -> Autoencoder:
    return Autoencoder(AutoencoderKL(**MODEL), **{**OBJECTIVE, **changes}, lpips=perceptual)


def optimizer_of(objective: Autoencoder, **changes: Any) -> optimizers.Optimizer:
    shapes = jax.eval_shape(objective.init, jax.random.key(0))
    groups = tuple(name for name in shapes if group_of(objective, name).learns)
    return optimizers.build({**ADAM, **changes}, 100, groups)


def params_of(objective: Autoencoder) -> Any:
    return random_like(jax.eval_shape(objective.init, jax.random.key(0)), objective.log_variance)


def random_like(shapes: Any, log_variance: float) -> Any:
    """Parameters by NumPy, of a start's size: compiling a start takes longer than most tests."""
    rng = np.random.default_rng(0)

    def draw(path: Any, leaf: Any) -> jax.Array:
        scale = 0.3 if leaf.ndim < 2 else (leaf.size // leaf.shape[-1]) ** -0.5
        around = 1.0 if path[-1].key == "scale" else log_variance if leaf.ndim == 0 else 0.0
        return jnp.asarray(around + scale * rng.normal(size=leaf.shape) * (leaf.ndim > 0), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def statistics_of(objective: Autoencoder) -> Any:
    """Of a start: means 0, variances 1."""
    shapes = jax.eval_shape(objective.init_statistics, jax.random.key(0))
    ones = lambda path, leaf: jnp.full(leaf.shape, float(path[-1].key == "var"))  # noqa: E731
    return jax.tree_util.tree_map_with_path(ones, shapes)


def state_of(objective: Autoencoder, optimizer: optimizers.Optimizer, ema: bool = False) -> TrainState:
    """The state before the first step, from `params_of`."""
    params = params_of(objective)
    return TrainState(
        step=jnp.int32(0),
        key=jax.random.key(3),
        params=params,
        ema_params=averaged(objective, params) if ema else None,
        opt_state=jax.jit(optimizer.init)(params),
        latents=None,
        statistics=statistics_of(objective),
    )


def batch(seed: int = 0, count: int = BATCH, side: int = SIDE) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (count, side, side, 1)).astype(np.uint8)
    return {"image": image, "label": np.zeros(count, np.int32), "index": np.arange(count, dtype=np.int32)}


def distance(a: Any, b: Any) -> float:
    """Relative, in the L2 norm, over all leaves."""
    a, b = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]).astype(np.float64) for tree in (a, b))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def same_bytes(a: Any, b: Any) -> bool:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in pairs)
