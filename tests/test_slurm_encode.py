"""scripts/slurm_encode.sh: each job of an array asks for its part, whatever the array's numbers."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "slurm_encode.sh"


def asked_for(tmp_path, task: int, first: int, last: int, step: int, exit_code: int = 0) -> tuple[int, list[str]]:
    """Exit code of the script and the command that it gives to srun."""
    stub = tmp_path / "srun"
    stub.write_text(f'#!/bin/bash\nprintf "%s\\n" "$@"\nexit {exit_code}\n')
    stub.chmod(0o755)
    array = {"ID": task, "MIN": first, "MAX": last, "STEP": step}
    environment = {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in array.items()}
    environment |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_SUBMIT_DIR": str(tmp_path)}
    command = ["bash", SCRIPT, "in folder", "-o", "out", "-q", "60"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize(
    ("first", "last", "step", "parts"),
    [(1, 4, 1, ["1/4", "2/4", "3/4", "4/4"]), (0, 2, 1, ["1/3", "2/3", "3/3"]), (1, 8, 3, ["1/3", "2/3", "3/3"])],
)
def test_parts_of_an_array(tmp_path, first, last, step, parts):
    commands = [asked_for(tmp_path, task, first, last, step)[1] for task in range(first, last + 1, step)]
    assert [command[-1] for command in commands] == [f"--shard={part}" for part in parts]
    assert commands[0][:-1] == ["python", "-m", "dfm.compress", "encode", "in folder", "-o", "out", "-q", "60"]


def test_the_exit_code_is_that_of_the_command(tmp_path):
    assert asked_for(tmp_path, 1, 1, 2, 1, exit_code=1)[0] == 1
