"""Results: one JSON line a metric with all that it takes to understand and repeat it, and a table for people."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

import numpy as np

from dfm import results
from dfm.evaluation.metric import Value

Line = dict[str, Any]
SCHEMA = 1
TABLE_COLUMNS = ("metric", "value", "spread", "over", "samples", "reference")


def merge_repeats(values: Sequence[Value]) -> Value:
    """Mean and sample deviation over repeats with different seeds; one repeat keeps its own spread."""
    if len(values) == 1:
        return values[0]
    numbers = [value.value for value in values if value.value is not None]
    missing = [value for value in values if value.value is None]
    if missing:
        return missing[0]
    warnings = tuple(dict.fromkeys(warning for value in values for warning in value.warnings))
    each = {"values": numbers, "spreads": [value.spread for value in values]}
    spread = float(np.std(numbers, ddof=1))
    return Value(float(np.mean(numbers)), spread, "repeats", values[0].details | each, warnings)


def make_line(metric: str, value: Value, facts: Line, provenance: Line) -> Line:
    """The entry of a results file. Order: what it is, how much, of what, with what, by whom."""
    details = value.details
    if value.value is not None and not math.isfinite(value.value):
        details = details | {"why_null": f"the computation gave {value.value}"}
    line = {
        "schema": SCHEMA,
        "name": "evaluate",
        "metric": metric,
        "value": value.value,
        "spread": value.spread,
        "spread_over": value.spread_over,
        **facts,
        "details": details,
        **provenance,
    }
    return results.finite(line)


def print_table(lines: Iterable[Line], stream: TextIO) -> None:
    """Metric, value, spread and counts in columns."""
    rows = [TABLE_COLUMNS, *(_row(line) for line in lines)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(TABLE_COLUMNS))]
    for number, row in enumerate(rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), file=stream)
        if number == 0:
            print("  ".join("-" * width for width in widths), file=stream)


def _row(line: Line) -> tuple[str, ...]:
    name = line["metric"] + (f" ({line['prior']})" if line.get("prior") else "")
    reference = line.get("reference") or {}
    count = reference.get("count")
    side = f"{reference['id']} ({count if count is not None else '?'})" if reference else ""
    return (
        name,
        format_number(line["value"]),
        format_number(line["spread"]),
        line["spread_over"] or "",
        str((line.get("samples") or {}).get("count") or ""),
        side,
    )


def format_number(number: float | None) -> str:
    if number is None:
        return ""
    if not math.isfinite(number):
        return str(number)
    return f"{number:.4g}" if abs(number) < 1 else f"{number:.4f}".rstrip("0").rstrip(".")
