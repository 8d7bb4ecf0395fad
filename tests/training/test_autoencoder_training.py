"""Trainings of an autoencoder from end to end: resumption, frozen encoders, other decoders, what a run leaves."""

import functools
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_autoencoder as tiny
from run_helpers import assert_same_state, metrics_without_times, saved_state, steps_on_disk, stop_after

from dfm import models, objectives, train
from dfm.arrays import to_float
from dfm.config import config_module, defaults, resolve
from dfm.conversion import load_pretrained, save_pretrained
from dfm.convert import main as convert
from dfm.data import Batches, load
from dfm.errors import UserError
from dfm.models.autoencoder_kl import parameter_shapes
from dfm.models.latent_scaling import scale_latents
from dfm.objectives.autoencoder import Autoencoder
from dfm.objectives.protocol import group_of
from dfm.training import optimizers
from dfm.training import step as steps
from dfm.training.latent_cache import is_constant
from dfm.training.latent_scale import read_latent_scale
from dfm.training.pretrained import load_autoencoder
from dfm.training.runs import load_run
from dfm.training.state import TrainState

CONFIG = Path(__file__).parents[2] / "configs" / "autoencoder_kl_imagenet.py"


def tiny_config(**changes):
    config = defaults()
    config.batch_size, config.total_steps = 8, 6
    config.log_every_steps, config.checkpoint_every_steps, config.sample_every_steps = 2, 6, 0
    config.ema_decay = 0.9
    config.model = {"name": "autoencoder_kl", **tiny.MODEL}
    config.objective = {
        "name": "autoencoder",
        **tiny.OBJECTIVE,
        "perceptual_weight": 0.0,
        "lecam_weight": 0.1,
        "discriminator_start_step": 0,
        "adversarial_start_step": 3,
        "freeze_encoder": False,
    }
    config.optimizer.update({"b1": 0.5, "b2": 0.9, "groups": {"discriminator": {"learning_rate": 2e-3}}})
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module", autouse=True)
def compiles_little():
    """Random starts by NumPy, and one compilation for equal trainings."""
    made, make = {}, steps.make_step

    def make_once(objective, optimizer, *settings):
        key = (objective, optimizer.gradient_clip_norm, settings)
        return made.setdefault(key, make(objective, optimizer, *settings))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "make_step", make_once)
        tiny.start_from_numpy(patch)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The workdir of an uninterrupted training."""
    workdir = tmp_path_factory.mktemp("whole")
    assert train.train(tiny_config(), str(workdir)) == 0
    return workdir


def test_a_stopped_and_resumed_run_equals_the_uninterrupted_one_bit_for_bit(whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 3)  # where the discriminator begins to be heard
        assert train.train(tiny_config(), str(tmp_path)) == 0
    assert steps_on_disk(tmp_path) == [3]
    assert train.train(tiny_config(), str(tmp_path)) == 0
    state = saved_state(tmp_path, 6)
    assert_same_state(state, saved_state(whole, 6))
    assert metrics_without_times(tmp_path) == metrics_without_times(whole)
    names = " ".join(name for name, _ in state)
    for part in ("['params']['discriminator']", "['opt_state']['discriminator']", "batch_stats", "average_logits"):
        assert part in names
    assert "['ema_params']['discriminator']" not in names
    last = metrics_without_times(whole)[-1]
    assert {"adaptive_weight", "discriminator_loss", "kl", "mse", "psnr", "discriminator_gradient_norm"} <= set(last)


def test_a_run_is_read_back_without_what_was_for_the_training_only(whole):
    run = load_run(whole)
    assert set(run.params) == {"encoder", "quant_conv", "post_quant_conv", "decoder"}
    assert (run.model.height, run.model.width, run.model.latent_shape) == (8, 8, (4, 4, 2))
    averaged = dict(saved_state(whole, 6))["['ema_params']['decoder']['conv_out']['kernel']"]
    raw = dict(saved_state(whole, 6))["['params']['decoder']['conv_out']['kernel']"]
    np.testing.assert_array_equal(load_run(whole, averaged=False).params["decoder"]["conv_out"]["kernel"], raw)
    assert not np.array_equal(raw, averaged)
    np.testing.assert_array_equal(run.params["decoder"]["conv_out"]["kernel"], averaged)


def frozen_config(whole, **changes):
    changes = {"objective.freeze_encoder": True, "pretrained.path": str(whole), "total_steps": 2, **changes}
    return tiny_config(**{"objective.adversarial_weight": 0.0, "optimizer.groups": {}, **changes})


OTHER_DECODER = {"model.decoder_block_out_channels": (8, 4)}


def test_a_frozen_encoder_keeps_its_bytes_and_another_decoder_learns_from_cached_latents(whole, tmp_path):
    config = frozen_config(whole, **OTHER_DECODER)
    with pytest.raises(UserError, match="decoder.conv_norm_out.bias is .* in this model; name the groups"):
        train.train(config, str(tmp_path))
    config.pretrained.groups = ("encoder", "quant_conv")
    assert train.train(config, str(tmp_path)) == 0
    before, after = load_run(whole).params, load_run(tmp_path).params
    state = dict(saved_state(tmp_path, 2))
    for group in ("encoder", "quant_conv"):
        assert tiny.same_bytes(after[group], before[group])
        assert not any(f"['{group}']" in name for name in state if "opt_state" in name or "ema_params" in name)
    assert any("['opt_state']['decoder']" in name for name in state)
    assert after["decoder"]["conv_out"]["kernel"].shape[2] == 8
    with pytest.raises(UserError, match="config: quant_conv does not learn and would stay random"):
        frozen = frozen_config(whole, **{"pretrained.groups": ("encoder", "post_quant_conv", "decoder")})
        train.train(frozen, str(tmp_path / "random"))
    (cache,) = tmp_path.glob("moments-*.npy")
    dataset = load("digits", "train")
    model = models.build(resolve(config).model)
    moments = jax.jit(lambda x: model.apply({"params": before}, x, method="moments"))
    expected = moments(to_float(dataset.take(np.arange(30, 40))))
    np.testing.assert_allclose(np.load(cache)[30:40], expected, rtol=1e-4, atol=1e-5)
    assert is_constant(Batches(dataset, 8, 0)) and is_constant(Batches(dataset, 8, 0, (8, 8)))
    assert not is_constant(Batches(dataset, 8, 0, (6, 6))) and not is_constant(Batches(dataset, 8, 0, flip=True))


def test_latents_of_a_frozen_encoder_keep_their_scale(whole, tmp_path):
    run = load_run(whole)
    source = run.model.clone(scaling_factor=0.7, shift_factor=0.1)
    save_pretrained(source, {group: run.params[group] for group in parameter_shapes(source)}, tmp_path / "source")
    changes = {"pretrained.path": str(tmp_path / "source"), "sample_every_steps": 1, "total_steps": 1, **OTHER_DECODER}
    changes["pretrained.groups"] = ("encoder", "quant_conv")
    with pytest.raises(UserError, match="norm_num_groups is 2 there and 1 in this model"):
        train.train(frozen_config(whole, **changes, **{"model.norm_num_groups": 1}), str(tmp_path / "other"))
    assert train.train(frozen_config(whole, **changes), str(tmp_path / "run")) == 0
    assert convert([str(tmp_path / "run"), str(tmp_path / "vae")]) == 0
    model, _ = load_pretrained(tmp_path / "vae")
    assert (model.scaling_factor, model.shift_factor) == (0.7, 0.1)
    assert (tmp_path / "run" / "pictures" / "reconstructions-00000001.png").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective.freeze_encoder": True}, "would freeze random numbers"),
        ({"pretrained.path": "nowhere"}, "nowhere: no such file or folder"),
        ({"model.in_channels": 3, "model.out_channels": 3}, r"the pictures are \(8, 8, 1\)"),
        ({"objective.discriminator_layers": 3}, "8x8 are too small for objective.discriminator_layers 3: 24 pixels"),
        ({"objective.perceptual_weight": 1.0}, "the LPIPS weights are missing: give --lpips_weights=FILE"),
        ({"accumulation_steps": 3}, "not divisible into 3 parts"),
        ({"optimizer.groups": {"critic": {"b1": 0.1}}}, "no such group"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(changes, message, tmp_path, monkeypatch):
    monkeypatch.delenv("DFM_LPIPS_WEIGHTS", raising=False)
    with pytest.raises(UserError, match=message):
        train.train(tiny_config(**changes), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_previews_measure_the_scale_of_latents_and_the_exported_config_has_it(whole, tmp_path):
    from dfm.training.previews import Previews

    run = load_run(whole)
    batches = Batches(load("digits", "train"), 8, 0)
    state = TrainState(0, None, run.params, None, None, None)
    shown = jax.device_put(state.params)
    Previews(run.objective, batches, whole).write(TrainState(0, None, shown, None, None, None), 6)
    assert len(list((whole / "pictures").iterdir())) == 2
    scale = json.loads((whole / "latent_scale.json").read_text())["6"]
    assert convert([str(whole), str(tmp_path / "vae")]) == 0
    model, params = load_pretrained(tmp_path / "vae")
    assert (model.scaling_factor, model.shift_factor) == (scale["scaling_factor"], scale["shift_factor"])
    images = to_float(batches.dataset.take(np.arange(1500)))
    posterior = jax.jit(lambda x: model.apply({"params": params}, x, method="encode"))(images)
    scaled = np.asarray(scale_latents(posterior.sample(jax.random.key(0)), model))
    assert abs(scaled.mean()) < 0.02 and abs(scaled.std() - 1) < 0.02


def test_a_scale_belongs_to_a_step_and_is_measured_where_none_was(whole, tmp_path, capsys):
    """Previews of step 3 say nothing of step 6, whose weights are others: dfm.convert measures on the run's digits."""
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    for text in (
        '{"step": 3, "scaling_factor": 9.0, "shift_factor": 0.0}',  # as earlier versions wrote it
        '{"3": {"scaling_factor": 9.0, "shift_factor": 0.0}}',
    ):
        (run / "latent_scale.json").write_text(text)
        assert load_autoencoder(run)[0].scaling_factor is None
        assert read_latent_scale(run, 3)["scaling_factor"] == 9.0
    assert convert([str(run), str(tmp_path / "vae")]) == 0
    model, params = load_pretrained(tmp_path / "vae")
    images = to_float(load("digits", "train").take(np.arange(1500)))
    posterior = jax.jit(lambda x: model.apply({"params": params}, x, method="encode"))(images)
    scaled = np.asarray(scale_latents(posterior.sample(jax.random.key(0)), model))
    assert abs(scaled.mean()) < 0.03 and abs(scaled.std() - 1) < 0.03
    config = json.loads((run / "config.json").read_text())
    config["dataset"]["name"] = f"folder:{tmp_path}/gone"
    (run / "config.json").write_text(json.dumps(config))
    capsys.readouterr()
    assert convert([str(run), str(tmp_path / "unknown")]) == 0
    told = capsys.readouterr().err
    assert "cannot be measured" in told and "gone" in told and "scaling_factor is null" in told
    assert load_pretrained(tmp_path / "unknown")[0].scaling_factor is None


