import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "training"))

from stand_in import install, tiny_config  # noqa: E402
from tiny_autoencoder import quickly_compiled  # noqa: E402

from dfm import train  # noqa: E402
from dfm.data import Batches, load  # noqa: E402
from dfm.errors import UserError  # noqa: E402
from dfm.results import read_lines  # noqa: E402
from dfm.training import setting_up, stopping  # noqa: E402
from dfm.training.runs import load_run  # noqa: E402
from dfm.training.sharding import data_mesh  # noqa: E402

pytestmark = [
    # restored without its tree, to see everything that it holds
    pytest.mark.filterwarnings("ignore:Sharding info not provided"),
    pytest.mark.filterwarnings("ignore:the load_module"),  # of ml_collections
]
TIMES = ("steps_per_second", "pictures_per_second", "time")
KINDS = {"encoder": True, "table": False}
MOVING = {"ema_decay": 0.9, "optimizer.schedule": "cosine", "optimizer.gradient_clip_norm": 0.5}


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    install(monkeypatch)


def saved_state(workdir, step):
    """Everything a checkpoint holds, as NumPy."""
    import orbax.checkpoint as ocp

    with ocp.CheckpointManager(
        (Path(workdir) / "checkpoints").absolute(),
        item_handlers={"state": ocp.PyTreeCheckpointHandler(), "progress": ocp.JsonCheckpointHandler()},
    ) as manager:
        assert step in manager.all_steps()
        state = manager.restore(step, args=ocp.args.Composite(state=ocp.args.PyTreeRestore()))["state"]
    state["key"] = jax.random.key_data(state["key"])
    return [(jax.tree_util.keystr(path), np.asarray(leaf)) for path, leaf in jax.tree.leaves_with_path(state)]


def assert_same_state(one, other):
    assert [name for name, _ in one] == [name for name, _ in other]
    for (name, a), (_, b) in zip(one, other, strict=True):
        assert a.dtype == b.dtype and a.tobytes() == b.tobytes(), name


def metrics_without_times(workdir):
    lines = read_lines(Path(workdir) / "metrics.jsonl")
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def steps_on_disk(workdir):
    return sorted(int(path.name) for path in (Path(workdir) / "checkpoints").iterdir() if path.name.isdigit())


@pytest.fixture(scope="module", params=KINDS)
def uninterrupted(request, tmp_path_factory):
    """(kind, config, workdir) of a training of twelve steps."""
    workdir = tmp_path_factory.mktemp(request.param)
    config = tiny_config(KINDS[request.param], **MOVING)
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        assert train.train(config, str(workdir)) == 0
    return request.param, config, workdir


def stop_after(monkeypatch, step, number=signal.SIGTERM):
    """Sends this process the signal while the step runs."""
    asked = stopping.StopRequest.requested

    def ask(self, now):
        if now == step:
            os.kill(os.getpid(), number)
        return asked(self, now)

    monkeypatch.setattr(stopping.StopRequest, "requested", ask)


def test_a_stopped_and_resumed_run_equals_the_uninterrupted_one_bit_for_bit(uninterrupted, tmp_path, monkeypatch):
    kind, config, whole = uninterrupted
    with monkeypatch.context() as patch:
        stop_after(patch, 5)  # within an interval of the log, between two checkpoints
        assert train.train(config, str(tmp_path)) == 0
    assert steps_on_disk(tmp_path) == [4, 5]
    assert train.train(config, str(tmp_path)) == 0
    state = saved_state(tmp_path, 12)
    assert_same_state(state, saved_state(whole, 12))
    names = " ".join(name for name, _ in state)
    for part in ("step", "key", "['params']", "ema_params", "opt_state", *(["latents"] if kind == "table" else [])):
        assert part in names
    assert metrics_without_times(tmp_path) == metrics_without_times(whole)
    starts = json.loads((tmp_path / "run.json").read_text())["starts"]
    assert [start["step"] for start in starts] == [0, 5]


