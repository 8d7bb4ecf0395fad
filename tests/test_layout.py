"""The house itself: sizes of modules, tests that mirror dfm/, no borrowed private names, paths that README promises."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINES_AT_MOST = 350
MODULES = [path for folder in ("dfm", "tests", "scripts", "configs") for path in sorted((ROOT / folder).rglob("*.py"))]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_modules_hold_one_idea():
    long = {relative(path): lines for path in MODULES if (lines := len(path.read_text().splitlines())) > LINES_AT_MOST}
    assert not long, f"over {LINES_AT_MOST} lines; split by idea: {long}"


def test_tests_mirror_the_package():
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    strangers = [str(folder) for folder in folders if not (ROOT / "dfm" / folder).is_dir()]
    assert not strangers, f"tests/{strangers} test no package of dfm/"


def private_imports(source: str) -> list[str]:
    """Names with one leading underscore that are imported from a module of this repository or another."""
    nodes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom))
    return [alias.name for node in nodes for alias in node.names if re.match("_[^_]", alias.name)]


def test_private_names_stay_in_their_file():
    assert private_imports("from a import b, _c\nfrom . import __version__") == ["_c"]
    borrowed = {relative(path): names for path in MODULES if (names := private_imports(path.read_text()))}
    assert not borrowed


def promised_paths(readme: str) -> list[str]:
    """Paths in backticks of the section whose heading begins with "To add", without what is meant as a pattern."""
    section = re.search(r"^(#+) To add .*?\n(.*?)(?=^#|\Z)", readme, re.MULTILINE | re.DOTALL | re.IGNORECASE)
    words = re.findall(r"`([^`\s]+)`", section.group(2)) if section else []
    return [word for word in words if "/" in word and not re.search(r"[*<>{}=:]|NAME|://", word)]


def test_promised_paths_are_found_in_a_section():
    section = "## To add X, touch Y\n- a `model`: `dfm/a.py`, `configs/NAME.py`, `dfm/b/`\n"
    readme = "## Else\n`no/no.py`\n" + section + "## End\n`c/d`\n"
    assert promised_paths(readme) == ["dfm/a.py", "dfm/b/"]


def test_paths_of_to_add_x_touch_y_exist():
    paths = promised_paths((ROOT / "README.md").read_text())
    missing = [path for path in paths if not (ROOT / path).exists()]
    assert len(paths) > 5 and not missing