def test_parts_of_a_batch_add_up_to_the_whole():
    rows = np.arange(12, dtype=np.float32).reshape(6, 2)
    batch = {"image": np.linspace(-1, 1, 6, dtype=np.float32), "index": np.arange(6)}

    def part(statistics, rows, batch, key):
        gradients = {"decoder": (batch["image"] ** 2).mean(), "latents": rows / len(rows)}
        return {"loss": batch["image"].mean()}, gradients, statistics + 1

    one, two = (steps.accumulate(part, count, 0, rows, batch, jax.random.key(0)) for count in (1, 3))
    np.testing.assert_allclose(two[0]["loss"], one[0]["loss"], atol=1e-7)
    np.testing.assert_allclose(two[1]["decoder"], one[1]["decoder"], rtol=1e-6)
    np.testing.assert_allclose(two[1]["latents"], one[1]["latents"], rtol=1e-6)
    assert (one[2], two[2]) == (1, 3)


# the config file


def read_config(argument):
    return resolve(config_module(CONFIG).get_config(argument))


def counts(config):
    objective = objectives.build(config.objective, models.build(config.model))
    shapes = jax.eval_shape(functools.partial(Autoencoder.init, objective), jax.random.key(0))
    sizes = {name: sum(leaf.size for leaf in jax.tree.leaves(group)) for name, group in shapes.items()}
    return objective, shapes, sizes


