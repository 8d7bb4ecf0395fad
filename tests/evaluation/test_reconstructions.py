"""Reconstructions pass by and are not held; what takes hours says so first."""

import tracemalloc

import numpy as np
import tiny_runs

from dfm.evaluation import Options, evaluate_run, reconstruction
from dfm.evaluation.reconstruction import Compared, Reconstructions
from dfm.evaluation.reconstruction_metrics import RECONSTRUCTION_METRICS
from dfm.evaluation.sources import ArraySource
from dfm.metrics.weight_files import WeightFiles
from dfm.sampling import RunData, inversion

SHAPE = (32, 32, 3)


class Copier:
    """A stand-in for a run: its latents are the pictures, a level brighter."""

    def __init__(self):
        self.run = self.painter = self.model = self
        self.height, self.width, self.channels = SHAPE
        self.latents_are_stored = False

    def latents_by(self, of_training):
        return "encoder"

    def encode(self, pictures, labels):
        return pictures

    def paint(self, latents, labels):
        return latents + np.uint8(1)


def test_memory_does_not_grow_with_the_pictures():
    base = np.random.default_rng(0).integers(0, 255, (256, *SHAPE), dtype=np.uint8)
    originals = ArraySource("x", np.lib.stride_tricks.as_strided(base, (20_000, *SHAPE), (0, *base.strides[1:])))
    measure = RECONSTRUCTION_METRICS["psnr"].pairs(WeightFiles(), SHAPE)
    compared = Compared(Reconstructions(Copier(), originals, 0), {"psnr": measure})
    tracemalloc.start()
    try:
        count = sum(len(batch) for batch in compared.batches(0, 20_000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 20_000 and peak < 10e6  # of 61 MB
    np.testing.assert_allclose(compared.numbers("psnr"), 10 * np.log10(255**2))


def test_an_inversion_of_many_pictures_is_announced(tmp_path, monkeypatch):
    monkeypatch.setattr(reconstruction, "FEW", 8)
    monkeypatch.setattr(inversion, "ROWS", 4)  # one picture at a time: one compilation
    run, notes = tiny_runs.tiny_run(tmp_path, table=True, model=tiny_runs.LinearMachine()), []
    options = Options(note=notes.append, num_references=10)
    (line,) = evaluate_run(run, ["psnr"], "digits:test", invert_steps=2, options=options)
    assert line["latents_by"] == "inversion" and line["value"] > 0
    assert len(notes) == 1 and "the latents of 10 pictures are optimised for 2 steps each, in about 0:00:" in notes[0]
    assert "a smaller num_references or invert_steps helps" in notes[0]


def test_perfect_reconstructions_say_why_they_have_no_psnr(tmp_path, monkeypatch):
    run = tiny_runs.tiny_run(tmp_path, table=False)
    monkeypatch.setattr(Reconstructions, "pairs", lambda self, start, stop: ((b, b) for b in self.source.batches(0, 9)))
    monkeypatch.setattr(RunData, "train", None)
    originals = np.zeros((9, 8, 8, 1), np.uint8)
    psnr, ssim = evaluate_run(run, ["psnr", "ssim"], originals)
    assert psnr["value"] is None and psnr["details"]["why_null"] == "all 9 reconstructions equal their originals"
    assert ssim["value"] is None and "pictures of 8 pixels are smaller than the 11" in ssim["details"]["why_null"]
