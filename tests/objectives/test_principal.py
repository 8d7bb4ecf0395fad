"""Principal components in closed form: against NumPy's singular vectors, through a whole training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from dfm.config import config_module
from dfm.data import load
from dfm.errors import UserError
from dfm.models.autoencoder import Autoencoder
from dfm.objectives.principal import PrincipalComponents
from dfm.train import train
from dfm.training.runs import load_run

LINEAR = {"height": 8, "width": 8, "channels": 1, "trunk": "dense", "widths": (), "bottleneck": "point"}


def test_a_run_holds_the_principal_components_of_all_pictures(tmp_path):
    config: ConfigDict = config_module("configs/autoencoders.py").get_config("pca")
    config.sample_every_steps = 0
    assert train(config, str(tmp_path)) == 0
    run = load_run(tmp_path)
    pictures = load("digits", "train").take(np.arange(1500)).reshape(1500, -1) / 127.5 - 1
    mean = pictures.mean(0)
    principal = np.linalg.svd(pictures - mean, full_matrices=False)[2][:8]
    directions = np.asarray(run.params["decoder"]["Dense_0"]["kernel"], np.float64)
    np.testing.assert_allclose(directions @ directions.T, np.eye(8), atol=1e-6)
    np.testing.assert_allclose(np.abs((directions * principal).sum(1)), 1, atol=1e-6)
    restored = run.model.apply(run.variables, jnp.asarray(pictures[:9].reshape(9, 8, 8, 1), jnp.float32))
    expected = mean + (pictures[:9] - mean) @ principal.T @ principal
    np.testing.assert_allclose(restored.reshape(9, -1), expected, atol=1e-5)


@pytest.mark.parametrize("options", [{"widths": (4,)}, {"bottleneck": "gaussian"}, {"output": "tanh"}, {"classes": 3}])
def test_other_models_are_refused(options):
    with pytest.raises(ValueError, match="trunk 'dense' without widths"):
        PrincipalComponents(Autoencoder(**{**LINEAR, "latent": (3,), **options}))


def test_too_few_pictures_are_refused():
    objective = PrincipalComponents(Autoencoder(latent=(9,), **LINEAR))
    objective.init(jax.random.key(0))
    with pytest.raises(UserError, match="8 pictures of 64 numbers have no 9 principal components"):
        objective.check_pictures((8, 8, 1), 8)
