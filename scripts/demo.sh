#!/usr/bin/env bash
# bash scripts/demo.sh: makes .venv when missing, installs, then compresses a real photograph (results/demo/).
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
. scripts/venv.sh

make_venv
install_extras bench
exec .venv/bin/python scripts/demo.py "$@"
