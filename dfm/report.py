"""One page about a run that needs nothing beside itself: curves, pictures, numbers and config as HTML."""

import argparse
import base64
import html
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dfm.command_line import Parser, run_command
from dfm.errors import UserError

EXAMPLES = """The page holds the curves of metrics.jsonl, the last pictures of each kind, the last values, what run.json
knows and the config. It can be written while the run is training.

examples:
  python -m dfm.report --workdir=runs/digits -o digits.html
"""
WIDTH, HEIGHT, MARGIN = 420, 220, 48  # of a plot, in pixels
COLOURS = ("#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad", "#b7791f", "#555555")
PAGES = (".html", ".htm")  # suffixes that no file of a run has
# metrics side by side in one plot; all others have one of their own
TOGETHER = (("loss", "eval_loss"), ("psnr", "eval_psnr"))
NO_CURVES = ("step", "eval_step", "time", "mse", "eval_mse", "pictures_per_second")
STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}"
    "svg{margin:.3em}img{image-rendering:pixelated;max-width:100%;min-width:24em}"
    "table{border-collapse:collapse}td,th{padding:.15em .8em;border-bottom:1px solid #ddd;text-align:left}"
)

Point = tuple[float, float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after one line that says what is wrong."""
    return run_command("dfm.report", _run, arguments)


def _run(arguments: Sequence[str] | None) -> None:
    parser = Parser(
        prog="dfm.report", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", required=True, help="folder of the run")
    parser.add_argument("-o", "--output", required=True, metavar="HTML", help="the page")
    args = parser.parse_args(arguments)
    from dfm.files import check_writable, is_standard_output, write_atomically

    workdir, output = Path(args.workdir).expanduser(), Path(args.output).expanduser()
    piped = is_standard_output(output)
    if not piped:
        _refuse_files_of_run(output, workdir)
    check_writable(output)
    page = report(workdir).encode()
    write_atomically(output, page)
    print(f"{args.output}: {len(page):,} bytes", file=sys.stderr if piped else sys.stdout)


def _refuse_files_of_run(output: Path, workdir: Path) -> None:
    """UserError where the page would replace a file of the run, or stand where the run looks for one."""
    from dfm.files import refuse_same_file

    def is_page(path: Path) -> bool:
        return path.suffix.lower() in PAGES

    if output.resolve().is_relative_to(workdir.resolve()) and not is_page(output.resolve()):
        raise UserError(f"{output}: is among the run's own files, where a page must be named *.html")
    # a run's file may be a link to one elsewhere
    refuse_same_file(output, [path for path in workdir.rglob("*") if path.is_file() and not is_page(path)])


def report(workdir: Path) -> str:
    """The page of the run in this folder.

    Raises:
        UserError: no run there, or one that has logged nothing yet.
    """
    from dfm.config import flatten
    from dfm.results import read_lines
    from dfm.training.run_folder import METRICS, read_config, read_facts

    config, facts = read_config(workdir), read_facts(workdir)
    lines = list(read_lines(workdir / METRICS)) if (workdir / METRICS).exists() else []
    if not lines:
        raise UserError(f"{workdir}: has logged nothing yet ({METRICS})")
    title = f"{config.model['name']} on {config.dataset.name}: step {lines[-1]['step']:,} of {config.total_steps:,}"
    numbers = {
        "pictures": facts.get("examples"),
        **{f"parameters, {k}": v for k, v in _dict(facts, "parameters").items()},
    }
    starts = facts.get("starts") or [{}]
    numbers |= {"command": starts[-1].get("command"), "commit": starts[-1].get("commit"), "starts": len(starts)}
    parts = [
        "<h2>Curves</h2>",
        *(plot(names, lines) for names in _plots(lines)),
        "<h2>Pictures</h2>",
        *_pictures(workdir),
        "<h2>Last values</h2>",
        _table({key: value for key, value in lines[-1].items() if key != "time"}),
        "<h2>Run</h2>",
        _table({key: value for key, value in numbers.items() if value is not None}),
        "<h2>Config</h2>",
        _table(flatten(config)),
    ]
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    return (
        f"<!doctype html><html><head>{head}</head><body><h1>{html.escape(title)}</h1>"
        + "\n".join(parts)
        + "</body></html>\n"
    )


def _dict(facts: dict[str, Any], key: str) -> dict[str, Any]:
    found = facts.get(key)
    return found if isinstance(found, dict) else {}


def _plots(lines: list[dict[str, float]]) -> list[tuple[str, ...]]:
    """Which metrics are drawn, those of one plot together."""
    names = list(dict.fromkeys(name for line in lines for name in line if name not in NO_CURVES))
    plots = [tuple(name for name in group if name in names) for group in TOGETHER]
    drawn = {name for group in plots for name in group}
    return [group for group in plots if group] + [(name,) for name in names if name not in drawn]


def plot(names: Sequence[str], lines: list[dict[str, float]]) -> str:
    """The curves of these metrics over steps, as one SVG; the scale is logarithmic where values span a factor of 20."""
    curves = {
        name: [
            (line.get("eval_step", line["step"]) if name.startswith("eval_") else line["step"], line[name])
            for line in lines
            if isinstance(line.get(name), int | float) and math.isfinite(line[name])
        ]
        for name in names
    }
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return ""
    values = [value for _, value in points]
    logarithmic = min(values) > 0 and max(values) > 20 * min(values)
    scale = math.log10 if logarithmic else float
    low, high = scale(min(values)), scale(max(values))
    first, last = min(step for step, _ in points), max(step for step, _ in points)

    def place(point: Point) -> str:
        x = MARGIN + (WIDTH - MARGIN - 10) * (point[0] - first) / max(last - first, 1)
        y = HEIGHT - 28 - (HEIGHT - 56) * (scale(point[1]) - low) / ((high - low) or 1)
        return f"{x:.1f},{y:.1f}"

    svg = [f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">']
    svg.append(
        f'<rect x="{MARGIN}" y="28" width="{WIDTH - MARGIN - 10}" height="{HEIGHT - 56}" fill="none" stroke="#ccc"/>'
    )
    x = MARGIN
    for colour, (name, curve) in zip(COLOURS, curves.items(), strict=False):
        where = " ".join(map(place, curve))
        svg.append(f'<polyline points="{where}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        svg.append(_text(x, 18, name, "start", colour))
        x += 8 * len(name) + 16
    for value, y in ((min(values), HEIGHT - 28), (max(values), 38)):
        svg.append(_text(MARGIN - 4, y, f"{value:.3g}", "end"))
    for step, at, anchor in ((first, MARGIN, "start"), (last, WIDTH - 10, "end")):
        svg.append(_text(at, HEIGHT - 10, f"{step:,}", anchor))
    return "".join([*svg, "</svg>"])


def _text(x: float, y: float, words: str, anchor: str, colour: str = "#444") -> str:
    return f'<text x="{x}" y="{y}" font-size="12" text-anchor="{anchor}" fill="{colour}">{html.escape(words)}</text>'


def _pictures(workdir: Path) -> list[str]:
    """The last picture of each kind ("samples-00000300.png"), within the page."""
    from dfm.training.run_folder import PICTURES

    latest: dict[str, Path] = {}
    for path in sorted((workdir / PICTURES).glob("*-*.png")):
        latest[path.stem.rpartition("-")[0]] = path
    found = []
    for kind, path in latest.items():
        data = base64.b64encode(path.read_bytes()).decode()
        step = int(path.stem.rpartition("-")[2])
        name = html.escape(kind)
        found.append(f'<h3>{name}, step {step:,}</h3><img alt="{name}" src="data:image/png;base64,{data}">')
    return found or ["<p>None were painted yet.</p>"]


def _table(values: dict[str, Any]) -> str:
    shown = {key: f"{value:,.6g}" if isinstance(value, float) else str(value) for key, value in values.items()}
    rows = "".join(f"<tr><th>{html.escape(key)}</th><td>{html.escape(value)}</td></tr>" for key, value in shown.items())
    return f"<table>{rows}</table>"


if __name__ == "__main__":
    sys.exit(main())
