"""The whole life of every generator: trained, killed, resumed bit for bit, sampled, evaluated; on the digits.

  python scripts/check_family.py                          the family, machines, learned priors; half an hour
  python scripts/check_family.py --only=vae,dfm --workdir=runs/lives

Each is trained twice at its `quick` setting, by processes of their own: one of them is killed (SIGKILL) when its first
checkpoint is there, and goes on. Both must end with the same parameters, averages, latents and statistics, to the last
bit. Then samples and reconstructions are painted and measured; a learned prior paints by the model on whose latents or
codes it was trained. One line each; exit code 1 where one of them fails.
"""

import argparse
import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dfm import evaluate, sample
from dfm.config import config_module
from dfm.errors import UserError
from dfm.experiments import run_script
from dfm.registry import check
from dfm.training.runs import load_run

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT_EVERY = 10


@dataclass(frozen=True)
class Member:
    """A config with its argument; for a learned prior, the member on whose runs it is trained and its name for them."""

    config: str
    learns_from: str | None = None
    kind: str = ""


class Trainer(Protocol):
    """Trains a config in a folder; `killed`: at its first checkpoint. `dataset` in place of the config's own."""

    def __call__(self, config: str, workdir: Path, killed: bool, dataset: str | None = None) -> None: ...


def members() -> dict[str, Member]:
    """Each at its quick setting."""
    words = config_module(ROOT / "configs" / "autoencoders.py").WORDS
    family = {word: Member(f"configs/autoencoders.py:{word}:quick") for word in words if word != "code_prior"}
    return {
        **family,
        "dfm": Member("configs/dfm_digits.py:quick"),
        "local": Member("configs/local_dfm.py:8x8x4:quick,dataset=digits"),
        "cells": Member("configs/adversarial.py:cells:quick,dataset=digits"),
        "machine": Member("configs/adversarial.py:machine:quick,dataset=digits"),
        "code_prior": Member("configs/autoencoders.py:code_prior:quick", "vq_vae", "codes"),
        "latent_flow": Member("configs/latent_flow.py:quick", "vae", "latents"),
    }


def life(
    member: Member, folder: Path, train: Trainer, reference: str = "digits:test", data_dir: str | None = None
) -> str:
    """Where the killed run went on and what was measured.

    Raises:
        UserError: something that ought to be did not come to be.
    """
    whole, interrupted, dataset = folder / "whole", folder / "interrupted", None
    if member.learns_from is not None:
        train(members()[member.learns_from].config, folder / "model", False)
        dataset = f"{member.kind}:{folder / 'model'}"
    train(member.config, whole, False, dataset)
    train(member.config, interrupted, True, dataset)
    resumed_at = load_run(interrupted).step
    if resumed_at >= load_run(whole).step and load_run(whole).step > 1:
        raise UserError("the training was over before it could be killed")
    train(member.config, interrupted, False, dataset)
    if load_run(whole).sha256 != load_run(interrupted).sha256:
        raise UserError(f"killed at step {resumed_at} and resumed, it ends with other numbers")
    learned = f"{member.kind}:{interrupted}" if member.learns_from is not None else None
    run = load_run(folder / "model" if learned else interrupted)
    has_latents = run.model.encodes or run.latents is not None
    prior = learned or ("gaussian" if has_latents else "normal")
    common = [
        f"--workdir={run.workdir}",
        f"--prior={prior}",
        "--quiet",
        *([f"--data_dir={data_dir}"] if data_dir else []),
    ]
    whats = "samples,reconstructions" if has_latents else "samples"
    _call(sample.main, [*common, f"--what={whats}", "--count=8", f"--output={folder / 'pictures'}"])
    metrics = ["mmd-digits" if reference.startswith("digits") else "decoder_rank"]
    metrics += ["psnr"] if run.model.encodes else []
    metrics += ["likelihood"] if run.model.has_likelihood else []
    counts = ["--num_samples=50"] if reference.startswith("digits") else []
    counts += ["--importance_samples=2"] if run.model.has_likelihood else []
    _call(evaluate.main, [*common, *counts, f"--metrics={','.join(metrics)}", f"--reference={reference}"])
    return f"resumed at step {resumed_at}; {prior.partition(':')[0]}; {', '.join(metrics)}"


def _call(command: Callable[[list[str]], int], words: list[str]) -> None:
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = command(words)
    if code:
        raise UserError(said.getvalue().strip() or f"exit code {code}")


def train_in_process(config: str, workdir: Path, killed: bool, dataset: str | None = None) -> None:
    """By a process of its own, which is killed when its first checkpoint is there."""
    words = [f"--config={ROOT / config}", f"--workdir={workdir}", "--config.sample_every_steps=0"]
    words += [f"--config.checkpoint_every_steps={CHECKPOINT_EVERY}"]
    words += [f"--config.dataset.name={dataset}"] if dataset else []
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "env": environment}
    with subprocess.Popen([sys.executable, "-m", "dfm.train", *words], cwd=ROOT, text=True, **pipes) as process:
        while killed and process.poll() is None:
            if any(path.name.isdecimal() for path in workdir.glob("checkpoints/*")):
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        _, said = process.communicate()
        if process.returncode and not killed:
            raise UserError((said or "").strip().splitlines()[-1] if said else f"exit code {process.returncode}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="NAME,...", help=f"of {', '.join(members())}; default all")
    parser.add_argument("--workdir", default="runs/lives", metavar="DIR", help="made anew; default %(default)s")
    arguments = parser.parse_args()
    known = members()
    names = [word.strip() for word in arguments.only.split(",")] if arguments.only else list(known)
    for name in names:
        check("member", name, known)
    failures = 0
    for name in names:
        folder, begin = Path(arguments.workdir) / name, time.perf_counter()
        shutil.rmtree(folder, ignore_errors=True)
        try:
            outcome = life(known[name], folder, train_in_process)
        except UserError as error:
            outcome, failures = f"FAILED: {error}", failures + 1
        print(f"{name}: {outcome}, {time.perf_counter() - begin:.0f} s", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    run_script(main)
