# Sourced by test.sh and demo.sh from the repository root: makes .venv once and keeps its packages up to date.
# PYTHON names the interpreter for a new .venv; without it, the first of python3, python3.11, ... that is new enough.

fail() {
    echo "error: $*" >&2
    exit 1
}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' </dev/null >/dev/null 2>&1
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_new_enough "$PYTHON" || fail "PYTHON=$PYTHON is not a Python >= 3.11"
        echo "$PYTHON"
        return
    fi
    local candidate
    for candidate in python3 python3.11 python3.12 python3.13; do
        if is_new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "Python >= 3.11 is needed and was not found; set PYTHON=/path/to/python3"
}

make_venv() {
    if [ -e .venv ]; then
        is_new_enough .venv/bin/python || fail "$PWD/.venv is broken or older than Python 3.11; remove it and run this again"
        return
    fi
    local python
    python=$(find_python) || exit 1
    echo "making .venv with $("$python" --version)"
    if ! "$python" -m venv .venv </dev/null; then
        rm -rf .venv
        fail "'$python -m venv' failed (on Debian and Ubuntu: apt-get install python3-venv)"
    fi
}

# install_extras test,peers: installs this folder editable with these extras, once for each content of the two files.
install_extras() {
    local stamp=".venv/installed-$1" wanted
    wanted="$PWD $(cat setup.cfg pyproject.toml | cksum)"
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
        return
    fi
    echo "installing .[$1] into .venv (minutes, the first time)"
    .venv/bin/python -m pip install --quiet --no-input --disable-pip-version-check --editable ".[$1]" </dev/null ||
        fail "installing .[$1] failed; pip's message is above"
    echo "$wanted" >"$stamp"
}