@pytest.mark.parametrize("word", ["f8c4", "f4c3", "f16c16", "cifar10"])
def test_full_widths_have_the_published_sizes(word):
    _, _, sizes = counts(read_config(word))
    discriminator = sizes.pop("discriminator")
    total = sum(sizes.values())
    if word == "cifar10":
        assert total <= 4_000_000
    else:
        assert discriminator == 2_765_633
    if word in ("f8c4", "f4c3"):
        assert total == {"f8c4": 83_653_863, "f4c3": 55_312_063}[word]


@pytest.mark.parametrize("word", ["f8c4", "cifar10", "cifar10:quick", "f8c4:decoder_only"])
def test_the_rate_of_a_preset_is_that_of_the_whole_autoencoder(word):
    settings = read_config(word).optimizer.to_dict()
    optimizer = optimizers.build(settings, 10_000, ("encoder", "quant_conv", "decoder", "discriminator"))
    rates = optimizer.learning_rates(settings["warmup_steps"])
    of_discriminator = rates.pop("learning_rate/discriminator")
    assert list(rates.values()) == pytest.approx(3 * [settings["learning_rate"]])
    assert of_discriminator == pytest.approx(settings["groups"]["discriminator"]["learning_rate"])


@pytest.mark.parametrize(
    "argument", ["f8c4:quick", "f4c3:quick", "f16c16:quick", "cifar10:quick", "quick:decoder_only,decoder_width=0.5"]
)
def test_every_word_takes_a_step_at_its_quick_setting(argument):
    """Traced, not computed: tests/test_train.py computes two steps of cifar10's."""
    config = read_config(argument)
    assert config.optimizer.warmup_steps < config.total_steps / 2
    objective, shapes, sizes = counts(config)
    assert sum(sizes.values()) < 6_000_000
    side = 32 if "cifar10" in argument else 64
    images = jax.ShapeDtypeStruct((config.batch_size, side, side, 3), np.float32)
    statistics = jax.eval_shape(objective.init_statistics, jax.random.key(0))
    step = functools.partial(objective.gradients, phase="adversarial", compute_dtype=config.compute_dtype)
    _, gradients, _ = jax.eval_shape(
        lambda p, s, x, key: step(p, s, {"image": x}, key), shapes, statistics, images, jax.random.key(0)
    )
    learning = {name: shapes[name] for name in shapes if group_of(objective, name).learns}
    wanted = jax.tree.map(lambda leaf: leaf.shape, learning)
    assert jax.tree.map(lambda leaf: leaf.shape, gradients) == wanted
    frozen = "decoder_only" in argument
    assert ("encoder" in learning) != frozen
    if frozen:
        assert list(config.model.decoder_block_out_channels) == [16, 32, 64, 64]


def test_words_combine_and_nonsense_is_answered():
    assert read_config("quick") == read_config("f8c4:quick")
    assert read_config("size=64").dataset.crop == [64, 64] and read_config("f4c3,size=64").model.latent_channels == 3
    assert read_config("") == read_config("f8c4")
    for argument, message in [
        ("f8c5", "unknown word 'f8c5'; did you mean 'f8c4'?"),
        ("cifar10:small", "small as it is"),
        ("cifar10,size=64", "small as it is"),
        ("f8c4,decoder_width=nan", "decoder_width a number above 0"),
        ("f8c4,decoder_width=-1", "decoder_width a number above 0"),
        ("f8c4:quik", "did you mean 'quick'?"),
        ("f8c4:cifar10", "one of f8c4"),
        ("quick:quick", "each word once"),
        ("f8c4,sise=3", "did you mean 'size'?"),
    ]:
        with pytest.raises(UserError, match=message.replace("?", r"\?")):
            read_config(argument)
