"""One training of the stand-in in a process of its own: python run_stand_in.py WORKDIR JSON [PROCESS PORT].

JSON holds changes of `tiny_config`; with {"kill_in_save": STEP} the process kills itself while that checkpoint is being
written. With PROCESS and PORT it is one of two.
"""

import json
import os
import signal
import sys

import jax
from stand_in import install, tiny_config

from dfm import train
from dfm.command_line import run_command
from dfm.training.checkpoints import Checkpoints


def main() -> int:
    workdir, changes, *place = sys.argv[1:]
    changes = json.loads(changes)
    step_to_die = changes.pop("kill_in_save", None)
    save = Checkpoints.save

    def save_and_die(self, step, *arguments):
        save(self, step, *arguments)
        if step == step_to_die:
            os.kill(os.getpid(), signal.SIGKILL)

    Checkpoints.save = save_and_die
    if place:
        jax.distributed.initialize(f"127.0.0.1:{place[1]}", 2, int(place[0]))
    install()
    return run_command("dfm.train", lambda _: train.train(tiny_config(**changes), workdir), ())


if __name__ == "__main__":
    sys.exit(main())
