"""Latents of new pictures: what the decoder can paint is found again, the best start and step are kept."""

import jax
import numpy as np
import pytest
from tiny_runs import Generator, LinearMachine, tiny_run

from dfm.errors import UserError
from dfm.sampling import RunData, invert
from dfm.sampling import inversion as module


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return RunData(tiny_run(tmp_path_factory.mktemp("table"), table=True, model=LinearMachine()))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return RunData(tiny_run(tmp_path_factory.mktemp("encoder"), table=False, model=LinearMachine()))


@pytest.fixture(autouse=True)
def four_rows(monkeypatch):
    """Groups of two pictures with two starts, or of four with one: the same compiled step for nearly all tests."""
    monkeypatch.setattr(module, "ROWS", 4)


@pytest.fixture(scope="module")
def paintable(data):
    """Pictures that the decoder paints itself, of latents near the mean."""
    latents = data.run.latents.mean(0) + np.random.default_rng(0).normal(size=(5, 3)) * 0.5
    return data.painter.paint(latents)


@pytest.mark.parametrize("optimizer", module.OPTIMIZERS)
def test_a_painted_picture_is_found_again(data, paintable, optimizer):
    steps = {"adam": 150, "lbfgs": 15}[optimizer]
    found = invert(data, paintable, steps=steps, starts=2, optimizer=optimizer)
    # half a level of rounding: (1 / 127.5)^2 / 12 is 5e-6
    assert found.mse.max() < 2e-5 < found.start_mse.min()
    difference = data.painter.paint(found.latents).astype(int) - paintable
    assert np.abs(difference).max() <= 4


def test_more_starts_and_more_steps_are_never_worse(data):
    pictures = data.test.take(np.arange(4))
    none, short, long = (invert(data, pictures, steps=steps, starts=1) for steps in (0, 10, 40))
    np.testing.assert_allclose(none.mse, none.start_mse)
    assert (short.mse <= none.mse + 1e-6).all() and long.mse.mean() < short.mse.mean() < none.mse.mean()
    several = invert(data, pictures, steps=0, starts=4)
    assert (several.mse <= none.mse + 1e-6).all()


def test_the_error_reported_is_that_of_the_latent_returned(data):
    pictures = data.test.take(np.arange(3))
    found = invert(data, pictures, steps=12, starts=2)
    painted = jax.jit(data.run.model.apply, static_argnames="method")(
        {"params": data.run.params}, found.latents, method="decode"
    )
    expected = np.square(np.asarray(painted) - (pictures / 127.5 - 1)).mean((1, 2, 3))
    np.testing.assert_allclose(found.mse, expected, rtol=1e-4)


def test_a_picture_does_not_depend_on_the_others(data):
    pictures = data.test.take(np.arange(5))
    together = invert(data, pictures, steps=20, starts=2)  # three groups, the last one padded
    later = invert(data, pictures[1:], steps=20, starts=2)
    np.testing.assert_allclose(later.latents, together.latents[1:], atol=1e-3)
    alone = invert(data, pictures[3:4], steps=20, starts=2)
    np.testing.assert_allclose(alone.latents[0], together.latents[3], atol=1e-3)


def test_an_encoder_gives_the_first_start(encoder):
    pictures = encoder.test.take(np.arange(4))
    found = invert(encoder, pictures, steps=0, starts=1)
    np.testing.assert_allclose(found.latents, encoder.painter.encode(pictures), atol=1e-5)
    assert invert(encoder, pictures, steps=20, starts=1).mse.mean() < found.mse.mean()


def test_a_table_starts_from_its_mean_and_its_nearest_pictures(data):
    """Without steps the best start is what is found."""
    picture, mean = data.train.take(np.array([11])), data.run.latents.mean(0)
    np.testing.assert_allclose(invert(data, picture, steps=0, starts=1).latents[0], mean, rtol=1e-6)
    nearest = data.nearest_in_training(picture, 2)[0]
    assert nearest[0] == 11  # the picture itself is in the training
    starts = np.stack([mean, *data.run.latents[nearest]])
    errors = np.square(data.painter.paint(starts).astype(float) - picture).mean((1, 2, 3))
    found = invert(data, picture, steps=0, starts=3).latents[0]
    np.testing.assert_allclose(found, starts[errors.argmin()], rtol=1e-6)


def test_progress_counts_all_groups(data):
    calls = []
    invert(data, data.test.take(np.arange(3)), steps=15, starts=2, progress=lambda *call: calls.append(call))
    assert [call[:2] for call in calls] == [(10, 30), (15, 30), (25, 30), (30, 30)]
    assert all(0 < decibels < 60 for _, _, decibels in calls)


@pytest.mark.parametrize("options", [{"steps": -1}, {"starts": 0}])
def test_impossible_settings_are_refused(data, options):
    with pytest.raises(UserError, match="no inversion of 1 pictures"):
        invert(data, data.test.take(np.arange(1)), **options)
    with pytest.raises(UserError, match="unknown optimizer 'sgd'.*known: adam, lbfgs"):
        invert(data, data.test.take(np.arange(1)), optimizer="sgd")


def test_a_generator_without_latents_starts_at_draws(tmp_path):
    generator = RunData(tiny_run(tmp_path, table=False, model=Generator()))
    drawn = np.random.default_rng(5).normal(size=(2, 3)).astype(np.float32) * 0.5
    pictures = generator.painter.paint(drawn)
    found = invert(generator, pictures, steps=150, starts=2)
    assert found.mse.max() < 2e-5 < found.start_mse.min()
    np.testing.assert_allclose(found.latents, drawn, atol=0.1)


def test_where_latents_come_from(data, encoder, tmp_path):
    generator = RunData(tiny_run(tmp_path, table=False, model=Generator()))
    found = [(one.latents_by(True), one.latents_by(False)) for one in (data, encoder, generator)]
    assert found == [("table", "inversion"), ("encoder", "encoder"), ("inversion", "inversion")]
    with pytest.raises(UserError, match="no latents"):
        _ = generator.training_latents
    with pytest.raises(UserError, match="no latents"):
        generator.latents_of_training(np.arange(2))
