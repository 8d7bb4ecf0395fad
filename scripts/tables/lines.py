"""Lines of results/ and the parts that all tables share."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[2] / "results"
Row = dict[str, Any]


def rows(name: str) -> list[Row]:
    """The lines of results/NAME.jsonl, oldest first."""
    return [json.loads(line) for line in (RESULTS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def latest(lines: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, Row]:
    """The last line of each key, in the order in which the keys first appear."""
    return {key(line): line for line in lines}


def table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
