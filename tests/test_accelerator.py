"""scripts/accelerator.sh: slices run once, in order, and resume; a Python that only notes its arguments stands in."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "accelerator.sh"
STAND_IN = """#!/usr/bin/env bash
echo "$@" >> {log}
case "$*" in
*bench_train*) [ -e {broken} ] && echo "it broke" >&2 && exit 3 ;;
*dfm.train*) [ -e {slow} ] && sleep 20 ;;
esac
exit 0
"""


@pytest.fixture
def call(tmp_path):
    log = tmp_path / "log"
    python = tmp_path / "python"
    python.write_text(STAND_IN.format(log=log, broken=tmp_path / "broken", slow=tmp_path / "slow"))
    python.chmod(0o755)

    def run(*options: str) -> tuple[int, str, list[str]]:
        """(exit code, output, commands run by this call)."""
        log.write_text("")
        command = ["bash", str(SCRIPT), "--small", f"--output={tmp_path / 'out'}", *options]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHON": str(python)}
        )
        return done.returncode, done.stdout + done.stderr, log.read_text().splitlines()

    return run


def test_all_slices_run_once(call):
    code, output, commands = call()
    assert code == 0 and output.count("done") == len(commands) == 10
    assert commands[0].startswith("scripts/bench_fourier_layer.py") and "study_cifar10" in commands[-1]
    assert call() == (0, "", [])


def test_what_time_cuts_off_goes_on_with_the_next_call(call, tmp_path):
    (tmp_path / "slow").touch()
    code, output, commands = call("--seconds=2", "layer", "train-digits", "fd-digits")
    assert code == 75 and [command.split()[-1].split("/")[-1] for command in commands] == ["layer.jsonl", "digits"]
    assert "left: train-digits fd-digits" in output
    (tmp_path / "slow").unlink()
    code, _, commands = call("layer", "train-digits", "fd-digits")
    assert code == 0 and len(commands) == 2


def test_a_failure_is_named_and_does_not_stop_the_others(call, tmp_path):
    (tmp_path / "broken").touch()
    code, output, commands = call("layer", "step", "kodak")
    assert code == 1 and len(commands) == 3
    assert "step: failed with code 3: it broke" in output
    (tmp_path / "broken").unlink()
    assert [command.split()[0] for command in call("layer", "step", "kodak")[2]] == ["scripts/bench_train.py"]


def test_every_command_names_files_that_exist(call):
    for small in ("--small", ""):
        command = ["bash", str(SCRIPT), "--list", *([small] if small else [])]
        listed = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHON": "true"}).stdout
        assert len(listed.splitlines()) >= 8
        for word in listed.replace("=", " ").replace(":", " ").split():
            if word.endswith(".py"):
                assert (SCRIPT.parents[1] / word).exists()


def test_unknown_words_are_refused(call):
    assert call("no-such-slice")[0] == 2
    assert call("--no_such_option")[0] == 2
