#!/usr/bin/env bash
# bash scripts/test.sh [--peers] [pytest arguments]
# Makes .venv when missing, installs with tests, runs lint, types, the contract of imports and the unit tests, these on
# all cores; fails when one of them fails.
# --peers also installs torch for the live comparisons, which are skipped without it.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
. scripts/venv.sh

extras=test
if [ "${1:-}" = --peers ]; then
    extras=test,peers
    shift
fi
make_venv
install_extras "$extras"

workers=$(.venv/bin/python -c "import os; print(min(os.cpu_count(), 8))")
failed=""
.venv/bin/python -m ruff check . || failed="$failed ruff-check"
.venv/bin/python -m ruff format --check . || failed="$failed ruff-format"
.venv/bin/python -m mypy || failed="$failed mypy"
.venv/bin/lint-imports --no-logo || failed="$failed lint-imports"
.venv/bin/python -m pytest --numprocesses="$workers" --dist=worksteal --durations=20 "$@" </dev/null || failed="$failed pytest"
[ -z "$failed" ] || fail "failed:$failed"
