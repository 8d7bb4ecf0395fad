"""The codecs of a rate-distortion run: ours, the classical ones and COIN, each with the settings of its curve."""

import dataclasses
from collections.abc import Callable, Sequence

from dfm import registry
from dfm.codec.bench import baselines
from dfm.errors import UserError
from dfm.picture_files import Picture

QUALITIES = (5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 95)  # on CompressAI's ladder, which is every fifth
LATENT_QUALITIES = (0, 20, 40, 60, 80)  # 0.1 to 1.5 bits per pixel
COIN_STEPS = 3000  # the paper's 50,000 are hours a picture on a CPU; summaries and plots name the number used
COIN_LEARNING_RATE = 1e-3  # the paper's 2e-4 belongs to 50,000 steps, see coin.py
COIN_BATCH_PIXELS = 8192


@dataclasses.dataclass(frozen=True)
class Codec:
    """A codec as a run sees it.

    Attributes:
        name: in results; description: the options in words.
        settings: points of its curve: "q30" a quality, "0.3bpp" a target size, "10x28" layers x width.
        encode: (picture, setting) -> bytes of a file.
        decode: (bytes, channels) -> uint8 [H, W, channels].
        options: everything else that the bytes depend on; rows measured with other options are not taken up again.
    """

    name: str
    description: str
    settings: tuple[str, ...]
    encode: Callable[[Picture, str], bytes]
    decode: Callable[[bytes, int], Picture]
    options: dict = dataclasses.field(default_factory=dict)


def baseline_codec(name: str, qualities: Sequence[int] = QUALITIES) -> Codec:
    """A codec of `baselines.CODECS` at these qualities."""
    baseline = baselines.CODECS[name]
    return Codec(
        name,
        baseline.description,
        tuple(f"q{quality}" for quality in qualities),
        lambda image, setting: baseline.encode(image, int(setting[1:])),
        baseline.decode,
        {baseline.library: baseline.library_version()},
    )


DFM_CODECS = {
    "dfm-latents": ("latents", "latent grids under a Fourier synthesis"),
    "dfm-weights": ("weights", "Deep Fourier Machine"),
}


def dfm_codec(name: str, settings: Sequence[str], effort: int = 3, seed: int = 0) -> Codec:
    """Our codec, one of DFM_CODECS, at target sizes ("0.3bpp") or qualities ("q60")."""
    import dfm.codec

    profile, words = DFM_CODECS[name]

    def encode(image: Picture, setting: str) -> bytes:
        options = {"profile": profile, "effort": effort, "seed": seed}
        if setting.startswith("q"):
            return dfm.codec.encode(image, quality=int(setting[1:]), **options)
        return dfm.codec.encode(image, target_bytes=int(target_bytes(image, setting)), **options)

    return Codec(
        name,
        f"{words}, effort {effort}",
        tuple(settings),
        encode,
        lambda data, channels: dfm.codec.decode(data),
        {"effort": effort, "seed": seed},
    )


def coin_codec(
    settings: Sequence[str],
    total_steps: int = COIN_STEPS,
    seed: int = 0,
    learning_rate: float = COIN_LEARNING_RATE,
    batch_pixels: int | None = COIN_BATCH_PIXELS,
) -> Codec:
    """The peer: SIREN with float16 weights, at target sizes ("0.3bpp") or layers x width ("10x28")."""

    from dfm.codec.bench import coin

    def encode(image: Picture, setting: str) -> bytes:
        if setting.endswith("bpp"):
            height, picture_width, channels = image.shape
            width, depth = coin.size_for_bytes(height * picture_width, target_bytes(image, setting), channels)
        else:
            depth, width = (int(part) for part in setting.split("x"))
        return coin.encode_coin(image, width, depth, total_steps, learning_rate, seed, batch_pixels=batch_pixels)

    batch = "full batch" if batch_pixels is None else f"{batch_pixels} pixels a step"
    return Codec(
        "coin",
        f"COIN-style SIREN (own implementation), float16 weights, {total_steps:,} Adam steps "
        f"at {learning_rate:g} (paper: {coin.PAPER_STEPS:,} at {coin.PAPER_LEARNING_RATE:g}), {batch}",
        tuple(settings),
        encode,
        lambda data, channels: coin.decode_coin(data),
        {"steps": total_steps, "learning_rate": learning_rate, "batch_pixels": batch_pixels, "seed": seed},
    )


def target_bytes(image: Picture, setting: str) -> float:
    """Bytes that a setting such as "0.3bpp" allows for this picture."""
    return float(setting.removesuffix("bpp")) * image.shape[0] * image.shape[1] / 8


def latent_settings() -> list[str]:
    """The points of dfm-latents: quality fixes what a bit weighs, and needs one fit where a size needs several."""
    return [f"q{quality}" for quality in LATENT_QUALITIES]


def known_codecs() -> list[str]:
    """Names that `--codecs` takes."""
    return [*DFM_CODECS, *baselines.CODECS, "coin"]


def make_codecs(names: Sequence[str], rates: Sequence[float], effort: int, seed: int, coin_steps: int) -> list[Codec]:
    """Codecs by name, dfm-weights and coin at these rates in bits per pixel."""
    if not names:
        raise UserError(f"no codec given; known: {', '.join(known_codecs())}")
    if effort not in range(1, 10):
        raise UserError(f"effort {effort} is outside 1 ... 9")
    if coin_steps < 1:
        raise UserError(f"coin_steps must be positive, not {coin_steps}")
    settings = [f"{rate:g}bpp" for rate in rates]
    names = list(dict.fromkeys(names))
    for name in names:
        registry.check("codec", name, known_codecs())

    def make(name: str) -> Codec:
        if name in DFM_CODECS:
            return dfm_codec(name, latent_settings() if name == "dfm-latents" else settings, effort, seed)
        return coin_codec(settings, coin_steps, seed) if name == "coin" else baseline_codec(name)

    return [make(name) for name in names]
