"""Every word of configs/autoencoders.py on one tiny trunk: two steps, saved, loaded, encoded, drawn.

Three go on bit for bit and are evaluated, with what they keep beside parameters.
"""

import json
import shutil

import jax
import numpy as np
import pytest
from run_helpers import assert_same_state, saved_state

from dfm.config import config_module
from dfm.data import load
from dfm.errors import UserError
from dfm.evaluation import Options, evaluate_run
from dfm.models.latent_vectors import latent_size
from dfm.picture_files import save_picture
from dfm.priors.gaussian import Normal
from dfm.sampling import Painter, draw
from dfm.train import train
from dfm.training.runs import load_run

CONFIGS = config_module("configs/autoencoders.py")
WORDS = [word for word in CONFIGS.WORDS if word != "code_prior"]  # its data are another run's: test_codes.py
TINY = {
    "widths": (8,),
    "latent": (3,),
    "pseudo_inputs": 5,
    "features": 4,
    "top": 3,
    "latent_channels": 1,
    "latent_size": 3,
    "codes": 6,
    "discriminator_features": 2,
}
BATCH = 20


def tiny(word):
    config = CONFIGS.get_config(f"{word}:quick")
    config.total_steps, config.checkpoint_every_steps, config.sample_every_steps = min(2, config.total_steps), 1, 0
    config.batch_size, config.log_every_steps = BATCH, 1
    for section in (config.model, config.objective):
        own = {key: value for key, value in TINY.items() if key in section and section[key] != ()}
        section.update(own | ({"latent": (4, 3)} if "codes" in section else {}))
    return config


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of a word, trained once."""
    runs = {}

    def of(word):
        if word not in runs:
            runs[word] = tmp_path_factory.mktemp(word)
            assert train(tiny(word), str(runs[word])) == 0
        return runs[word]

    return of


@pytest.mark.parametrize("word", WORDS)
def test_two_steps_survive_save_and_load(trained, word):
    config, workdir = tiny(word), trained(word)
    run = load_run(workdir)
    state = dict(saved_state(workdir, config.total_steps))
    average = "ema_params" if config.ema_decay else "params"
    for path, leaf in jax.tree_util.tree_leaves_with_path(run.params):
        np.testing.assert_array_equal(leaf, state[f"['{average}']{jax.tree_util.keystr(path)}"])
    for path, leaf in jax.tree_util.tree_leaves_with_path(run.statistics):
        np.testing.assert_array_equal(leaf, state[f"['statistics']{jax.tree_util.keystr(path)}"])
    assert bool(run.statistics) == (word in ("vq_vae", "gan"))
    labels = 3 if run.model.classes else None
    (pictures,) = draw(run, Normal(latent_size(run.model)), seed=0, start=0, count=6, labels=labels)
    alone = np.concatenate(list(draw(run, Normal(latent_size(run.model)), 0, 4, 1, 1, labels=labels)))
    assert pictures.shape == (6, 8, 8, 1) and np.abs(pictures[4] - alone[0].astype(int)).max() <= 1
    if run.model.encodes:
        test = load("digits", "test")
        latents = Painter(run).encode(test.take(np.arange(5)), test.labels[:5])
        assert latents.shape == (5, latent_size(run.model)) and np.isfinite(latents).all()


@pytest.mark.parametrize("word", ["vamp_vae", "vq_vae", "gan"])
def test_a_run_cut_off_goes_on_bit_for_bit_and_is_evaluated(trained, word, tmp_path):
    """The pseudo-inputs, the moving book and the batch norms among all else."""
    whole = trained(word)
    shutil.copytree(whole, tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "2")
    assert train(tiny(word), str(tmp_path / "cut")) == 0
    assert_same_state(saved_state(tmp_path / "cut", 2), saved_state(whole, 2))
    settings = {"num_samples": 20, "priors": ["normal"], "options": Options(num_references=20)}
    values = [
        evaluate_run(folder, ["fd-digits"], "digits:test", **settings)[0]["value"]
        for folder in (whole, tmp_path / "cut")
    ]
    assert np.isfinite(values[0]) and values[0] == values[1]


def test_a_conditional_run_knows_what_its_labels_mean(tmp_path):
    """Label k is the k-th folder by name: written down, since folders may be renamed."""
    digits = load("digits", "train")
    for label, name in ((0, "noughts"), (1, "ones")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for row in np.flatnonzero(digits.labels == label)[:12]:
            save_picture(tmp_path / "pictures" / name / f"{row}.png", digits.picture(int(row)))
    config = tiny("conditional_vae")
    config.dataset.name, config.model.classes, config.batch_size = f"folder:{tmp_path / 'pictures'}", 2, 8
    assert train(config, str(tmp_path / "run")) == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["label_names"] == ["noughts", "ones"]


@pytest.mark.parametrize(
    ("word", "changes", "message"),
    [
        ("vae", {"model.latent": (0,)}, "latent must be at least 1"),
        ("ae", {"model.widths": (-8,)}, "widths must be at least 1"),
        ("vq_vae", {"model.codes": 0}, "codes must be at least 1"),
        ("gan", {"model.features": 0}, "features must be at least 1"),
        (
            "vae",
            {"model.activation": "rlu"},
            "activation is 'rlu', not one of relu, leaky_relu, sigmoid, silu, tanh, id",
        ),
        ("vae", {"model.output": "clip"}, "output is 'clip', not one of identity, tanh, sigmoid"),
        ("ae", {"objective.loss": "l2"}, "loss is 'l2', not one of mse, l1, rmse, bce"),
        ("gan", {"objective.loss": "hing"}, "loss is 'hing', not one of hinge, vanilla"),
        ("hierarchical_vae", {"model.top": 0}, "top must be at least 1"),
        ("hierarchical_vae", {"model.levels": 9}, "8x8 have no 9 levels"),
        ("conditional_vae", {"model.classes": 4}, "classes is 4, and the pictures have labels up to 9"),
        ("ae", {"objective": {"name": "autoencoder"}}, "is for model.name 'autoencoder_kl'"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_there_is_a_folder(word, changes, message, tmp_path):
    config = tiny(word)
    config.update_from_flattened_dict({key: value for key, value in changes.items() if key != "objective"})
    if "objective" in changes:
        config.objective = changes["objective"]
    with pytest.raises(UserError, match=message):
        train(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_discrepancy_of_one_picture_is_refused_before_there_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("dfm.training.setting_up.check_batch_size", lambda *_: None)  # four devices refuse it earlier
    config = tiny("wae")
    config.batch_size = 1
    with pytest.raises(UserError, match="needs 2 pictures at once, and batch_size 1"):
        train(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
