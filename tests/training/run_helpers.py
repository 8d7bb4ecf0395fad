"""What tests of whole trainings share: looking into checkpoints, stopping, processes of their own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

from dfm.results import read_lines
from dfm.training import stopping

HERE = Path(__file__).parent
TIMES = ("steps_per_second", "pictures_per_second", "time")


def saved_state(workdir, step):
    """Everything a checkpoint holds, as NumPy."""
    import orbax.checkpoint as ocp

    with ocp.CheckpointManager(
        (Path(workdir) / "checkpoints").absolute(),
        item_handlers={"state": ocp.PyTreeCheckpointHandler(), "progress": ocp.JsonCheckpointHandler()},
    ) as manager:
        assert step in manager.all_steps()
        state = manager.restore(step, args=ocp.args.Composite(state=ocp.args.PyTreeRestore()))["state"]
    state["key"] = jax.random.key_data(state["key"])
    return [(jax.tree_util.keystr(path), np.asarray(leaf)) for path, leaf in jax.tree.leaves_with_path(state)]


def assert_same_state(one, other):
    assert [name for name, _ in one] == [name for name, _ in other]
    for (name, a), (_, b) in zip(one, other, strict=True):
        assert a.dtype == b.dtype and a.tobytes() == b.tobytes(), name


def metrics_without_times(workdir):
    lines = read_lines(Path(workdir) / "metrics.jsonl")
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def steps_on_disk(workdir):
    return sorted(int(path.name) for path in (Path(workdir) / "checkpoints").iterdir() if path.name.isdigit())


def stop_after(monkeypatch, step, number=signal.SIGTERM):
    """Sends this process the signal while the step runs."""
    asked = stopping.StopRequest.requested

    def ask(self, now):
        if now == step:
            os.kill(os.getpid(), number)
        return asked(self, now)

    monkeypatch.setattr(stopping.StopRequest, "requested", ask)


def run_process(workdir, changes, *place):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), str(HERE), os.environ.get("PYTHONPATH", "")]),
    }
    if place:
        environment["XLA_FLAGS"] = ""  # one device a process
    command = [sys.executable, str(HERE / "run_stand_in.py"), str(workdir), json.dumps(changes)]
    return subprocess.Popen(
        [*command, *map(str, place)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
