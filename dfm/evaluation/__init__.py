"""Evaluation jobs: sets of pictures in, one JSON line a metric out (`python -m dfm.evaluate`).

sources.py (folders, .npz, data sets, samples) -> measure.py (features and moments) -> metrics.py (values) ->
report.py (lines); plan.py says beforehand what cannot be done, references.py keeps statistics, protocols.py knows the
legacy modes, reconstruction.py and honesty.py what needs a model beside its samples.
"""
