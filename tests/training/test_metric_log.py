import json
import weakref

import jax.numpy as jnp
import pytest

from dfm.results import read_lines
from dfm.training import metric_log
from dfm.training.metric_log import MetricLog, NotFinite

RATES = {"learning_rate/decoder": 0.1}


def started(workdir, **options):
    log = MetricLog(workdir, pictures_per_step=10, **options)
    log.resume(0, {})
    return log


def feed(log, first, values):
    for step, value in enumerate(values, start=first):
        log.add(step, {"loss": jnp.float32(2 * value), "mse": jnp.float32(value)})


def test_a_line_is_the_mean_of_its_interval(tmp_path):
    log = started(tmp_path)
    feed(log, 1, [1.0, 2.0, 3.0])
    log.write_line(3, RATES)
    feed(log, 4, [0.04])
    line = log.write_line(4, RATES)
    first, second = read_lines(tmp_path / "metrics.jsonl")
    assert (first["step"], first["loss"], first["mse"]) == (3, 4.0, 2.0)
    assert second["psnr"] == pytest.approx(20.0) and second["learning_rate/decoder"] == 0.1
    assert line["pictures_per_second"] == 10 * line["steps_per_second"]


def test_without_mse_there_is_no_psnr(tmp_path):
    log = started(tmp_path)
    log.add(1, {"loss": jnp.float32(1)})
    assert "psnr" not in log.write_line(1, {})
    assert log.score() == 1.0


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_what_is_not_finite_is_named_with_its_first_step(tmp_path, value):
    log = started(tmp_path)
    feed(log, 5, [1.0, 1.0])
    log.add(7, {"loss": jnp.float32(1), "parameter_norm": jnp.float32(value)})
    feed(log, 8, [float("nan")])
    with pytest.raises(NotFinite, match=f"step 7: parameter_norm is {value}"):
        log.write_line(8, {})
    assert not (tmp_path / "metrics.jsonl").exists()


def test_open_windows_survive_an_interruption(tmp_path):
    log = started(tmp_path)
    feed(log, 1, [0.1, 0.2, 0.3])
    log.write_line(3, {})
    feed(log, 4, [0.7])
    log.flush()
    progress = json.loads(json.dumps(log.progress()))
    feed(log, 5, [9.0, 9.0])
    log.write_line(6, {})  # written, and then the process is killed
    again = MetricLog(tmp_path, 10)
    again.resume(4, progress)
    feed(again, 5, [0.1, 0.1])
    again.write_line(6, {})
    assert [(line["step"], line["mse"]) for line in read_lines(tmp_path / "metrics.jsonl")] == [
        (3, pytest.approx(0.2)),
        (6, pytest.approx(0.3)),
    ]
    assert again.score() == pytest.approx(1.5 / 6)
    again.reset_score()
    feed(again, 7, [0.5])
    again.flush()
    assert again.score() == pytest.approx(0.5)


def test_metrics_of_few_steps_alone_wait_on_the_device(tmp_path):
    log = started(tmp_path)
    on_device = []
    for step in range(300):
        value = jnp.float32(step)
        on_device.append(weakref.ref(value))
        log.add(step + 1, {"loss": value, "mse": value})
    assert 0 < sum(value() is not None for value in on_device) <= metric_log.HELD
    assert log.write_line(300, {})["mse"] == pytest.approx(149.5)


def test_windows_of_runs_that_kept_every_value_are_taken_up(tmp_path):
    log = MetricLog(tmp_path, 10)
    log.resume(2, {"window": {"loss": [1.0, 3.0], "mse": [1.0, 3.0]}, "score": {"steps": 2, "sum": 4.0}})
    feed(log, 3, [5.0])
    assert log.write_line(3, {})["mse"] == pytest.approx(3.0) and log.score() == pytest.approx(3.0)


def test_tensorboard_gets_the_same_numbers(tmp_path):
    log = started(tmp_path, tensorboard=True)
    feed(log, 1, [1.0])
    log.write_line(1, RATES)
    log.close()
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_process_that_is_not_the_first_writes_nothing(tmp_path):
    log = started(tmp_path, write=False, tensorboard=True)
    feed(log, 1, [1.0])
    assert log.write_line(1, RATES)["mse"] == 1.0
    assert list(tmp_path.iterdir()) == []
