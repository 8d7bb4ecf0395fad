import math
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from dfm.config import apply, defaults, differences, flatten, parse_arg, read_sweep, resolve, sweep_name
from dfm.errors import UserError

WORDS = ("tuned", "thesis", "quick")
KEYS = {"class": -1, "scale": 0.5, "flip": False, "name": "a"}


@pytest.mark.parametrize(
    "arg,word,changes",
    [
        ("", "tuned", {}),
        (None, "tuned", {}),
        ("quick", "quick", {}),
        ("class=2", "tuned", {"class": 2}),
        ("thesis,class=7,scale=1", "thesis", {"class": 7, "scale": 1.0}),
        ("flip=true,name=b", "tuned", {"flip": True, "name": "b"}),
    ],
)
def test_arguments(arg, word, changes):
    got = parse_arg(arg, WORDS, **KEYS)
    assert got == (word, {**KEYS, **changes})
    assert isinstance(got[1]["scale"], float)


@pytest.mark.parametrize(
    "arg,message",
    [
        ("thesi", "unknown word 'thesi'; did you mean 'thesis'? (known: tuned, thesis, quick)"),
        ("clas=2", "unknown key 'clas'; did you mean 'class'?"),
        ("quick,thesis", "'thesis' must come first, once"),
        ("class=2,quick", "'quick' must come first, once"),
        ("class=two", "class must be a whole number, not 'two'"),
        ("flip=maybe", "flip must be true or false"),
        ("quick,", "unknown word ''"),
    ],
)
def test_wrong_arguments_are_named(arg, message):
    with pytest.raises(UserError) as error:
        parse_arg(arg, WORDS, **KEYS)
    assert message in str(error.value)


def test_resolve_fills_in_defaults_and_returns_what_json_would():
    config = resolve(
        ConfigDict(
            {
                "batch_size": 3,
                "dataset": {"name": "mnist", "crop": (4, 5)},
                "model": {"name": "dfm", "decoder_widths": (3, 4)},
                "optimizer": {"learning_rate": 0.5},
            }
        )
    )
    assert config.batch_size == 3 and config.total_steps == defaults().total_steps
    assert config.dataset.crop == [4, 5] and config.dataset.split == "train"
    assert config.model.to_dict() == {"name": "dfm", "decoder_widths": [3, 4]}
    assert config.optimizer.learning_rate == 0.5 and config.optimizer.name == "adam"
    assert differences(config, resolve(config)) == []


@pytest.mark.parametrize(
    "key,value,message",
    [
        ("bach_size", 3, "unknown key 'bach_size'; did you mean 'batch_size'?"),
        ("dataset.nam", "x", "unknown key 'dataset.nam'; did you mean 'name'?"),
        ("optimizer.rate", 1.0, "unknown key 'optimizer.rate'"),
        ("batch_size", 0, "batch_size must be a whole number of at least 1, not 0"),
        ("keep_best", -1, "keep_best must be a whole number of at least 0"),
        ("ema_decay", 1.0, "ema_decay must be in [0, 1)"),
        ("compute_dtype", "float16", "unknown compute_dtype 'float16'"),
        ("model.name", "", "model.name is missing"),
        ("optimizer.learning_rate", math.inf, "optimizer.learning_rate must be finite"),
    ],
)
def test_mistakes_are_named(key, value, message):
    config = defaults().unlock()
    section, _, name = key.rpartition(".")
    (config[section] if section else config)[name] = value
    with pytest.raises(UserError) as error:
        resolve(config)
    assert message in str(error.value)


def test_differences_name_keys_with_both_values_but_for_cadence():
    old = resolve(defaults())
    new = resolve(defaults())
    new.total_steps, new.keep_last, new.sample_every_steps = 5, 7, 9
    new.model = {"name": "dfm", "net_width": 3}
    new.optimizer.groups = {"latents": {"learning_rate": 1.0}}
    assert differences(old, new) == [
        "model.net_width: absent -> 3",
        "optimizer.groups.latents.learning_rate: absent -> 1.0",
        "total_steps: 10000 -> 5",
    ]


def test_tuples_and_lists_do_not_differ():
    assert differences({"a": (1, 2), "b": {"c": (3,)}}, {"a": [1, 2], "b": {"c": [3]}}) == []


SWEEP = """
def sweep(add):
    for rate in (1e-3, 1e-2):
        add(**{"optimizer.learning_rate": rate, "model.name": "x/y"})
"""


def test_a_sweep_is_read_named_and_applied(tmp_path):
    path = tmp_path / "c.py"
    path.write_text(SWEEP)
    runs = read_sweep(f"{path}:word,key=1")
    assert runs == [{"optimizer.learning_rate": rate, "model.name": "x/y"} for rate in (1e-3, 1e-2)]
    assert [sweep_name(i, run) for i, run in enumerate(runs)] == [
        "0-learning_rate=0.001,name=x_y",
        "1-learning_rate=0.01,name=x_y",
    ]
    config = defaults().lock()
    changed = apply(config, runs[1])
    assert changed.optimizer.learning_rate == 0.01 and changed.model.name == "x/y"
    assert flatten(config) == flatten(defaults())  # a run's settings do not leak into the next one


def test_mistakes_in_a_sweep_are_named(tmp_path):
    path = tmp_path / "c.py"
    path.write_text("x = 1\n")
    with pytest.raises(UserError, match="defines no sweep"):
        read_sweep(str(path))
    path.write_text("def sweep(add):\n    pass\n")
    with pytest.raises(UserError, match="its sweep is empty"):
        read_sweep(str(path))
    with pytest.raises(UserError, match="did you mean 'optimizer.learning_rate'"):
        apply(defaults(), {"optimizer.learning_rat": 1.0})
    with pytest.raises(UserError, match="sweep: batch_size: "):
        apply(defaults(), {"batch_size": "many"})


def test_every_config_of_the_repository_resolves_with_every_run_of_its_sweep():
    for path in sorted((Path(__file__).parents[1] / "configs").glob("*.py")):
        namespace: dict = {}
        exec(compile(path.read_text(), path, "exec"), namespace)  # noqa: S102
        assert "python -m dfm.train" in namespace["__doc__"], path
        for word in ("", "quick"):
            config = resolve(namespace["get_config"](word))
            if "sweep" in namespace:
                for settings in read_sweep(str(path)):
                    resolve(apply(config, settings))
