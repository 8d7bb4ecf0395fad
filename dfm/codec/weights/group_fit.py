"""Pictures that get the same net, fitted side by side: trained as floats, then rounded as finely as the bytes allow."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dfm.codec.profiles import Picture, ProgressReport
from dfm.codec.retreats import finest_fitting
from dfm.codec.weights import fitting, payload, quantization
from dfm.codec.weights.coefficients import STEP_INDICES
from dfm.codec.weights.fitting import Schedule
from dfm.codec.weights.payload import Architecture, Net
from dfm.codec.weights.recipes import Recipe
from dfm.errors import UserError
from dfm.models.fourier import COEFFICIENT_NAMES

SIZE_MARGIN = 0.985  # trained with rounding, coefficients move a little and the file grows or shrinks by about 1 %
Layers = list[dict[str, np.ndarray]]  # of one picture's net, coefficients [2^m, n]


def fit_group(
    pictures: Sequence[Picture],
    architecture: Architecture,
    limits: Sequence[int],
    recipe: Recipe,
    total_steps: int,
    seed: int,
    progress: ProgressReport | None,
) -> list[Net | None]:
    """A net of this architecture for each picture, None where no rounding keeps the picture's limit in bytes."""
    pixels = fitting.stack_pictures(pictures)
    if progress is not None:
        progress(0, total_steps, math.nan)  # compiling takes seconds, in which nothing else can be said
    key = jax.random.key(seed)
    state = fitting.start(recipe, architecture.widths, pixels, architecture.basis, key)
    if architecture.precision != "quantized":
        state = fitting.train(recipe, state, pixels, key, Schedule(0, total_steps, total_steps), progress=progress)
        return [_as_stored(Net(architecture, layers)) for layers in _unstack(state)]

    float_steps = total_steps - round(recipe.quantized_fraction * total_steps)
    state = fitting.train(recipe, state, pixels, key, Schedule(0, float_steps, total_steps), progress=progress)
    sensitivity = np.asarray(quantization.layer_sensitivity(state.layers, recipe.input_scale))
    roundings = [
        Rounding(architecture, layers, weight, limit)
        for layers, weight, limit in zip(_unstack(state), sensitivity, limits, strict=True)
    ]
    sizes = jnp.array(quantization.step_sizes(np.stack([rounding.step_indices for rounding in roundings])))
    last_steps = Schedule(float_steps, total_steps, total_steps)
    state = fitting.train(recipe, state, pixels, key, last_steps, sizes, progress)
    return [rounding.finish(layers) for rounding, layers in zip(roundings, _unstack(state), strict=True)]


class Rounding:
    """How finely one net is rounded so that its payload keeps within `limit` bytes.

    Chosen once for the net before its last steps, with a margin, and made coarser after them where that was not enough.
    `fineness` is None where even the coarsest takes more.
    """

    def __init__(self, architecture: Architecture, layers: Layers, sensitivity: Float[np.ndarray, "layer"], limit: int):
        self.architecture, self.sensitivity, self.limit = architecture, sensitivity, limit
        self.fineness = self._finest(layers, SIZE_MARGIN)
        self.step_indices = quantization.step_indices(layers, sensitivity, self.fineness or 0)

    def finish(self, layers: Layers) -> Net | None:
        """The net after its last steps, rounded with the step sizes that it was trained with, if it keeps the limit."""
        net = Net(self.architecture, quantization.quantize(layers, self.step_indices))
        while self.fineness is not None and len(payload.pack(net)) > self.limit:
            finest = self._finest(layers, 1.0)
            self.fineness = None if finest is None or self.fineness == 0 else min(self.fineness - 1, finest)
            net = self._rounded(layers, self.fineness or 0)
        return net if self.fineness is not None else None

    def _finest(self, layers: Layers, margin: float) -> int | None:
        size = self._size_of(layers)
        for limit in (int(margin * self.limit), self.limit):
            fineness = finest_fitting(size, limit, STEP_INDICES - 1)
            if fineness is not None:
                return fineness
        return None

    def _size_of(self, layers: Layers) -> Callable[[int], int]:
        def size(fineness: int) -> int:
            try:
                return len(payload.pack(self._rounded(layers, fineness)))
            except UserError:  # so coarse that the payload says too little of so large a net
                return 0

        return size

    def _rounded(self, layers: Layers, fineness: int) -> Net:
        indices = quantization.step_indices(layers, self.sensitivity, fineness)
        return Net(self.architecture, quantization.quantize(layers, indices))


def float_payload_bytes(architecture: Architecture) -> int:
    """Bytes of a payload of floats, which are known before the fit."""
    zeros = [
        {name: np.zeros((2**inputs, outputs), np.float32) for name in COEFFICIENT_NAMES[architecture.basis]}
        for inputs, outputs in architecture.layer_sizes
    ]
    return len(payload.pack(Net(architecture, zeros)))


def _as_stored(net: Net) -> Net:
    """A net of floats as it will be read back: of the stored precision, and without the coefficients of sin(0)."""
    return payload.unpack(payload.pack(net), net.architecture.channels)


def _unstack(state: fitting.FitState) -> list[Layers]:
    """The coefficients of each picture's net, without the picture axis."""
    layers = jax.device_get(state.layers)
    count = len(next(iter(layers[0].values())))
    return [[{name: c[i] for name, c in layer.items()} for layer in layers] for i in range(count)]
