"""What scripts share: rows found again, options filled in, numbers of a net, facts of a training."""

import argparse
import json
import math

import numpy as np
import pytest

from dfm import codec
from dfm.errors import UserError
from dfm.experiments import (
    FitProgress,
    completed,
    final_loss,
    find_row,
    float32_file,
    integers,
    measured_rows,
    parse,
    percent_of_raw,
    pictures_of,
    square,
    training_facts,
)
from dfm.models.fourier import layer_sizes


def test_the_newest_row_of_a_config_counts():
    rows = [{"config": {"a": [1], "b": None}, "n": 1}, {"config": {"a": [1], "b": None}, "n": 2}, {"config": {}}]
    assert find_row(rows, {"a": (1,), "b": math.nan})["n"] == 2  # as JSON has it
    assert find_row(rows, {"a": (2,), "b": None}) is None


def test_rows_are_found_though_the_config_has_got_a_key_since():
    before = {"model.name": "autoencoder", "objective.name": "gan", "seed": 0}
    rows = [{"config": {"row": "a", "training": before}}]
    now = {**before, "model.output": "identity", "objective.loss": "hinge"}  # what the classes have by default
    assert find_row(rows, {"row": "a", "training": now}) is rows[0]
    assert find_row(rows, {"row": "a", "training": {**now, "model.output": "tanh"}}) is None
    assert find_row(rows, {"row": "a", "training": {**now, "seed": 1}}) is None
    assert find_row(rows, {"row": "b", "training": now}) is None


def test_lists_of_integers():
    assert integers("4,6") == [4, 6]
    for wrong in ("4;6", "4,0", ""):
        with pytest.raises(argparse.ArgumentTypeError):
            integers(wrong)


def test_options_are_filled_in_and_checked():
    assert completed({"steps": None, "side": 16, "of": "x"}, {"steps": 5, "side": 8}) == {
        "steps": 5,
        "side": 16,
        "of": "x",
    }
    with pytest.raises(UserError, match="side must be positive"):
        completed({"side": 0}, {"side": 400})


@pytest.mark.parametrize(("words", "steps"), [([], 100), (["--quick"], 5), (["--quick", "--steps=7"], 7)])
def test_scripts_have_two_settings(monkeypatch, words, steps):
    monkeypatch.setattr("sys.argv", ["script", *words])
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--steps", type=int)
    assert parse(parser, {"steps": 100}, {"steps": 5}).steps == steps


def net(widths, channels, value):
    """Every coefficient zero but that of cos at k = 0 in the last layer: a picture of one colour."""
    layers = [
        {name: np.zeros((2**m, n), np.float32) for name in ("cos", "sin")} for m, n in layer_sizes(widths, channels)
    ]
    layers[-1]["cos"][0] = value
    return layers


def test_loss_size_and_file_of_a_known_net():
    picture = np.full((4, 6, 3), 255, np.uint8)  # targets of 1
    flat = net((2, 2), 3, 0.5)
    assert final_loss(flat, picture, 1.0) == pytest.approx(3 * (1 - math.tanh(0.5)) ** 2, rel=1e-5)
    data, painted = float32_file(flat, picture, (2, 2), 1.0)
    assert (painted == round((math.tanh(0.5) + 1) * 127.5)).all()
    np.testing.assert_array_equal(codec.decode(data), painted)
    assert percent_of_raw((8,) * 6, np.zeros((400, 400, 3), np.uint8)) == pytest.approx(18.4)  # Asadi 2022, 5.1


def test_squares_are_central():
    picture = np.zeros((4, 8, 1), np.uint8)
    picture[:, 2:6] = 200
    assert square(picture, 4).shape == (4, 4, 1) and (square(picture, 4) == 200).all()


def test_rows_are_spread():
    assert measured_rows(range(10), 4).tolist() == [0, 2, 5, 7]
    assert measured_rows(range(3), 4).tolist() == [0, 1, 2]


def test_pictures_of_a_folder_by_name(tmp_path):
    for name in ("b.png", "a.JPG", "c.txt"):
        (tmp_path / name).touch()
    assert list(pictures_of(tmp_path)) == ["a", "b"]
    with pytest.raises(UserError, match="no such folder"):
        pictures_of(tmp_path / "missing")


def test_seconds_of_a_training_leave_interruptions_out(tmp_path):
    start = {"command": "dfm.train", "commit": "abc", "hardware": {}, "step": 0}
    (tmp_path / "run.json").write_text(json.dumps({"starts": [start, {**start, "step": 20}]}))
    lines = [{"step": 10, "steps_per_second": 2.0}, {"step": 30, "steps_per_second": 1.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    facts = training_facts(tmp_path)
    assert facts["training_seconds"] == 25 and facts["training_starts"] == 2 and facts["training_commit"] == "abc"


def test_progress_of_fits_is_a_share_of_their_cost():
    with FitProgress(4.0) as bar:
        bar.of_fit("first", 1.0)(5, 10, 20.0)
        assert bar.done == pytest.approx(12.5)
    with FitProgress(0.0) as bar:  # all rows are there already
        assert bar.done == 0
