"""`dfm.sample --what=attribute`: a row for each sample or picture, the vector beside it, and what cannot be asked."""

import json

import numpy as np
import pytest
from sample_command import refused

pytestmark = pytest.mark.usefixtures("own_cache", "two_rows")


def test_rows_begin_at_the_samples_and_end_with_the_attribute(run, show, tmp_path):
    line = show("--what=attribute", "--attribute=label:7", "--count=3", "--columns=4", "--alpha=2")["attribute"]
    assert (line["label"], line["count"], line["columns"]) == (7, 12, 4)
    np.testing.assert_allclose(line["alphas"], np.linspace(0, 2, 4))
    assert line["with_it"] > 0 and line["without_it"] > line["with_it"]
    stored = np.load(next(tmp_path.rglob("attribute.npz")))
    assert stored["latents"].shape == (1, 3) and list(stored["index"]) == [7]
    beside = json.loads(next(tmp_path.rglob("attribute.json")).read_text())
    assert beside["prior"] == "gaussian" and beside["settled"] in (True, False)


def test_pictures_are_moved_too(table, show):
    words = ["--pictures=4", "--columns=2", "--steps=1", "--starts=1"]
    line = show("--what=attribute", "--attribute=label:3", *words)["attribute"]
    assert line["pictures"] == [4] and line["count"] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--what=attribute"], "needs --attribute=label:N"),
        (["--what=attribute", "--attribute=smile"], "no attribute such as label:7"),
        (["--what=attribute", "--attribute=label:77"], "none of the pictures has the attribute"),
        (["--what=samples", "--attribute=label:7"], "--attribute is for"),
    ],
)
def test_attributes_that_cannot_be_are_one_line(table, capsys, tmp_path, words, said):
    assert said in refused(capsys, f"--workdir={tmp_path / 'run'}", f"--output={tmp_path / 'out'}", "--quiet", *words)
