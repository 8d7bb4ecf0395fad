"""The weights profile: a Deep Fourier Machine fitted to one picture, whose coefficients are the file."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from dfm.codec import container
from dfm.codec.profiles import Fitted, Picture, Plan, ProgressReport, Shape
from dfm.codec.weights import architectures, payload, recipes
from dfm.codec.weights.payload import MAX_COEFFICIENTS_PER_BYTE, PRECISIONS, Architecture, Net
from dfm.codec.weights.recipes import Preset, Recipe
from dfm.errors import UserError
from dfm.models.fourier import COEFFICIENT_NAMES

SMALLEST_TARGET = 64  # bytes: about 30 of header and side information, and the smallest net
MAX_GROUP_PICTURES, MAX_GROUP_PIXELS = 64, 2**26  # fitted at once: 0.8 GB of float32 pixels
HIGHEST_SEARCHED_RATE, SMALLEST_SEARCHED_BYTES = 4.0, 4000  # bits per pixel, and for tiny pictures bytes


def weights_profile(
    *,
    preset: str = "default",
    recipe: Recipe | None = None,
    effort: int | None = None,
    seed: int = 0,
    precision: str | None = None,
    basis: str = "cos_sin",
    widths: Sequence[int] | None = None,
) -> "WeightsProfile":
    """The profile with the options of its encoder.

    Args:
        preset: "default", or "thesis": Asadi 2022's net (width 8, depth 6), start, rate, batch and float32 weights.
        recipe: a recipe of one's own in place of the preset's.
        effort: 1 ... 9 = 300 ... 30,000 steps (default 3 = 1,000; the thesis preset 10,000).
        seed: of the initial coefficients and of the pixels drawn.
        precision: "quantized" (the default), "float16" or "float32" (the thesis preset's).
        basis: "cos_sin" or "cas".
        widths: hidden widths, in place of the ladder's choice; without a rate target, 4.7 bits a coefficient.

    Raises:
        UserError: an impossible value.
    """
    if preset not in recipes.PRESETS:
        raise UserError(f"unknown preset {preset!r}; known: {', '.join(recipes.PRESETS)}")
    chosen = recipes.PRESETS[preset]
    if recipe is not None:
        chosen = replace(chosen, recipe=recipe)
    if effort is None and chosen.total_steps is not None:
        total_steps = chosen.total_steps
    else:
        total_steps = recipes.effort_steps(recipes.DEFAULT_EFFORT if effort is None else effort)
    widths = widths or chosen.fixed_widths
    return WeightsProfile(
        chosen, total_steps, seed, precision or chosen.precision, basis, None if widths is None else tuple(widths)
    )


@dataclass(frozen=True)
class WeightsProfile:
    """`dfm.codec.profiles.Profile`; the fields are the encoder's options, see `weights_profile`."""

    preset: Preset = recipes.PRESETS["default"]
    total_steps: int = recipes.EFFORT_STEPS[recipes.DEFAULT_EFFORT]
    seed: int = 0
    precision: str = "quantized"
    basis: str = "cos_sin"
    widths: tuple[int, ...] | None = None
    name: ClassVar[str] = "weights"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UserError(f"unknown precision {self.precision!r}; known: {', '.join(PRECISIONS)}")
        if self.basis not in COEFFICIENT_NAMES:
            raise UserError(f"unknown basis {self.basis!r}; known: {', '.join(COEFFICIENT_NAMES)}")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed {self.seed} is outside 0 ... 2^32 - 1")

    def plan(self, shape: Shape, quality: float | None, target_bytes: int | None) -> Plan:
        """The largest net that the bytes allow, or the given one."""
        height, width, channels = shape
        if quality is not None or target_bytes is not None:
            self._refuse_targets()
        if target_bytes is not None:
            least = self._least_bytes(shape)
            if target_bytes < least:
                raise UserError(f"{target_bytes} bytes are too few for {width} x {height} pixels: {least} at least")
            wanted = float(target_bytes)
        else:
            rate = architectures.bits_per_pixel(architectures.DEFAULT_QUALITY if quality is None else quality)
            wanted = rate * height * width / 8
        plan = self._plan(
            shape, self.widths or architectures.widths_for(wanted, channels, self.basis, self.precision), target_bytes
        )
        if self.precision != "quantized":
            size = container.shared_bytes(shape) + _float_payload_bytes(plan.choice)
            if size > plan.most_bytes:
                raise UserError(f"{target_bytes} bytes are too few: the smallest {self.precision} file takes {size}")
        return plan

    def _refuse_targets(self) -> None:
        if self.preset.fixed_widths:
            raise UserError("the thesis preset has one fixed net: it takes no quality or target")

    def ladder(self, shape: Shape) -> list[Plan]:
        """The nets of the ladder up to a rate beyond any use, each at its nominal size."""
        self._refuse_targets()
        if self.widths is not None:
            raise UserError("a PSNR target chooses the widths itself")
        height, width, channels = shape
        plans = [self._plan(shape, widths, None) for widths in architectures.ladder(channels, self.basis)]
        largest = max(HIGHEST_SEARCHED_RATE * height * width / 8, SMALLEST_SEARCHED_BYTES)
        return [plan for plan in plans if plan.expected_bytes <= largest]

    def _plan(self, shape: Shape, widths: Sequence[int], most_bytes: int | None) -> Plan:
        """A net at its own nominal size, or limited: by quality, bytes then grow with quality whatever the picture."""
        channels = shape[-1]
        architecture = Architecture(tuple(widths), channels, self.basis, self.precision, self.preset.recipe.input_scale)
        expected = architectures.expected_bytes(widths, channels, self.basis, self.precision)
        return Plan(architecture, expected, round(expected) if most_bytes is None else most_bytes)

    def _least_bytes(self, shape: Shape) -> int:
        least = max(SMALLEST_TARGET, container.least_bytes(shape))
        if self.widths is not None:
            architecture = self._plan(shape, self.widths, None).choice
            least = max(least, -(-architecture.coefficient_count // MAX_COEFFICIENTS_PER_BYTE))
        return least

    def fit(
        self, pictures: Sequence[Picture], plans: Sequence[Plan], progress: ProgressReport | None
    ) -> Iterator[Fitted]:
        """Pictures that get the same net side by side, each from several starts where the net is small."""
        groups = self._groups(pictures, plans)
        total = len(groups) * self.total_steps
        for done, numbers in enumerate(groups):
            report = progress and _offset(progress, done * self.total_steps, total)
            nets = self._fit_from_all_starts(
                [pictures[number] for number in numbers], [plans[number] for number in numbers], report
            )
            for place, number in enumerate(numbers):
                yield self._best(number, pictures[number], nets[place :: len(numbers)])

    def _groups(self, pictures: Sequence[Picture], plans: Sequence[Plan]) -> list[list[int]]:
        """Numbers of pictures with the same net, cut so that their pixels, padded to the largest picture, times starts,
        are at most `MAX_GROUP_PIXELS`."""
        by_net = defaultdict(list)
        for number, plan in enumerate(plans):
            by_net[plan.choice].append(number)
        groups = []
        for architecture, numbers in by_net.items():
            largest = max(pictures[number].shape[0] * pictures[number].shape[1] for number in numbers)
            count = min(MAX_GROUP_PICTURES, MAX_GROUP_PIXELS // largest) // self._starts(architecture)
            groups += [numbers[first : first + max(1, count)] for first in range(0, len(numbers), max(1, count))]
        return groups

    def _starts(self, architecture: Architecture) -> int:
        coefficients = architecture.coefficient_count
        return next((starts for fewer_than, starts in self.preset.starts if coefficients < fewer_than), 1)

    def _fit_from_all_starts(
        self, pictures: list[Picture], plans: list[Plan], progress: ProgressReport | None
    ) -> list[Net]:
        """First a net for each picture from the first start, then from the second, ..."""
        from dfm.codec.weights.group_fit import fit_group

        limits = [
            plan.most_bytes - container.shared_bytes(picture.shape)
            for picture, plan in zip(pictures, plans, strict=True)
        ]
        starts, architecture = self._starts(plans[0].choice), plans[0].choice
        return fit_group(
            pictures * starts, architecture, limits * starts, self.preset.recipe, self.total_steps, self.seed, progress
        )

    def _best(self, number: int, picture: Picture, nets: list[Net]) -> Fitted:
        from dfm.metrics.picture_quality import mse

        rivals = [Fitted(number, net, self.paint(net, picture.shape)) for net in nets]
        return min(rivals, key=lambda rival: mse(rival.picture, picture)) if len(rivals) > 1 else rivals[0]

    def pack(self, content: Net) -> bytes:
        """dfm/codec/weights/payload.py."""
        return payload.pack(content)

    def unpack(self, packed: bytes, shape: Shape) -> Net:
        """dfm/codec/weights/payload.py."""
        return payload.unpack(packed, shape[-1])

    def work(self, content: Net, shape: Shape) -> float:
        """A coefficient of cos and one of sin take a multiplication each at every pixel."""
        height, width, _ = shape
        return height * width * sum(2 * 2**inputs * outputs for inputs, outputs in content.architecture.layer_sizes)

    def paint(self, content: Net, shape: Shape) -> Picture:
        """dfm/codec/weights/painting.py."""
        from dfm.codec.weights.painting import paint_net

        height, width, _ = shape
        return paint_net(content, height, width)

    def describe(self, content: Net) -> dict[str, Any]:
        """The net."""
        architecture = content.architecture
        return {
            "parameters": architecture.coefficient_count,
            "widths": list(architecture.widths),
            "basis": architecture.basis,
            "precision": architecture.precision,
            "input_scale": architecture.input_scale,
        }


def _float_payload_bytes(architecture: Architecture) -> int:
    from dfm.codec.weights.group_fit import float_payload_bytes

    return float_payload_bytes(architecture)


def _offset(progress: ProgressReport, before: int, total: int) -> ProgressReport:
    return lambda done, _, decibels: progress(before + done, total, decibels)
