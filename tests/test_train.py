import json
import signal
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "training"))

from run_helpers import stop_after  # noqa: E402
from stand_in import install  # noqa: E402
from tiny_autoencoder import start_from_numpy  # noqa: E402

from dfm import train  # noqa: E402
from dfm.results import read_lines  # noqa: E402
from dfm.training.runs import load_run  # noqa: E402


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    install(monkeypatch)


# the command line

CONFIG = """
import sys
sys.path.insert(0, {path!r})
from run_helpers import stop_after  # noqa: E402
from stand_in import tiny_config
from dfm.config import parse_arg

def get_config(arg=""):
    word, options = parse_arg(arg, ("plain", "table"), steps=12)
    return tiny_config(word == "plain", total_steps=options["steps"])

def sweep(add):
    add(**{{"optimizer.learning_rate": 1e-2, "batch_size": 20}})
    add(**{{"optimizer.learning_rate": float("nan")}})
    add(**{{"optimizer.name": "sgd"}})
"""


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "experiment.py"
    path.write_text(CONFIG.format(path=str(HERE / "training")))
    return str(path)


def test_one_command_trains_and_overrides(config_file, tmp_path, capsys):
    workdir = tmp_path / "run"
    code = train.main(
        [
            f"--config={config_file}:table,steps=4",
            f"--workdir={workdir}",
            "--config.batch_size=40",
            "--config.optimizer.schedule=linear",
        ]
    )
    assert code == 0
    config = json.loads((workdir / "config.json").read_text())
    assert (config["batch_size"], config["total_steps"], config["optimizer"]["schedule"]) == (40, 4, "linear")
    assert '"schedule": "linear"' in capsys.readouterr().out  # the resolved config
    assert load_run(workdir).latents.shape == (1500, 4)


def test_sweeps_list_run_one_and_run_all(config_file, tmp_path, capsys):
    arguments = [f"--config={config_file}:steps=1", f"--workdir={tmp_path / 'sweep'}"]
    assert train.main([*arguments, "--sweep"]) == 0
    listing = capsys.readouterr().out.splitlines()
    assert listing[0] == "0: optimizer.learning_rate=0.01, batch_size=20" and len(listing) == 3
    assert not (tmp_path / "sweep").exists()
    assert train.main([*arguments, "--sweep_index=2"]) == 0
    assert [path.name for path in (tmp_path / "sweep").iterdir()] == ["2-name=sgd"]
    assert train.main([*arguments, "--sweep_index=3"]) == 2
    assert "runs 0 to 2" in capsys.readouterr().err
    assert train.main([*arguments, "--sweep_all"]) == 2  # run 1 cannot be; 0 and 2 are there all the same
    said = capsys.readouterr()
    assert "1-learning_rate=nan: config: optimizer.learning_rate must be finite" in said.err
    table = [line.split() for line in said.out.splitlines()[-4:]]
    assert table[0] == ["run", "step", "loss", "psnr", "exit", "code"]
    assert [(row[0][0], row[1], row[-1]) for row in table[1:]] == [("0", "1", "0"), ("1", "-", "2"), ("2", "1", "0")]
    assert train.main([*arguments, "--sweep_all", "--config.optimizer.learning_rate=0.1"]) == 2
    assert "--config.optimizer.learning_rate has no effect: the sweep sets" in capsys.readouterr().err
    for name in ("0-learning_rate=0.01,batch_size=20", "2-name=sgd"):
        assert load_run(tmp_path / "sweep" / name).step == 1


