"""Pictures of a run and their latents: tables, encoders, central windows, nearest neighbours."""

import numpy as np
import pytest
from tiny_runs import TinyMachine, tiny_run

from dfm.errors import UserError
from dfm.sampling import RunData


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return tiny_run(tmp_path_factory.mktemp("table"), table=True)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny_run(tmp_path_factory.mktemp("encoder"), table=False)


def test_latents_of_a_table_are_its_rows(table):
    data = RunData(table)
    np.testing.assert_array_equal(data.training_latents, table.latents)
    np.testing.assert_array_equal(data.latents_of_training(np.array([5, 2])), table.latents[[5, 2]])


def test_latents_of_an_encoder_are_encodings(encoder):
    data = RunData(encoder)
    assert data.training_latents.shape == (1500, 3)
    expected = data.painter.encode(data.train.take(np.array([7, 1400])))
    np.testing.assert_allclose(data.latents_of_training(np.array([7, 1400])), expected, atol=1e-6)
    np.testing.assert_allclose(data.training_latents[[7, 1400]], expected, atol=1e-5)


def test_a_table_of_other_data_is_refused(tmp_path):
    data = RunData(tiny_run(tmp_path, table=True, count=1499))
    with pytest.raises(UserError, match="the run has 1499 latents, but digits has 1500 pictures now"):
        _ = data.train


def test_one_class_stays_one_class(tmp_path):
    data = RunData(tiny_run(tmp_path, table=False, label=3))
    assert set(data.train.labels) == set(data.test.labels) == {3}


def test_pictures_outside_the_split_are_refused(encoder):
    data = RunData(encoder)
    with pytest.raises(UserError, match="no picture 297 in digits, test: 0 to 296"):
        data.pictures(data.test, [0, 297])


def test_larger_pictures_give_their_central_windows(tmp_path):
    data = RunData(tiny_run(tmp_path, table=False, model=TinyMachine(height=6, width=4)))
    whole = data.test.take(np.arange(2))
    np.testing.assert_array_equal(data.pictures(data.test, [0, 1]), whole[:, 1:7, 2:6])


def test_other_channels_are_refused(tmp_path):
    data = RunData(tiny_run(tmp_path, table=False, model=TinyMachine(channels=3)))
    with pytest.raises(UserError, match="digits has 1 channel, the model 3"):
        data.pictures(data.test, [0])


def test_nearest_in_training_against_all_distances(encoder, monkeypatch):
    monkeypatch.setattr("dfm.sampling.run_data.CHUNK", 400)  # 1,500 pictures in four pieces
    data = RunData(encoder)
    wanted = data.test.take(np.arange(4))
    train = data.train.take(np.arange(1500)).reshape(1500, -1).astype(np.int64)
    errors = np.square(train[None] - wanted.reshape(4, 1, -1)).sum(-1)
    nearest = data.nearest_in_training(wanted, 3)
    np.testing.assert_array_equal(np.take_along_axis(errors, nearest, 1), np.sort(errors, 1)[:, :3])
    itself = data.nearest_in_training(data.train.take(np.array([9])), 1)
    np.testing.assert_array_equal(itself, [[9]])
