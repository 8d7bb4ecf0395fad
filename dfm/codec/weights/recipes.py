"""How a net is started, trained and stored: the default, and the experiment of Asadi 2022."""

from dataclasses import dataclass

from dfm.errors import UserError

EFFORT_STEPS = {1: 300, 3: 1_000, 5: 3_000, 7: 10_000, 9: 30_000}
DEFAULT_EFFORT = 3


@dataclass(frozen=True)
class Recipe:
    """How a net is started and trained.

    Attributes:
        learning_rate: Adam's rate; see `scaled_rates`.
        schedule: "cosine" (to zero, after a linear warm-up over `warmup_fraction` of the steps) or "constant".
        adam_b2: decay of Adam's second moment a step; 0.999 forgets the large early gradients too late.
        batch_pixels: random pixels a step (all of them, in order, for smaller pictures).
        first_scale, hidden_scale, last_scale: standard deviation of a layer's output at the start; every coefficient of
            a layer with m inputs has standard deviation scale / sqrt(2^m).
        coefficient_std: one standard deviation for all coefficients in place of the three scales.
        scaled_rates: a layer with m inputs, of r between the first and the last, learns at
            learning_rate * 2^(6 - m) / r: its 2^m coefficients move an output together, as do the layers of a stack.
        first_rate, last_rate: factors on the first and the last layer's rate, where rates are scaled.
        input_scale: pixel coordinates in [0, 1] are multiplied by it (the net has period 1 in each).
        quantized_fraction: share of the steps, at the end, in which rounded coefficients are trained.
        retreats: whether a diverging fit goes back to its best state and goes on at half the rate, and what no fit
            does better is one colour.
        starts_at_mean: whether a fresh net paints the mean colour of a picture that is little else, not grey.
    """

    learning_rate: float
    schedule: str = "cosine"
    warmup_fraction: float = 0.1
    adam_b2: float = 0.99
    batch_pixels: int = 2**12
    first_scale: float = 0.45
    hidden_scale: float = 0.03
    last_scale: float = 0.05
    coefficient_std: float | None = None
    scaled_rates: bool = True
    first_rate: float = 0.33
    last_rate: float = 0.66
    input_scale: float = 0.75
    quantized_fraction: float = 0.25
    retreats: bool = True
    starts_at_mean: bool = True


@dataclass(frozen=True)
class Preset:
    """A recipe, and what is done where no option says otherwise.

    Attributes:
        precision: of the stored coefficients.
        total_steps: None for those of the default effort.
        starts: (coefficients fewer than, starts); larger nets have one. Small nets end several dB apart from different
            starts, and cost little.
        fixed_widths: the one net that there is, for no target of quality or size.
    """

    recipe: Recipe
    precision: str = "quantized"
    total_steps: int | None = None
    starts: tuple[tuple[int, int], ...] = ((700, 4), (1500, 2))
    fixed_widths: tuple[int, ...] | None = None


# Asadi 2022, section 5.1.3: Adam, constant 4e-4, 2^14 pixels a step, Gaussian weights of variance 2e-10
THESIS = Recipe(
    learning_rate=4e-4,
    schedule="constant",
    warmup_fraction=0.0,
    adam_b2=0.999,
    batch_pixels=2**14,
    coefficient_std=2e-10**0.5,
    scaled_rates=False,
    input_scale=1.0,
    quantized_fraction=0.0,
    retreats=False,
    starts_at_mean=False,
)
DEFAULT = Recipe(learning_rate=13e-3)
PRESETS = {
    "default": Preset(DEFAULT),
    "thesis": Preset(THESIS, precision="float32", total_steps=10_000, starts=(), fixed_widths=(8,) * 6),
}


def effort_steps(effort: int) -> int:
    """Training steps of an effort 1 ... 9; even efforts lie (geometrically) between their neighbours."""
    if effort not in range(1, 10):
        raise UserError(f"effort {effort} is outside 1 ... 9")
    if effort in EFFORT_STEPS:
        return EFFORT_STEPS[effort]
    return round((EFFORT_STEPS[effort - 1] * EFFORT_STEPS[effort + 1]) ** 0.5)
