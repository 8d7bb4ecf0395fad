"""A run of the code before the protocols of models and objectives goes on and is read as it was.

tests/golden/run_before_protocols.zip: the digits of class 3, a table of latents, a moving average; eight steps of
commit 88b25ec, the checkpoint of step 4 and all lines of metrics. No fingerprint of data, no checksums.
"""

import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from run_helpers import metrics_without_times

from dfm import train
from dfm.sampling import RunData
from dfm.training import setting_up
from dfm.training.run_folder import read_config
from dfm.training.runs import load_run
from dfm.training.sharding import data_mesh

OLD = Path(__file__).parent.parent / "golden" / "run_before_protocols.zip"


def test_it_goes_on_to_the_numbers_that_it_had_then(tmp_path, monkeypatch):
    monkeypatch.setattr(setting_up, "data_mesh", lambda: data_mesh(jax.devices()[:1]))  # its batch is not for four
    with zipfile.ZipFile(OLD) as file:
        file.extractall(tmp_path)
    then = metrics_without_times(tmp_path)
    run = load_run(tmp_path)
    assert run.step == 4 and run.latents.shape == (153, 3) and set(run.params) == {"decoder"} and run.data == {}
    data = RunData(run)
    painted = data.painter.paint(data.latents_of_training(np.arange(20)))
    assert painted.shape == (20, 8, 8, 1) and painted.std() > 5
    assert train.train(read_config(tmp_path), str(tmp_path)) == 0
    now = metrics_without_times(tmp_path)
    assert [line["step"] for line in now] == [2, 4, 6, 8] and set(now[-1]) == set(then[-1])
    for name, value in then[-1].items():
        assert now[-1][name] == pytest.approx(value, rel=1e-4), name
    assert load_run(tmp_path).data["count"] == 153  # known from now on
