"""A prior over the codes of a VQ-VAE's run: trained as a run of its own, and what it draws."""

import json

import jax
import numpy as np
import pytest

from dfm import evaluate, sample
from dfm.config import config_module
from dfm.data import load
from dfm.errors import UserError
from dfm.evaluation import Options, evaluate_run
from dfm.models import latent_vectors
from dfm.priors import PRIORS
from dfm.sampling import RunData, draw, fit_prior, stored_or_fitted
from dfm.sampling.fitted_priors import check_prior
from dfm.train import train
from dfm.training.codes import code_maps
from dfm.training.runs import load_run

get_config = config_module("configs/autoencoders.py").get_config
TINY = {"layers": 1, "features": 8, "heads": 2}


def tiny(word, **model):
    config = get_config(f"{word}:quick")
    config.total_steps, config.sample_every_steps, config.batch_size = 2, 0, 20
    config.model.update(model)
    return config


def code_prior(vq, **model):
    config = tiny("code_prior", **TINY, **model)
    config.dataset.name = f"codes:{vq}"
    return config


@pytest.fixture(scope="module", params=["averages", "gradients"])
def vq(request, tmp_path_factory):
    """A run of two steps, by the kind of its book."""
    folder = tmp_path_factory.mktemp(request.param)
    averaged = request.param == "averages"
    train(tiny("vq_vae", widths=(8,), latent=(4, 3), codes=6, averaged_codes=averaged), str(folder / "vq"))
    train(code_prior(folder / "vq", classes=10), str(folder / "codes"))
    return load_run(folder / "vq"), f"codes:{folder / 'codes'}"


def test_the_run_knows_the_size_of_the_codes_and_whose_they_are(vq):
    run, name = vq
    codes = load_run(name.removeprefix("codes:"))
    model = codes.config.model
    assert (model.height, model.width, model.codes, model.classes) == (1, 4, 6, 10)
    assert codes.data["codes_of"] == run.sha256 and codes.data["count"] == 1500
    assert train(codes.config, str(codes.workdir)) == 0  # nothing left to do: config and data are the same


def test_maps_are_what_the_model_quantises(vq):
    run, _ = vq
    pictures = load("digits", "test")
    maps = code_maps(run, pictures)
    assert maps.shape == (297, 1, 4, 1) and maps.dtype == np.int32
    rows = np.array([0, 130, 296])
    latents = np.asarray(run.model.apply(run.variables, maps[rows, 0, :, 0], method="embed"))
    expected = RunData(run).encode(pictures)[rows]
    np.testing.assert_allclose(latents.reshape(3, -1), expected, atol=1e-6)


@pytest.mark.parametrize("name", [*PRIORS, "codes"])
def test_every_sampler_decodes_to_pictures_of_codes(vq, name):
    run, codes = vq
    data = RunData(run)
    if name in ("two_stage", "flow"):
        prior, _ = fit_prior(data, name, width=8, steps=3)
    else:
        prior = stored_or_fitted(data, codes if name == "codes" else name)
    (pictures,) = draw(run, prior, 0, 0, 6)
    latents = prior.sample(jax.random.key(0), 6)
    assert pictures.shape == (6, 8, 8, 1)
    nearest = run.model.apply(run.variables, latents.reshape(6, 4, 3), method=lambda m, z: m.neck.quantize(z).vectors)
    expected = latent_vectors.decode(run.model, run.variables, nearest.reshape(6, -1))
    np.testing.assert_allclose(pictures, np.clip((np.asarray(expected) + 1) * 127.5, 0, 255), atol=0.51)
    assert name != "codes" or np.abs(np.asarray(nearest).reshape(6, -1) - latents).max() == 0


def test_the_command_samples_a_class_and_a_column_for_each(vq, tmp_path, capsys):
    run, name = vq
    words = [f"--workdir={run.workdir}", f"--output={tmp_path}", f"--prior={name}", "--count=20", "--quiet"]
    assert sample.main(words) == 0 and sample.main([*words, "--class=3"]) == 0
    both, of_three = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (both["what"], both["columns"], both["label"]) == ("samples-codes", 10, "columns")
    assert (of_three["label"], of_three["prior"]) == (3, name)
    assert sample.main([*words[:2], "--prior=gaussian", "--class=3"]) == 2
    assert sample.main([*words, "--class=10"]) == 2
    assert "classes 0 to 9, not 10" in capsys.readouterr().err


def test_the_run_of_the_prior_itself_says_how_it_is_sampled(vq, tmp_path, capsys):
    run, name = vq
    codes = name.removeprefix("codes:")
    assert sample.main([f"--workdir={codes}", f"--output={tmp_path / 'out'}"]) == 2
    assert evaluate.main([f"--workdir={codes}", "--metrics=fd-digits", "--reference=digits:test"]) == 2
    said = f"is a prior of {run.workdir}; open {run.workdir} with prior {name}"
    assert capsys.readouterr().err.count(said) == 2 and not (tmp_path / "out").exists()


def test_it_is_evaluated(vq):
    run, name = vq
    (line,) = evaluate_run(
        run, ["fd-digits"], "digits:test", num_samples=30, priors=[name], options=Options(num_references=50)
    )
    assert line["prior"].startswith("codes:codes@2-") and np.isfinite(line["value"])
    (of_three,) = evaluate_run(
        run, ["fd-digits"], "digits:test", num_samples=9, priors=[name], options=Options(num_references=9, label=3)
    )
    assert of_three["samples"]["id"] == "samples[label=3]"


def test_the_prior_of_another_checkpoint_is_refused(vq, tmp_path):
    run, name = vq
    config = tiny("vq_vae", widths=(8,), latent=(4, 3), codes=6)
    config.seed = 1
    train(config, str(tmp_path / "other"))
    other = RunData(load_run(tmp_path / "other"))
    with pytest.raises(UserError, match="trained on the codes of another checkpoint than step 2"):
        check_prior(other, name)
    with pytest.raises(UserError, match="is no prior over codes"):
        check_prior(RunData(run), f"codes:{tmp_path / 'other'}")
    with pytest.raises(UserError, match="has learned no VampPrior"):
        check_prior(RunData(run), "vamp")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"dataset.name": "codes:"}, "names the run of a VQ-VAE"),
        ({"dataset.name": "digits"}, "belong together"),
        ({"dataset.flip": True}, "neither cropped nor mirrored"),
        ({"model.codes": 7}, "model.codes is 7, that of .* is 6"),
        ({"evaluate_every_steps": 1}, "needs a model with an encoder"),
    ],
)
def test_what_cannot_be_trained_is_refused(vq, tmp_path, change, match):
    config = code_prior(vq[0].workdir)
    config.update_from_flattened_dict(change)
    with pytest.raises(UserError, match=match):
        train(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_models_without_codes_are_refused(vq, tmp_path):
    with pytest.raises(UserError, match="its model has no codes"):
        train(code_prior(vq[1].removeprefix("codes:")), str(tmp_path / "run"))
    with pytest.raises(UserError, match="codes of a run are for dfm.train alone"):
        load(vq[1])
