"""How far a training is: loss or PSNR, steps and time left."""

import jax

from dfm.progress import Progress


class TrainingProgress(Progress):
    """Steps on standard error; silent on all processes but the first."""

    def __init__(self, first_step: int, total_steps: int):
        super().__init__(total_steps, first=first_step, quiet=jax.process_index() != 0)

    def show(self, line: dict[str, float]) -> None:
        """What is said from now on: a line of metrics.jsonl."""
        words = f"loss {line['loss']:.4g}" + (f", PSNR {line['psnr']:.2f} dB" if "psnr" in line else "")
        self.reach(self.done, note=f"{words}, {line['steps_per_second']:.2f} steps/s")
