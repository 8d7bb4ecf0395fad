"""Optimizers and learning rates by name, with settings of their own for groups of parameters.

A group is a top-level key of the parameters ("encoder", "decoder", "discriminator") or the latent table ("latents");
one without an optimizer here is frozen: it has no optimizer state and is never written. Every optimizer is
built for a learning rate of one; the rate at the global step multiplies its update. That keeps rates in one place, and
lets the rows of a latent table, which are updated at different times, follow one schedule.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, Float
from optax.contrib import MuonDimensionNumbers

from dfm.errors import UserError
from dfm.objectives.protocol import LATENTS
from dfm.registry import nearest

Settings = Mapping[str, Any]


def _adam(settings: Settings) -> optax.GradientTransformation:
    return optax.adam(1.0, b1=settings["b1"], b2=settings["b2"])


def _adamw(settings: Settings) -> optax.GradientTransformation:
    return optax.adamw(1.0, b1=settings["b1"], b2=settings["b2"], weight_decay=settings["weight_decay"])


def _muon(settings: Settings) -> optax.GradientTransformation:
    """Muon for matrices and the kernels of convolutions, Adam (b1, b2) for everything else.

    A kernel [rows, columns, inputs, outputs] counts as the matrix of (rows columns inputs) x outputs that it multiplies
    with. consistent_rms scales a matrix's update to the size that Adam's has, so that one learning rate serves both.
    Adam is named here, because optax's Muon would take NAdam for the rest.
    """
    kinds = {
        "muon": optax.contrib.muon(
            1.0,
            weight_decay=settings["weight_decay"],
            consistent_rms=0.2,
            muon_weight_dimension_numbers=lambda params: jax.tree.map(_as_matrix, params),
        ),
        "adam": _adamw(settings),
    }
    return optax.partition(kinds, lambda params: jax.tree.map(lambda p: "muon" if _as_matrix(p) else "adam", params))


def _as_matrix(p: Any) -> MuonDimensionNumbers | None:
    """Which axes of a parameter are the inputs and outputs of a matrix; None: it is none."""
    if p.ndim not in (2, 4):
        return None
    return MuonDimensionNumbers(reduction_axis=tuple(range(p.ndim - 1)), output_axis=p.ndim - 1)


def _rmsprop(settings: Settings) -> optax.GradientTransformation:
    """Hinton's: gradients over the root of the average of their squares, which forgets at the rate b2 (0.9 usually).

    optax adds its eps below the root, and losses here are means, whose gradients are small: the root of 1e-16 is what
    Adam adds."""
    return optax.rmsprop(1.0, decay=settings["b2"], eps=1e-16)


def _sgd(settings: Settings) -> optax.GradientTransformation:
    """Plain descent, without momentum."""
    return optax.sgd(1.0)


OPTIMIZERS: dict[str, Callable[[Settings], optax.GradientTransformation]] = {
    "adam": _adam,
    "adamw": _adamw,
    "muon": _muon,
    "rmsprop": _rmsprop,
    "sgd": _sgd,
}
DECAYING = ("adamw", "muon")

# name -> rate from the first rate, the last one and the fraction of the steps after the warm-up that are done
SCHEDULES: dict[str, Callable[[float, float, Array], Array]] = {
    "constant": lambda first, last, fraction: first + 0.0 * fraction,
    "linear": lambda first, last, fraction: first + (last - first) * fraction,
    "cosine": lambda first, last, fraction: last + (first - last) * 0.5 * (1.0 + jnp.cos(jnp.pi * fraction)),
}


def learning_rate(settings: Settings, total_steps: int, step: ArrayLike) -> Float[Array, ""]:
    """Learning rate of the step after `step` steps: warm-up, times the schedule over what follows it.

    The warm-up rises in equal parts, (step + 1) / warmup_steps, and reaches the whole rate at its last step. From there
    on a schedule runs from `learning_rate`, at step = warmup_steps, towards `final_learning_rate`, at total_steps.
    """
    warmup = settings["warmup_steps"]
    now = jnp.asarray(step, jnp.float32)
    fraction = jnp.clip((now - warmup) / max(1, total_steps - warmup), 0.0, 1.0)
    rate = SCHEDULES[settings["schedule"]](settings["learning_rate"], settings["final_learning_rate"], fraction)
    return rate * jnp.minimum(1.0, (now + 1.0) / max(1, warmup))


@dataclass(frozen=True)
class Group:
    """The optimizer of one group: a transformation for a learning rate of one, and the rate by step."""

    transformation: optax.GradientTransformation
    rate: Callable[[ArrayLike], Array]

    def update(self, gradients, opt_state, params, rate: Array):
        """(new params, new opt_state) of one descent."""
        updates, opt_state = self.transformation.update(gradients, opt_state, params)
        return jax.tree.map(lambda p, u: p + (rate * u).astype(p.dtype), params, updates), opt_state


@dataclass(frozen=True)
class Optimizer:
    """The optimizers of all groups.

    Attributes:
        groups: of each top-level key of the parameters that learns, and of the latent table.
        gradient_clip_norm: gradients of one `update` are scaled down to this global norm; 0: never. The table's
            rows take no part: each has its own picture's gradient.
    """

    groups: dict[str, Group]
    gradient_clip_norm: float = 0.0

    def init(self, params) -> dict[str, Any]:
        return {name: self.groups[name].transformation.init(params[name]) for name in params if name in self.groups}

    def init_rows(self, rows: Float[Array, "n latent_size"]):
        return jax.vmap(self.groups[LATENTS].transformation.init)(rows)

    def update(self, gradients, opt_state, params, step: Array):
        """(new params, new opt_state, global norm of the gradients before clipping).

        Groups without a gradient stay as they are, values and moments.
        """
        norm = optax.tree.norm(gradients)
        if self.gradient_clip_norm > 0:
            scale = jnp.minimum(1.0, self.gradient_clip_norm / jnp.maximum(norm, 1e-30))
            gradients = jax.tree.map(lambda g: g * scale, gradients)
        new_params, new_state = dict(params), dict(opt_state)
        for name, gradient in gradients.items():
            group = self.groups[name]
            new_params[name], new_state[name] = group.update(gradient, opt_state[name], params[name], group.rate(step))
        return new_params, new_state, norm

    def update_rows(self, gradients, opt_state, rows: Float[Array, "n latent_size"], step: Array):
        """(new rows, new opt_state): each row by itself, all at the learning rate of the global step."""
        group = self.groups[LATENTS]
        return jax.vmap(group.update, in_axes=(0, 0, 0, None))(gradients, opt_state, rows, group.rate(step))

    def learning_rates(self, step: int) -> dict[str, float]:
        """{"learning_rate/<group>": rate} of the step after `step` steps."""
        return {f"learning_rate/{name}": float(group.rate(step)) for name, group in self.groups.items()}


def build(
    settings: Settings, total_steps: int, group_names: tuple[str, ...], other_names: tuple[str, ...] = ()
) -> Optimizer:
    """The optimizer that `config.optimizer` describes, for these groups of parameters.

    `settings.groups.<name>` overrides any setting but gradient_clip_norm for one group.

    Args:
        group_names: the groups that learn.
        other_names: groups that this objective has under other settings: they may have settings here.

    Raises:
        UserError: a name or a value that cannot be; a group that the objective never has.
    """
    shared = {key: value for key, value in settings.items() if key != "groups"}
    overrides = settings.get("groups") or {}
    for name, group in overrides.items():
        if name not in (*group_names, *other_names):
            raise UserError(f"optimizer.groups.{name}: no such group{nearest(name, (*group_names, *other_names))}")
        for key in group:
            if key not in shared or key == "gradient_clip_norm":
                known = [key for key in shared if key != "gradient_clip_norm"]
                raise UserError(f"optimizer.groups.{name}.{key}: not a setting of a group{nearest(key, known)}")
    groups = {name: _group(name, {**shared, **overrides.get(name, {})}, total_steps) for name in group_names}
    return Optimizer(groups, float(shared["gradient_clip_norm"]))


def _group(name: str, settings: Settings, total_steps: int) -> Group:
    where = f"optimizer ({name})"
    for key, known in (("name", OPTIMIZERS), ("schedule", SCHEDULES)):
        if settings[key] not in known:
            raise UserError(f"{where}: unknown {key} '{settings[key]}'{nearest(settings[key], known)}")
    for key in ("learning_rate", "final_learning_rate", "weight_decay", "warmup_steps"):
        if not 0 <= settings[key] < float("inf"):
            raise UserError(f"{where}: {key} must be at least 0, not {settings[key]}")
    for key in ("b1", "b2"):
        if not 0 <= settings[key] < 1:
            raise UserError(f"{where}: {key} must be in [0, 1), not {settings[key]}")
    if settings["weight_decay"] and settings["name"] not in DECAYING:
        raise UserError(f"{where}: {settings['name']} has no weight_decay; {' and '.join(DECAYING)} have")
    return Group(OPTIMIZERS[settings["name"]](settings), lambda step: learning_rate(settings, total_steps, step))
