"""Tasks as processes of the same script, a few at once: what one of them loses, the others keep."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfm.command_line import usable_cores

POLL_SECONDS = 0.2
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Task:
    """Words of --task, and the file that its output goes to."""

    name: str
    log: Path


def run_tasks(tasks: Sequence[Task], options: Sequence[str], jobs: int) -> dict[str, str]:
    """Runs all tasks, `jobs` at once; task -> why, of those that failed.

    Where this process is interrupted, the tasks are asked to stop: a training saves its state, and goes on when the
    same command is given again.
    """
    waiting, failed = list(tasks), {}
    running: dict[Task, tuple[subprocess.Popen[Any], float]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                task = waiting.pop(0)
                running[task] = (_start(task, options, jobs), time.perf_counter())
            time.sleep(POLL_SECONDS)
            for task, (process, begin) in list(running.items()):
                if process.poll() is None:
                    continue
                del running[task]
                outcome = "done"
                if process.returncode:
                    failed[task.name] = _last_line(task.log) or f"exit code {process.returncode}"
                    outcome = f"failed: {failed[task.name]}"
                print(f"{task.name}: {outcome}, {time.perf_counter() - begin:.0f} s", flush=True)
    except BaseException:
        for process, _ in running.values():
            process.send_signal(signal.SIGTERM)
        for process, _ in running.values():
            process.wait()
        raise
    return failed


def _start(task: Task, options: Sequence[str], jobs: int) -> "subprocess.Popen[Any]":
    threads = str(max(1, usable_cores() // jobs))
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # several processes share one accelerator
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads),
    }
    command = [sys.executable, str(ROOT / "scripts" / "table_autoencoders.py"), *options, f"--task={task.name}"]
    task.log.parent.mkdir(parents=True, exist_ok=True)
    with task.log.open("a") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=ROOT)


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""
