"""All figures that are asked for are checked before the first is written, and before anything is fitted."""

import pytest
from sample_command import refused, serve
from tiny_runs import ClassMachine, Generator, LinearMachine, tiny_run

from dfm.errors import UserError
from dfm.sampling import figures
from dfm.sampling.checks import PICTURES

pytestmark = pytest.mark.usefixtures("own_cache", "two_rows")


class OneSize(LinearMachine):
    """Refuses larger pictures, as convolutional models do."""

    def decode(self, z, labels=None, height=None, width=None):
        if (height or 0) > self.height:
            raise UserError("this model paints 8x8 pixels and no more")
        return super().decode(z, labels, height, width)


RUNS = {
    "table": {"table": True, "model": LinearMachine()},
    "encoder": {"table": False, "model": OneSize()},
    "generator": {"table": False, "model": Generator()},
    "classes": {"table": False, "model": ClassMachine()},
    "classes without encoder": {"table": False, "model": ClassMachine(encodes=False)},
}


@pytest.mark.parametrize(
    ("kind", "words", "said"),
    [
        ("table", ["--what=samples,attribute", "--attribute=label:77"], "none of the pictures has the attribute"),
        ("table", ["--what=samples,interpolation", "--from=1"], "needs both its ends"),
        ("table", ["--what=samples,interpolation", "--from=1", "--to=297"], "no picture 297 in digits, test"),
        ("table", ["--what=samples,reconstructions", "--pictures=1500"], "no picture 1500 in digits, train"),
        ("encoder", ["--what=samples,reconstructions", "--pictures=297"], "no picture 297 in digits, test"),
        ("table", ["--what=samples,invert", "--pictures=0,297"], "no picture 297 in digits, test: 0 to 296"),
        ("table", ["--what=samples,traversal", "--from=297"], "no picture 297"),
        ("table", ["--what=samples,morph", "--frames=5000"], "30000 pictures of 64 x 64"),
        ("table", ["--what=samples,traversal", "--columns=9000"], "27000 pictures of 64 x 64"),
        ("table", ["--what=samples,invert", "--count=200", "--scale=80"], "400 pictures of 640 x 640"),
        ("encoder", ["--what=samples", "--size=9"], "paints 8x8 pixels and no more"),
        ("generator", ["--what=samples,traversal", "--prior=normal"], "no latents (no encoder, no table)"),
        ("generator", ["--what=samples,reconstructions", "--prior=normal"], "no latents"),
        ("generator", ["--what=samples,attribute", "--prior=normal", "--attribute=label:1"], "no latents"),
        ("classes", ["--what=samples,traversal"], "conditioned on a class: name one of 0 to 9"),
        ("classes", ["--what=samples,invert"], "not found by inversion"),
        ("classes", ["--what=samples", "--class=10"], "classes 0 to 9, not 10"),
        (
            "classes without encoder",
            ["--what=samples,morph", "--prior=normal", "--pictures=1", "--class=1"],
            "inversion",
        ),
    ],
)
def test_nothing_is_fitted_or_written_before_all_is_checked(tmp_path, monkeypatch, capsys, kind, words, said):
    run = serve(monkeypatch, tiny_run(tmp_path / "run", **RUNS[kind]))
    line = refused(capsys, f"--workdir={run.workdir}", f"--output={tmp_path / 'out'}", "--quiet", *words)
    assert said in line
    assert not (tmp_path / "out").exists() and not (run.workdir / "priors").exists()


def test_a_generator_is_drawn_from_the_standard_normal_where_no_prior_is_named(tmp_path, monkeypatch, show):
    serve(monkeypatch, tiny_run(tmp_path / "run", **RUNS["generator"]))
    lines = show("--what=samples,morph", "--count=2", "--frames=2", "--paths=linear")
    assert {line["prior"] for line in lines.values()} == {"normal"}


def test_every_figure_is_checked():
    assert set(PICTURES) == set(figures.FIGURES)