def test_what_a_run_leaves(uninterrupted):
    kind, config, workdir = uninterrupted
    assert steps_on_disk(workdir) == [4, 8, 12]
    lines = read_lines(workdir / "metrics.jsonl")
    assert [line["step"] for line in lines] == [3, 6, 9, 12]
    assert lines[-1]["loss"] < lines[0]["loss"]
    for line in lines:
        assert line["psnr"] == pytest.approx(10 * np.log10(4 / line["mse"]))
        groups = {"decoder", "encoder" if kind == "encoder" else "latents"}
        assert {key.partition("/")[2] for key in line if key.startswith("learning_rate/")} == groups
        assert line["pictures_per_second"] == pytest.approx(20 * line["steps_per_second"])
    run = json.loads((workdir / "run.json").read_text())
    assert run["examples"] == 1500 and run["parameters"]["decoder"] == 4 * 64 + 64
    assert run["starts"][0]["versions"]["jax"] == jax.__version__
    assert json.loads((workdir / "config.json").read_text())["optimizer"]["schedule"] == "cosine"
    run = load_run(workdir)
    assert run.step == 12 and set(run.params) == ({"decoder", "encoder"} if kind == "encoder" else {"decoder"})
    assert (run.latents is None) == (kind == "encoder")
    averaged = dict(saved_state(workdir, 12))["['ema_params']['decoder']['bias']"]
    np.testing.assert_array_equal(run.params["decoder"]["bias"], averaged)
    assert load_run(workdir, 8).step == 8 and load_run(workdir, "best").step == 12
    with pytest.raises(UserError, match="no checkpoint of step 7 "):
        load_run(workdir, 7)


@pytest.mark.parametrize("uninterrupted", ["table"], indirect=True)
def test_the_same_command_after_the_end_has_nothing_to_do(uninterrupted):
    _, config, workdir = uninterrupted
    before = metrics_without_times(workdir)
    assert train.train(config, str(workdir)) == 0
    assert metrics_without_times(workdir) == before and steps_on_disk(workdir) == [4, 8, 12]


@pytest.mark.parametrize("uninterrupted", ["table"], indirect=True)
def test_another_config_is_refused_with_its_keys_but_for_cadence(uninterrupted):
    _, config, workdir = uninterrupted
    changed = config.copy_and_resolve_references()
    changed.optimizer.learning_rate = 0.5
    changed.batch_size = 60
    changed.keep_last, changed.log_every_steps = 9, 7
    with pytest.raises(UserError) as error:
        train.train(changed, str(workdir))
    message = str(error.value)
    assert "batch_size: 20 -> 60" in message and "optimizer.learning_rate: 0.01 -> 0.5" in message
    assert "keep_last" not in message and "log_every" not in message and "\n" not in message
    changed.optimizer.learning_rate, changed.batch_size = 0.01, 20
    assert train.train(changed, str(workdir)) == 0


@pytest.mark.parametrize("uninterrupted", ["table"], indirect=True)
def test_kill_9_during_a_save_loses_at_most_what_came_after_the_last_checkpoint(uninterrupted, tmp_path):
    _, config, whole = uninterrupted
    killed = run_process(tmp_path, {"encodes": False, "kill_in_save": 8, **MOVING})
    assert killed.wait(timeout=100) == -signal.SIGKILL
    assert steps_on_disk(tmp_path)[0] == 4
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 9, "lo')  # a line cut short
    assert train.train(config, str(tmp_path)) == 0
    assert json.loads((tmp_path / "run.json").read_text())["starts"][1]["step"] in (4, 8)
    assert_same_state(saved_state(tmp_path, 12), saved_state(whole, 12))
    assert metrics_without_times(tmp_path) == metrics_without_times(whole)


def test_two_processes_train_as_one(tmp_path):
    sgd = {"optimizer.name": "sgd", "total_steps": 3, "checkpoint_every_steps": 2, "sample_every_steps": 3}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [run_process(tmp_path / "two", {"encodes": False, **sgd}, place, port) for place in (0, 1)]
    assert train.train(tiny_config(False, **sgd), str(tmp_path / "one")) == 0
    for process in processes:
        assert process.wait(timeout=100) == 0, process.stderr.read()
    assert metrics_without_times(tmp_path / "two")[0]["loss"] == pytest.approx(
        metrics_without_times(tmp_path / "one")[0]["loss"], rel=1e-6
    )
    runs = load_run(tmp_path / "two"), load_run(tmp_path / "one")
    two, one = (jax.tree.leaves((run.params, run.latents)) for run in runs)
    for a, b in zip(two, one, strict=True):
        assert np.linalg.norm(a - b) < 1e-6 * np.linalg.norm(b)
    assert json.loads((tmp_path / "two" / "run.json").read_text())["starts"][0]["processes"] == 2
    assert len(list((tmp_path / "two" / "pictures").iterdir())) == 2