def test_a_tilde_is_the_users_home(config_file, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert train.main([f"--config={config_file}:steps=1", "--workdir=~/run"]) == 0
    assert load_run("~/run").step == 1 and not (tmp_path / "~").exists()


def test_a_signal_ends_the_whole_sweep(config_file, tmp_path, monkeypatch):
    stop_after(monkeypatch, 2)
    assert train.main([f"--config={config_file}", f"--workdir={tmp_path / 'sweep'}", "--sweep_all"]) == 0
    assert [path.name[0] for path in (tmp_path / "sweep").iterdir()] == ["0"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(
    "arguments,message",
    [
        ([], "--config=FILE is missing"),
        (["--config=nothing.py"], "no such file 'nothing.py'"),
        (["--config=FILE"], "--workdir=DIR is missing"),
        (["--config=FILE", "--workdir=W", "--wokdir=W"], "Unknown command line flag 'wokdir'"),
        (["--config=FILE", "--workdir=W", "extra"], "unexpected argument 'extra'"),
        (["--config=FILE", "--workdir=W", "--config.batch_size=six"], "--config.batch_size=six: not a whole number"),
        (["--config=FILE", "--workdir=W", "--config.dataset.flip=maybe"], "flip=maybe: not true or false"),
        (["--config=FILE", "--workdir=W", "--config.bach_size=3"], "no key 'bach_size'; did you mean 'batch_size'?"),
        (["--config=FILE", "--workdir=W", "--config.zzz.y=3"], "no key 'zzz'"),
        (["--config=FILE", "--workdir=W", "--config.total_steps=1e3"], "1e3"),
        (["--config=FILE", "--workdir=W", "--sweep_index=x"], "sweep_index"),
        (["--config=FILE", "--workdir=W", "--sweep", "--sweep_all"], "choose one of them"),
        (["--config=FILE:tabel", "--workdir=W"], "unknown word 'tabel'; did you mean 'table'?"),
        (["--config=FILE:steps=many", "--workdir=W"], "steps must be a whole number"),
        (["--config=FILE", "--workdir=W", "--config.optimizer.name=adamm"], "did you mean 'adam'?"),
        (["--config=FILE", "--workdir=W", "--config.dataset.name=nonsense"], "nonsense"),
    ],
)
def test_wrong_commands_give_one_line_and_code_2(arguments, message, config_file, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = train.main([argument.replace("FILE", config_file, 1) for argument in arguments])
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert code == 2 and len(lines) == 1 and lines[0].startswith("dfm.train: ")
    assert message in lines[0] and captured.out == ""
    assert not (tmp_path / "W").exists()


def test_help_shows_examples_and_flags(capsys):
    assert train.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert "python -m dfm.train --config=configs/dfm_digits.py --workdir=runs/digits" in text
    for flag in ("--sweep_index", "--distributed", "--tensorboard", "--data_dir"):
        assert flag in text


# the configs of the repository, with the models that they name

PREPARED = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3), "imagenet2012": (72, 80, 3)}
TWO_LEVELS = (
    "--config.model.block_out_channels=(8, 16)",
    "--config.model.decoder_block_out_channels=(8, 16)",
    f"--config.model.down_block_types={('DownEncoderBlock2D',) * 2}",
    f"--config.model.up_block_types={('UpDecoderBlock2D',) * 2}",
    "--config.objective.discriminator_layers=1",
)
# what compiles in seconds, by the config's name: of many equal layers few, and narrow ones
SMALLER = {
    "autoencoder_kl_imagenet": TWO_LEVELS,
    "dfm_cifar10": (
        "--config.model.net_depth=2",
        "--config.model.net_width=4",
        "--config.model.decoder_widths=(16,)",
        "--config.model.latent_size=8",
    ),
    "adversarial": ("--config.model.features=8", "--config.objective.discriminator_features=4"),
}
OF_RUNS = ("latent_flow",)  # whose data is another run: tests/training/test_run_latents.py
CONFIGS = [path for path in sorted((HERE.parent / "configs").glob("*.py")) if path.stem not in OF_RUNS]


@pytest.fixture(scope="session")
def noise_as_data(tmp_path_factory):
    """A data directory in which the data sets are noise."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("data")
    for name, shape in PREPARED.items():
        (folder / name).mkdir()
        for split in ("train", "test"):
            np.save(folder / name / f"{split}-images.npy", rng.integers(0, 256, (128, *shape), dtype=np.uint8))
            np.save(folder / name / f"{split}-labels.npy", np.arange(128) % 10)
    return folder


@pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_every_config_takes_two_steps_at_its_quick_setting(path, noise_as_data, tmp_path, monkeypatch):
    monkeypatch.undo()  # the real models
    argument, not_adversarial = "quick", path.stem != "adversarial"
    if "autoencoder_kl" in path.stem:
        argument = "cifar10:quick"
        start_from_numpy(monkeypatch)
    code = train.main(
        [
            f"--config={path}:{argument}",
            f"--workdir={tmp_path}",
            f"--data_dir={noise_as_data}",
            "--config.total_steps=2",
            "--config.batch_size=8",
            "--config.sample_every_steps=2",
            *SMALLER.get(path.stem, ()),
        ]
    )
    assert code == 0
    run = load_run(tmp_path)
    assert run.step == 2 and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(run.params))
    line = read_lines(tmp_path / "metrics.jsonl")[-1]
    assert line["step"] == 2 and ("psnr" in line) is not_adversarial
    assert len(list((tmp_path / "pictures").iterdir())) == 1 + not_adversarial  # a GAN's are samples alone
