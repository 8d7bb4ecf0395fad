"""What scripts/study_recipe.py says of its rows: markdown, a line a variant or a picture."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dfm.models.fourier import coefficient_count


def variant_table(chosen: Sequence[Any], found: Sequence[dict[str, dict]]) -> Iterator[str]:
    """A line a variant: its mean PSNR, and its differences from the default on the pictures that both have."""
    yield "| variable | value | coefficients | pictures | mean dB | bytes | to line 1: mean | worst | retreats | s |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for variant, rows in zip(chosen, found, strict=True):
        if not rows:
            continue
        decibels = {name: row["metrics"]["psnr"] for name, row in rows.items()}
        gains = [decibels[name] - found[0][name]["metrics"]["psnr"] for name in decibels if name in found[0]]
        sizes = [row["metrics"]["bytes"] for row in rows.values() if "bytes" in row["metrics"]]
        retreats = sum(row["metrics"].get("retreats", 0) for row in rows.values())
        difference = f"{np.mean(gains):+.2f} | {min(gains):+.2f}" if gains else "- | -"
        yield (
            f"| {variant.variable} | {variant.value} | {coefficient_count(variant.widths, 3):,} | {len(rows)} "
            f"| {np.mean(list(decibels.values())):.2f} | {f'{np.mean(sizes):,.0f}' if sizes else '-'} | {difference} "
            f"| {retreats} | {np.mean([row['seconds'] for row in rows.values()]):.1f} |"
        )


def robust_table(_: Sequence[Any], found: Sequence[dict[str, dict]]) -> Iterator[str]:
    """A line a picture, and the mean and smallest gain."""
    default, thesis = found
    names = sorted(set(default) & set(thesis))
    yield "| picture | thesis dB | default dB | gain | retreats |"
    yield "|---|---|---|---|---|"
    gains = []
    for name in names:
        before, after = thesis[name]["metrics"]["psnr"], default[name]["metrics"]["psnr"]
        gains.append(after - before)
        yield f"| {name} | {before:.2f} | {after:.2f} | {gains[-1]:+.2f} | {default[name]['metrics']['retreats']} |"
    if gains:
        worst = names[int(np.argmin(gains))]
        yield f"\nmean gain {np.mean(gains):+.2f} dB, smallest {min(gains):+.2f} dB ({worst}), {len(gains)} pictures"
