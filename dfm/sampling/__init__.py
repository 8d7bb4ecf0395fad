"""Pictures from a trained run: sampling, inversion, interpolation, and their figures (`python -m dfm.sample`).

run = load_run("runs/digits")
prior = stored_or_fitted(RunData(run), "gaussian")
for batch in draw(run, prior, seed=0, start=0, count=10_000, batch_size=256): ...     # uint8
"""

from dfm.sampling.fitted_priors import default_prior, fit_prior, store_prior, stored_or_fitted
from dfm.sampling.inversion import invert
from dfm.sampling.painter import Painter, draw
from dfm.sampling.run_data import RunData

__all__ = ["Painter", "RunData", "default_prior", "draw", "fit_prior", "invert", "store_prior", "stored_or_fitted"]
