"""README.md and results/README.md: short enough to read, and made from the results that lie beside them."""

import subprocess
import sys


def test_tables_are_those_of_the_results(pytestconfig):
    command = [sys.executable, "scripts/make_tables.py", "--check"]
    done = subprocess.run(command, cwd=pytestconfig.rootpath, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_readme_is_at_most_twelve_kilobytes(pytestconfig):
    assert len((pytestconfig.rootpath / "README.md").read_bytes()) <= 12_000