def run_process(workdir, changes, *place):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE / "training"), os.environ.get("PYTHONPATH", "")]),
    }
    if place:
        environment["XLA_FLAGS"] = ""  # one device a process
    command = [sys.executable, str(HERE / "training" / "run_stand_in.py"), str(workdir), json.dumps(changes)]
    return subprocess.Popen(
        [*command, *map(str, place)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("uninterrupted", ["table"], indirect=True)
def test_a_run_goes_on_with_another_number_of_devices(uninterrupted, tmp_path, monkeypatch):
    _, config, whole = uninterrupted
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        train.train(config, str(tmp_path))
    monkeypatch.setattr(setting_up, "data_mesh", lambda: data_mesh(jax.devices()[:2]))
    assert train.train(config, str(tmp_path)) == 0
    here, there = (metrics_without_times(folder)[-1] for folder in (tmp_path, whole))
    assert here["loss"] == pytest.approx(there["loss"], rel=1e-4)


def test_a_batch_that_the_devices_cannot_share_is_refused(tmp_path):
    with pytest.raises(UserError, match="batch_size 6 is not divisible by 4 devices"):
        train.train(tiny_config(batch_size=6), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_nan_stops_the_run_and_is_never_saved(tmp_path, capsys):
    stream = Batches(load("digits", "train"), 20, 0)
    example = int(stream.at(6)["index"][0])  # first seen in step 7
    code = train.run_command(
        "dfm.train", lambda _: train.train(tiny_config(**{"objective.break_at": example}), str(tmp_path)), ()
    )
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2
    assert last.startswith("dfm.train: step 7: ") and "is nan" in last and "keeps the checkpoint of step 4" in last
    assert steps_on_disk(tmp_path) == [4]
    assert [line["step"] for line in metrics_without_times(tmp_path)] == [3, 6]
    assert all(np.isfinite(leaf).all() for _, leaf in saved_state(tmp_path, 4))


@pytest.mark.parametrize("error", [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 2 GB\nof 1 GB")])
def test_lack_of_memory_is_one_line(capsys, error):
    def run(_):
        raise error

    assert train.run_command("dfm.train", run, ()) == 2
    said = capsys.readouterr().err
    assert said.startswith("dfm.train: out of memory: ") and said.count("\n") == 1
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        train.run_command("dfm.train", lambda _: (_ for _ in ()).throw(RuntimeError("a mistake of ours")), ())


def test_sigint_saves_and_says_130(tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGINT)  # ignored where the tests run in a shell's background
    stop_after(monkeypatch, 2, signal.SIGINT)
    assert train.train(tiny_config(), str(tmp_path)) == 130
    assert steps_on_disk(tmp_path) == [2]
    assert signal.getsignal(signal.SIGINT) is before


def test_foreign_files_are_not_overwritten(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("mine")
    with pytest.raises(UserError, match="holds metrics.jsonl but no config.json: not a run"):
        train.train(tiny_config(), str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="is not the config of a run"):
        train.train(tiny_config(), str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "metrics.jsonl"]
    with pytest.raises(UserError, match="is a file, not a folder"):
        train.train(tiny_config(), str(tmp_path / "metrics.jsonl"))


def test_a_run_without_a_checkpoint_begins_anew_with_any_config(tmp_path):
    (tmp_path / "log.txt").write_text("of the user, who may put it here")
    config = tiny_config(total_steps=2)
    with train.run_folder.claim(tmp_path, train.resolve(config)):
        with pytest.raises(UserError, match="another training is writing there"):
            train.train(config, str(tmp_path))
    config.optimizer.learning_rate = 0.02
    assert train.train(config, str(tmp_path)) == 0
    assert json.loads((tmp_path / "config.json").read_text())["optimizer"]["learning_rate"] == 0.02


def test_a_model_of_another_size_than_the_pictures_is_refused(tmp_path):
    config = tiny_config()
    config.model.height = 28
    with pytest.raises(UserError, match=r"the model paints \(28, 8, 1\)"):
        train.train(config, str(tmp_path))


# the command line

CONFIG = """
import sys
sys.path.insert(0, {path!r})
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
    assert "1-learning_rate=nan: config: optimizer.learning_rate must be finite" in capsys.readouterr().err
    for name in ("0-learning_rate=0.01,batch_size=20", "2-name=sgd"):
        assert load_run(tmp_path / "sweep" / name).step == 1


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
CONFIGS = sorted((HERE.parent / "configs").glob("*.py"))


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
    argument = "quick"
    if "autoencoder" in path.stem:  # a hundred convolutions, whose compilation is all that takes time
        argument = "quick,size=32"
        quickly_compiled(monkeypatch)
    code = train.main(
        [
            f"--config={path}:{argument}",
            f"--workdir={tmp_path}",
            f"--data_dir={noise_as_data}",
            "--config.total_steps=2",
            "--config.batch_size=8",
            "--config.sample_every_steps=2",
        ]
    )
    assert code == 0
    run = load_run(tmp_path)
    assert run.step == 2 and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(run.params))
    assert len(list((tmp_path / "pictures").iterdir())) == 2
    line = read_lines(tmp_path / "metrics.jsonl")[-1]
    assert line["step"] == 2 and "psnr" in line
