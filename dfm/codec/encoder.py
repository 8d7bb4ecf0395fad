"""Pictures to .dfm files: which net, how it is trained and rounded, and the search for a size or a quality."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from dfm.codec import container
from dfm.codec.container import Header
from dfm.codec.weights import architectures, fitting, quantization
from dfm.codec.weights.fitting import Recipe, Schedule
from dfm.codec.weights.painting import paint_file
from dfm.errors import UserError
from dfm.metrics.picture_quality import psnr
from dfm.models.fourier import COEFFICIENT_NAMES, coefficient_count

Picture = UInt8[np.ndarray, "height width channel"]
Progress = Callable[[int, int, float], None]

DEFAULT_QUALITY = 75.0
DEFAULT_EFFORT = 3
THESIS_WIDTHS, THESIS_STEPS = (8,) * 6, 10_000
RECIPES = {"default": fitting.DEFAULT, "thesis": fitting.THESIS}
EFFORT_STEPS = {1: 300, 3: 1_000, 5: 3_000, 7: 10_000, 9: 30_000}
SMALLEST_TARGET = 64  # bytes: about 30 of header and side information, and the smallest net
SIZE_MARGIN = 0.985  # trained with rounding, coefficients move a little and the file grows or shrinks by about 1 %
STARTS = ((700, 4), (1500, 2))  # (coefficients fewer than, starts); larger nets have one
MOST_GROUP_PICTURES, MOST_GROUP_PIXELS = 64, 2**26  # fitted at once: 0.8 GB of float32 pixels
MOST_FITS = 8  # of one search for a PSNR
DB_PER_OCTAVE = 2.5  # first guess: PSNR gained by twice the bytes
CLOSE_ENOUGH_DB = 0.15
HIGHEST_SEARCHED_RATE, SMALLEST_SEARCHED_BYTES = 4.0, 4000  # bits per pixel, and for tiny pictures bytes
SECANT_FITS = 3


@dataclass(frozen=True)
class Plan:
    """What to fit to one picture: hidden widths, and the most bytes its file may take."""

    widths: tuple[int, ...]
    most_bytes: int


@dataclass(frozen=True)
class Settings:
    """What all fits of one call share."""

    preset: str
    total_steps: int
    precision: str
    basis: str
    seed: int

    @property
    def recipe(self) -> Recipe:
        return RECIPES[self.preset]


def effort_steps(effort: int) -> int:
    """Training steps of an effort 1 ... 9; even efforts lie (geometrically) between their neighbours."""
    if effort not in range(1, 10):
        raise UserError(f"effort {effort} is outside 1 ... 9")
    if effort in EFFORT_STEPS:
        return EFFORT_STEPS[effort]
    return round((EFFORT_STEPS[effort - 1] * EFFORT_STEPS[effort + 1]) ** 0.5)


def encode_batch(
    images: Sequence[UInt8[np.ndarray, "..."]],
    *,
    quality: float | None = None,
    target_bytes: int | None = None,
    target_psnr: float | None = None,
    preset: str = "default",
    effort: int | None = None,
    seed: int = 0,
    precision: str | None = None,
    basis: str = "cos_sin",
    widths: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> list[bytes]:
    """Pictures as the bytes of .dfm files; those that get the same net are fitted side by side.

    Args:
        images: uint8 [H, W] or [H, W, C] with C = 1 or 3.
        quality: 0 ... 100 (default 75): a rate of 0.05 * 40^(quality / 100) bits per pixel.
        target_bytes: the file is never larger.
        target_psnr: in dB; the file's picture is never worse.
        preset: "default", or "thesis": Asadi 2022's net (width 8, depth 6), start, rate, batch and float32 weights.
        effort: 1 ... 9 = 300 ... 30,000 steps (default 3 = 1,000; the thesis preset 10,000).
        seed: of the initial coefficients and of the pixels drawn.
        precision: "quantized" (the default), "float16" or "float32" (the thesis preset's).
        basis: "cos_sin" or "cas".
        widths: hidden widths, in place of the ladder's choice; without a rate target, 4.7 bits a coefficient.
        progress: called with (steps done, steps in all, PSNR in dB of the latest steps; NaN while compiling).

    Raises:
        UserError: contradicting or impossible options.
    """
    pictures = [_checked(image) for image in images]
    targets = [target for target in (quality, target_bytes, target_psnr) if target is not None]
    if len(targets) > 1:
        raise UserError("give only one of quality, target_bytes and target_psnr")
    if preset not in RECIPES:
        raise UserError(f"unknown preset {preset!r}; known: {', '.join(RECIPES)}")
    if preset == "thesis":
        if targets:
            raise UserError("the thesis preset has one fixed net: it takes no quality or target")
        widths, precision = widths or THESIS_WIDTHS, precision or "float32"
    precision = precision or "quantized"
    if precision not in container.PRECISIONS:
        raise UserError(f"unknown precision {precision!r}; known: {', '.join(container.PRECISIONS)}")
    if basis not in COEFFICIENT_NAMES:
        raise UserError(f"unknown basis {basis!r}; known: {', '.join(COEFFICIENT_NAMES)}")
    if effort is None and preset == "thesis":
        steps = THESIS_STEPS
    else:
        steps = effort_steps(DEFAULT_EFFORT if effort is None else effort)
    if not 0 <= seed < 2**32:
        raise UserError(f"seed {seed} is outside 0 ... 2^32 - 1")
    if target_psnr is not None and not math.isfinite(target_psnr):
        raise UserError(f"a PSNR of {target_psnr} dB is no target")
    settings = Settings(preset, steps, precision, basis, seed)

    if target_psnr is not None:
        if widths is not None:
            raise UserError("a PSNR target chooses the widths itself")
        return [_encode_to_psnr(picture, target_psnr, settings, progress) for picture in pictures]
    plans = [_plan(picture, settings, quality, target_bytes, widths) for picture in pictures]
    return _encode_plans(pictures, plans, settings, progress)


def _checked(image: np.ndarray) -> Picture:
    if image.dtype != np.uint8:
        raise UserError(f"pictures are uint8 arrays, not {image.dtype}")
    picture = image[..., None] if image.ndim == 2 else image
    if picture.ndim != 3 or picture.shape[-1] not in container.CHANNELS or picture.size == 0:
        raise UserError(f"pictures are [H, W] or [H, W, C] with 1 or 3 channels, not {list(image.shape)}")
    return picture


def _plan(
    picture: Picture, settings: Settings, quality: float | None, target_bytes: int | None, widths: Sequence[int] | None
) -> Plan:
    height, width, channels = picture.shape
    least = max(SMALLEST_TARGET, -(-height * width // container.MAX_PIXELS_PER_BYTE))
    if widths is not None:
        header = _header(picture, tuple(widths), settings)  # refuses widths out of bounds
        least = max(least, -(-header.coefficient_count // container.MAX_COEFFICIENTS_PER_BYTE))
    if target_bytes is not None and target_bytes < least:
        raise UserError(f"{target_bytes} bytes are too few for {width} x {height} pixels: {least} at least")
    if widths is not None and target_bytes is None and quality is None:
        expected = architectures.expected_bytes(widths, channels, settings.basis, settings.precision)
        return Plan(tuple(widths), round(expected))
    if target_bytes is not None:
        wanted = float(target_bytes)
    else:
        rate = architectures.bits_per_pixel(DEFAULT_QUALITY if quality is None else quality)
        wanted = rate * height * width / 8
    chosen = tuple(widths or architectures.widths_for(wanted, channels, settings.basis, settings.precision))
    if target_bytes is not None:
        return Plan(chosen, target_bytes)
    # by quality, the rung's own nominal size: bytes then grow with quality, whatever the picture
    return Plan(chosen, round(architectures.expected_bytes(chosen, channels, settings.basis, settings.precision)))


def _encode_plans(
    pictures: Sequence[Picture], plans: Sequence[Plan], settings: Settings, progress: Progress | None
) -> list[bytes]:
    by_net = defaultdict(list)
    for number, (picture, plan) in enumerate(zip(pictures, plans, strict=True)):
        by_net[plan.widths, picture.shape[-1]].append(number)
    groups = []
    for (widths, channels), numbers in by_net.items():
        groups += _within_memory(numbers, pictures, _starts(widths, channels, settings))
    files: dict[int, bytes] = {}
    for done, numbers in enumerate(groups):
        report = progress and _offset(progress, done * settings.total_steps, len(groups) * settings.total_steps)
        limits = [plans[number].most_bytes for number in numbers]
        widths = plans[numbers[0]].widths
        group = _best_of_starts([pictures[number] for number in numbers], widths, limits, settings, report)
        files.update(zip(numbers, group, strict=True))
    return [files[number] for number in range(len(pictures))]


def _within_memory(numbers: list[int], pictures: Sequence[Picture], starts: int) -> list[list[int]]:
    """Cut a group so that its pixels, padded to the largest picture, times starts, are at most `MOST_GROUP_PIXELS`."""
    largest = max(pictures[number].shape[0] * pictures[number].shape[1] for number in numbers)
    count = max(1, min(MOST_GROUP_PICTURES, MOST_GROUP_PIXELS // largest) // starts)
    return [numbers[first : first + count] for first in range(0, len(numbers), count)]


def _offset(progress: Progress, before: int, total: int) -> Progress:
    return lambda done, _, decibels: progress(before + done, total, decibels)


def _encode_group(
    pictures: Sequence[Picture],
    widths: tuple[int, ...],
    limits: Sequence[int],
    settings: Settings,
    progress: Progress | None,
) -> list[bytes]:
    """Files of pictures that share widths and channels."""
    recipe, total = settings.recipe, settings.total_steps
    headers = [_header(picture, widths, settings) for picture in pictures]
    pixels = fitting.stack_pictures(pictures)
    if settings.precision != "quantized":
        _refuse_large_floats(headers, limits)
    if progress is not None:
        progress(0, total, math.nan)  # compiling takes seconds, in which nothing else can be said
    key = jax.random.key(settings.seed)
    state = fitting.start(recipe, widths, pixels, settings.basis, key)
    if settings.precision != "quantized":
        state = fitting.train(recipe, state, pixels, key, Schedule(0, total, total), progress=progress)
        return [_file(header, net) for header, net in zip(headers, _nets(state), strict=True)]

    float_steps = total - round(recipe.quantized_fraction * total)
    state = fitting.train(recipe, state, pixels, key, Schedule(0, float_steps, total), progress=progress)
    sensitivity = np.asarray(quantization.layer_sensitivity(state.layers, recipe.input_scale))
    each = list(zip(headers, sensitivity, limits, strict=True))
    nets = _nets(state)
    finenesses = [_fineness(*one, net, SIZE_MARGIN) for one, net in zip(each, nets, strict=True)]
    indices = [quantization.step_indices(*one) for one in zip(nets, sensitivity, finenesses, strict=True)]
    sizes = jnp.array(quantization.step_sizes(np.stack(indices)))
    state = fitting.train(recipe, state, pixels, key, Schedule(float_steps, total, total), sizes, progress)
    files = []
    for one, net, chosen, fineness in zip(each, _nets(state), indices, finenesses, strict=True):
        header, weight, limit = one
        quantized = quantization.quantize(net, chosen)
        while len(container.write(header, quantized)) > limit:
            fineness = min(fineness - 1, _fineness(*one, net, 1.0))
            quantized = quantization.quantize(net, quantization.step_indices(net, weight, fineness))
        files.append(_file(header, quantized))
    return files


def _starts(widths: tuple[int, ...], channels: int, settings: Settings) -> int:
    """How many starts a net gets; the thesis' experiment has one."""
    if settings.preset == "thesis":
        return 1
    coefficients = coefficient_count(widths, channels, settings.basis)
    return next((starts for most, starts in STARTS if coefficients < most), 1)


def _best_of_starts(
    pictures: Sequence[Picture],
    widths: tuple[int, ...],
    limits: Sequence[int],
    settings: Settings,
    progress: Progress | None,
) -> list[bytes]:
    """`_encode_group` from several starts where the net is small, keeping each picture's best file.

    Small nets end several dB apart from different starts, and cost little.
    """
    starts = _starts(widths, pictures[0].shape[-1], settings)
    files = _encode_group(list(pictures) * starts, widths, list(limits) * starts, settings, progress)
    if starts == 1:
        return files
    best = []
    for number, picture in enumerate(pictures):
        rivals = files[number :: len(pictures)]
        best.append(max(rivals, key=lambda data: psnr(paint_file(*container.read(data)), picture)))  # noqa: B023
    return best


def _header(picture: Picture, widths: tuple[int, ...], settings: Settings) -> Header:
    height, width, channels = picture.shape
    scale = settings.recipe.input_scale
    return Header(width, height, channels, widths, settings.basis, settings.precision, scale, pixel_checksum=0)


def _nets(state: fitting.FitState) -> list[list[dict[str, np.ndarray]]]:
    """The coefficients of each picture's net, without the picture axis."""
    layers = jax.device_get(state.layers)
    count = len(next(iter(layers[0].values())))
    return [[{name: c[i] for name, c in layer.items()} for layer in layers] for i in range(count)]


def _fineness(header: Header, sensitivity: np.ndarray, limit: int, net: list, margin: float) -> int:
    """The finest rounding whose file keeps within `margin * limit` bytes."""

    def size(fineness: int) -> int:
        indices = quantization.step_indices(net, sensitivity, fineness)
        try:
            return len(container.write(header, quantization.quantize(net, indices)))
        except UserError:  # so coarse that the file says too little of so large a net or picture
            return 0

    fineness = quantization.finest_fitting(size, int(margin * limit))
    if fineness is None:
        fineness = quantization.finest_fitting(size, limit)
    if fineness is None:
        raise UserError(f"{limit} bytes are too few for a {header.width} x {header.height} picture: {size(0)} at least")
    return fineness


def _refuse_large_floats(headers: Sequence[Header], limits: Sequence[int]) -> None:
    """Refused before the fit: the size of a float file is known."""
    for header, limit in zip(headers, limits, strict=True):
        zeros = [
            {name: np.zeros((2**m, n), np.float32) for name in COEFFICIENT_NAMES[header.basis]}
            for m, n in header.layer_sizes
        ]
        size = len(container.write(header, zeros))
        if size > limit:
            raise UserError(f"{limit} bytes are too few: the smallest {header.precision} file takes {size}")


def _file(header: Header, layers: list) -> bytes:
    """The finished file, with the checksum of its own decode."""
    without = container.write(header, layers)
    pixels = paint_file(*container.read(without))
    checked = Header(**{**vars(header), "pixel_checksum": crc32(pixels.tobytes())})
    return container.write(checked, layers)


def _encode_to_psnr(picture: Picture, target: float, settings: Settings, progress: Progress | None) -> bytes:
    """Smallest file found whose picture has at least `target` dB: secant steps along the ladder, then bisection."""
    channels = picture.shape[-1]
    rungs = architectures.ladder(channels, settings.basis)
    expected = [architectures.expected_bytes(w, channels, settings.basis, settings.precision) for w in rungs]
    pixels = picture.shape[0] * picture.shape[1]
    largest = max(HIGHEST_SEARCHED_RATE * pixels / 8, SMALLEST_SEARCHED_BYTES)
    top = max(i for i, size in enumerate(expected) if size <= largest)
    low, high = -1, top + 1  # rungs known to miss, and to reach, the target
    best, reached = None, -np.inf
    wanted = 0.5 * pixels / 8
    fit = 0
    while (inside := range(low + 1, high)) and (best is None or fit < MOST_FITS):
        if fit < SECANT_FITS:
            rung = min(inside, key=lambda i: abs(np.log(expected[i] / wanted)))
        else:
            rung = inside[len(inside) // 2]
        report = progress and _offset(progress, fit * settings.total_steps, (fit + 1) * settings.total_steps)
        data = _best_of_starts([picture], rungs[rung], [round(expected[rung])], settings, report)[0]
        decibels = psnr(paint_file(*container.read(data)), picture)
        reached = max(reached, decibels)
        if decibels >= target:
            high, best = rung, data
            if decibels < target + CLOSE_ENOUGH_DB:
                break
        else:
            low = rung
        fit += 1
        # aim a little high: missing costs another fit
        wanted = expected[rung] * 2 ** ((target + CLOSE_ENOUGH_DB / 2 - decibels) / DB_PER_OCTAVE)
    if best is None:
        raise UserError(
            f"{target:g} dB is out of reach at this effort: {reached:.2f} dB was the best of {fit} nets "
            f"of up to {expected[top]:.0f} bytes"
        )
    return best
