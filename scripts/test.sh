#!/usr/bin/env bash
# bash scripts/test.sh [--peers] [pytest arguments]
# Makes .venv when missing, installs with tests, runs lint, types and unit tests; fails when one of them fails.
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

failed=""
.venv/bin/python -m ruff check . || failed="$failed ruff"
.venv/bin/python -m mypy || failed="$failed mypy"
.venv/bin/python -m pytest --durations=20 "$@" </dev/null || failed="$failed pytest"
[ -z "$failed" ] || fail "failed:$failed"
