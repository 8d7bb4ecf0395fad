import jax
import numpy as np
import pytest
from stand_in import LinearMachine, Reconstruction, tiny_config

from dfm.data import Batches, load
from dfm.picture_files import load_picture
from dfm.training import optimizers
from dfm.training.previews import Previews, beside_each_other, sample_gaussian
from dfm.training.state import initial_state


def test_samples_have_the_mean_and_covariance_of_the_latents():
    rng = np.random.default_rng(0)
    mix = np.array([[1.0, 0.0, 0.0], [0.8, 0.3, 0.0], [1.0, 1.0, 0.0]])  # singular
    latents = (rng.normal(size=(3_000, 3)) @ mix.T + [1.0, 2.0, 3.0]).astype(np.float32)
    drawn = sample_gaussian(latents, 20_000, seed=1)
    np.testing.assert_allclose(drawn.mean(0), latents.mean(0), atol=0.05)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(latents.T), atol=0.1)
    np.testing.assert_array_equal(sample_gaussian(latents, 5, 1)[:3], sample_gaussian(latents, 3, 1))


def test_a_single_number_is_a_latent_too():
    assert sample_gaussian(np.ones((4, 1), np.float32), 3, 0).tolist() == [[1.0]] * 3


def test_originals_stand_over_their_reconstructions():
    upper = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1)
    order = beside_each_other(upper, upper + 100, columns=3).ravel().tolist()
    assert order == [0, 1, 2, 100, 101, 102, 3, 4, 255, 103, 104, 255]


@pytest.mark.parametrize("encodes", [True, False])
def test_grids_of_training_pictures(encodes, tmp_path):
    model = LinearMachine(encodes)
    objective = Reconstruction(model)
    groups = ("decoder", "encoder") if encodes else ("decoder", "latents")
    optimizer = optimizers.build(tiny_config().optimizer.to_dict(), 10, groups)
    state = jax.jit(lambda: initial_state(objective, optimizer, 1_500, 0, ema=True))()
    batches = Batches(load("digits", "train"), 20, seed=0)
    previews = Previews(objective, batches, tmp_path)
    previews.write(state, 30)
    previews.write(state, 60)
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == [f"{kind}-{step:08d}.png" for kind in ("reconstructions", "samples") for step in (30, 60)]
    samples = load_picture(tmp_path / "pictures" / "samples-00000030.png")
    assert samples.shape == (8 * 9 - 1, 8 * 9 - 1, 1)  # 64 pictures of 8 x 8
    np.testing.assert_array_equal(samples, load_picture(tmp_path / "pictures" / "samples-00000060.png"))
    page = load_picture(tmp_path / "pictures" / "reconstructions-00000030.png")
    np.testing.assert_array_equal(page[:8, 9:17], batches.at(0)["image"][1])
    np.testing.assert_array_equal(page[18:26, :8], batches.at(0)["image"][8])
