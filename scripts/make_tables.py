"""The tables of README.md, results/README.md and docs/ from results/: python scripts/make_tables.py [--check]

A table stands in a document between two lines,

    <!-- table NAME -->
    <!-- /table -->

and is what the function of that name in scripts/tables/ makes of the files in results/; to add one, write the two lines
and the function, and put it in the tuple at the end of its file. Without --check the documents
are rewritten; with it the exit code is 1 where one of them is stale, and nothing is written.
"""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

from tables.autoencoder import AUTOENCODER
from tables.cifar10 import CIFAR10
from tables.codec import CODEC
from tables.family import FAMILY
from tables.generation import GENERATION
from tables.headline import headline
from tables.lines import RESULTS
from tables.rate_distortion import RATE_DISTORTION

from dfm.command_line import run_command
from dfm.registry import find

ROOT = Path(__file__).resolve().parents[1]
MARKED = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- /table -->)", re.DOTALL)
MADE = (headline, *RATE_DISTORTION, *CODEC, *GENERATION, *FAMILY, *CIFAR10, *AUTOENCODER)
TABLES: dict[str, Callable[[], str]] = {made.__name__: made for made in MADE}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a document is stale")
    check = parser.parse_args().check
    stale = []
    for path in (ROOT / "README.md", RESULTS / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text(encoding="utf-8")
        made = MARKED.sub(lambda match: f"{match[1]}{find('table', match[2], TABLES)()}\n{match[3]}", text)
        if made == text:
            continue
        stale.append(path.relative_to(ROOT))
        if not check:
            path.write_text(made, encoding="utf-8")
    for name in stale:
        print(f"{name}: {'is stale, run python scripts/make_tables.py' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(run_command("make_tables.py", lambda _: main(), None))
