import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from evaluate_command import evaluated, refused

from dfm import evaluate
from dfm.data import load
from dfm.metrics.inception_weights import VARIABLE as INCEPTION
from dfm.metrics.lpips import VARIABLE as LPIPS
from dfm.picture_files import save_picture

ROOT = Path(__file__).parents[1]
FIELDS = {
    "schema",
    "name",
    "metric",
    "value",
    "spread",
    "spread_over",
    "prior",
    "temperature",
    "seeds",
    "samples",
    "reference",
    "extractor",
    "extractor_sha256",
    "resize",
    "scale",
    "quantisation",
    "pictures_per_second",
    "warnings",
    "precision",
    "protocol",
    "command",
    "seconds",
    "details",
    "commit",
    "dirty",
    "hardware",
    "versions",
    "date",
}


@pytest.fixture(autouse=True)
def no_weights(monkeypatch, tmp_path):
    monkeypatch.delenv(INCEPTION, raising=False)
    monkeypatch.delenv(LPIPS, raising=False)
    monkeypatch.setenv("DFM_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def pictures(tmp_path):
    """120 training digits in an .npz."""
    np.savez(tmp_path / "pictures.npz", images=load("digits", "train").take(np.arange(120)))
    return str(tmp_path / "pictures.npz")


def test_every_metric_of_two_sets_with_all_that_a_result_must_say(capsys, pictures, tmp_path):
    metrics = ["fd", "fd_infinity", "kd", "classifier_score", "precision_recall", "density_coverage", "mmd", "mind"]
    metrics += ["recognised"]
    names = ",".join(f"{name}-digits" for name in metrics)
    arguments = [f"--samples={pictures}", "--reference=digits:test", f"--metrics={names}"]
    lines = evaluated(capsys, *arguments, f"--output={tmp_path / 'out.jsonl'}")
    found = {line["metric"]: line for line in lines}
    assert list(found) == [
        "fd-digits",
        "fd_infinity-digits",
        "kd-digits",
        "classifier_score-digits",
        "precision-digits",
        "recall-digits",
        "density-digits",
        "coverage-digits",
        "mmd-digits",
        "mind-digits",
        "recognised-digits",
    ]
    for line in lines:
        assert line.keys() >= FIELDS
        assert line["samples"]["count"] == 120 and len(line["samples"]["sha256"]) == 64
        assert line["value"] is not None and line["extractor"] == "digits-classifier-v1"
    first = found["fd-digits"]
    assert first["reference"]["id"] == "digits:test" and first["reference"]["count"] == 297
    assert 0 < first["value"] and first["details"]["most_negative_eigenvalue"] > -1e-6
    assert any("120 samples are fewer than 2048" in warning for warning in first["warnings"])
    assert found["classifier_score-digits"]["reference"] is None
    assert found["kd-digits"]["spread_over"] == "subsets"
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == lines


def test_equal_sets(capsys, pictures):
    metrics = "--metrics=fd-digits,precision_recall-digits,mind-digits"
    for line in evaluated(capsys, f"--samples={pictures}", f"--reference={pictures}", metrics):
        expected = 1 if line["metric"] in ("precision-digits", "recall-digits") else 0
        assert line["value"] == pytest.approx(expected, abs=1e-4)


def test_results_file_grows_and_table_is_for_people(capsys, pictures, tmp_path):
    output = tmp_path / "new" / "out.jsonl"
    output.parent.mkdir()
    arguments = [f"--samples={pictures}", "--reference=digits:test", "--metrics=fd-digits", f"--output={output}"]
    evaluated(capsys, *arguments)
    assert evaluate.main([*arguments, "--pretty", "--quiet"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["metric", "value", "spread", "over", "samples", "reference"]
    assert table[2].split()[0] == "fd-digits" and table[2].endswith("digits:test (297)")
    assert len(output.read_text().splitlines()) == 2


def test_results_are_appended_to_results_alone(capsys, pictures, tmp_path):
    run, both = tmp_path / "run", [f"--samples={pictures}", "--reference=digits:test", "--metrics=fd-digits"]
    run.mkdir()
    contents = {
        "picture.png": b"\x89PNG\r\n\x1a\n\xff",
        "list.jsonl": b"[1]\n",
        "run/config.json": b'{\n  "objective": 1\n}\n',
        "run/metrics.jsonl": b'{"step": 1}\n',
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    for name in ("picture.png", "list.jsonl", "run/config.json"):
        assert "holds no JSON lines" in refused(capsys, *both, f"--output={tmp_path / name}")
    for name, message in (
        ("config.json", "must be named *.jsonl"),
        ("checkpoints.new", "must be named *.jsonl"),
        ("metrics.jsonl", "would be lost"),
    ):
        assert message in refused(capsys, f"--workdir={run}", "--metrics=is", f"--output={run / name}")
    assert all((tmp_path / name).read_bytes() == content for name, content in contents.items())
    assert sorted(path.name for path in run.iterdir()) == ["config.json", "metrics.jsonl"]
    (run / "results.jsonl").write_text('{"metric": "fid"}\n')  # of an earlier evaluation, which may grow
    said = refused(capsys, f"--workdir={run}", "--metrics=is", f"--output={run / 'results.jsonl'}")
    assert "results.jsonl" not in said and "config.json: is not the config of a run" in said


def test_stored_statistics_serve_as_reference(capsys, pictures, tmp_path):
    direct = evaluated(capsys, f"--samples={pictures}", "--reference=digits:test", "--metrics=fd-digits,kd-digits")
    moments, features = tmp_path / "moments.npz", tmp_path / "features.npz"
    make = ["--make_stats=digits:test", "--metrics=fd-digits", "--quiet"]
    assert evaluate.main([*make, f"--output={moments}"]) == 0
    assert evaluate.main([*make, f"--output={features}", "--keep_features"]) == 0
    stored = evaluated(capsys, f"--samples={pictures}", f"--reference={features}", "--metrics=fd-digits,kd-digits")
    assert [line["value"] for line in stored] == pytest.approx([line["value"] for line in direct], rel=1e-6)
    assert stored[0]["reference"] == direct[0]["reference"]
    said = refused(capsys, f"--samples={pictures}", f"--reference={moments}", "--metrics=fd-digits,kd-digits")
    assert "kd-digits: needs features of the references" in said and "These remain: fd-digits" in said


def test_a_metric_that_cannot_be_had_is_refused_before_any_work(capsys, pictures, tmp_path):
    output = tmp_path / "out.jsonl"
    both = [f"--samples={pictures}", "--reference=digits:test", f"--output={output}"]
    said = refused(capsys, *both, "--metrics=fid,kid,fd-digits,psnr")
    assert "fid, kid: the Inception weights are missing" in said and "psnr: needs a run or an autoencoder" in said
    assert "These remain: fd-digits" in said and not output.exists()
    said = refused(capsys, f"--samples={pictures}", "--metrics=fd-digits,classifier_score-digits")
    assert "fd-digits: needs a reference. These remain: classifier_score-digits" in said
    said = refused(capsys, *both, "--metrics=fd-mnist")
    assert "is for pictures of 28x28 pixels, not 8x8" in said and "These remain: none" in said


def test_the_command_line_explains_itself(capsys, pictures, tmp_path):
    one = tmp_path / "one.npz"
    np.savez(one, images=np.zeros((1, 8, 8, 1), np.uint8))
    both = [f"--samples={pictures}", "--reference=digits:test"]
    cases = [
        ([], "one of the arguments"),
        ([*both, "--metrics=fjd"], "unknown metric 'fjd'; did you mean 'fid'?"),
        ([*both, "--metrics=,"], "no metric is named"),
        ([*both, "--protocol=rae-2021"], "did you mean 'rae-2020'?"),
        ([*both, "--num_samples=0"], "at least 1"),
        ([*both, "--num_samples=121", "--metrics=fd-digits"], "has 120 pictures, not 121"),
        ([*both, "--repeats=2"], "--repeats is for runs (--workdir)"),
        ([*both, "--seed=-1"], "--seed must be"),
        ([*both, f"--output={tmp_path / 'no' / 'out.jsonl'}"], "does not exist"),
        ([f"--samples={one}", "--reference=digits:test", "--metrics=fd-digits"], "1 picture, and at least 2"),
        ([f"--samples={pictures}", "--reference=digits:tests"], "unknown split"),
        (["--make_stats=digits:test"], "needs --output=FILE.npz"),
        ([f"--workdir={tmp_path}", "--reference=digits:test"], "holds no run"),
        ([f"--workdir={tmp_path}", "--prior=flows"], "unknown prior 'flows'; did you mean 'flow'?"),
        ([*both, "--prior=gmm"], "--prior is for runs (--workdir)"),
        ([*both, "--temperature=0.8"], "--temperature is for runs (--workdir)"),
        ([*both, "--which=latest"], "--which is for runs (--workdir, or --vae where it names one)"),
        ([f"--vae={tmp_path}", "--which=7"], "--which is for runs (--workdir, or --vae where it names one)"),
        ([*both, "--invert_steps=3"], "--invert_steps is for runs (--workdir)"),
        ([f"--samples={pictures}", f"--reference={pictures}", "--label=3"], "label chooses a class of a data set"),
        (["--make_stats=digits:test", f"--output={tmp_path / 'x.npz'}", "--pretty"], "--pretty is for evaluations"),
        ([f"--make_stats={pictures}", f"--output={tmp_path / 'x.npz'}", "--label=3"], "label chooses a class"),
        ([*both, "--keep_features"], "--keep_features is for --make_stats"),
        ([*both, "--process_id=1", "--distributed"], "belong together"),
    ]
    for arguments, message in cases:
        assert message in refused(capsys, *arguments), arguments


@pytest.mark.parametrize(
    ("metrics", "option", "message"),
    [
        ("decoder_rank,likelihood", "--invert_steps=7", "is for runs (--workdir), for metrics on reconstructions"),
        ("decoder_rank,elbo", "--importance_samples=4", "is for runs (--workdir), for metrics with importance weights"),
        ("psnr,cost,active_units", "--prior=gmm", "is for runs (--workdir), for metrics that draw from it"),
        ("psnr,posterior_kl", "--num_samples=10", "is for samples (--samples; --workdir, for metrics that look at"),
        ("psnr,memorisation", "--repeats=3", "is for runs (--workdir), for metrics on samples"),
        ("rfd-digits,decoder_rank", "--temperature=0.5", "is for runs (--workdir), for metrics that look at samples"),
        ("fd-digits,psnr", "--lpips_weights=/nope", "is for metrics with LPIPS"),
        ("fd-digits,lpips", "--inception_sha256=0", "is for metrics with FID's Inception"),
    ],
)
def test_an_option_that_no_metric_looks_at_is_refused(capsys, tmp_path, metrics, option, message):
    said = refused(capsys, f"--workdir={tmp_path}", f"--metrics={metrics}", option)
    assert said.startswith(f"dfm.evaluate: {option.partition('=')[0]} {message}")


@pytest.mark.parametrize(
    ("metrics", "options"),
    [
        ("fd-digits", ["--prior=gmm", "--num_samples=9", "--repeats=2", "--temperature=0.5"]),
        ("memorisation", ["--prior=gmm", "--num_samples=9", "--temperature=0.5"]),
        ("decoder_rank", ["--prior=gmm"]),
        ("reconstruction", ["--invert_steps=7", "--lpips_weights=weights.npz", "--lpips_sha256=0"]),
        ("likelihood", ["--importance_samples=4"]),
        ("fd-lpips", ["--lpips_weights=weights.npz"]),
        ("rfid", ["--inception_weights=weights.npz", "--invert_steps=7"]),
    ],
)
def test_an_option_that_one_metric_looks_at_passes(capsys, tmp_path, metrics, options):
    assert "holds no run" in refused(capsys, f"--workdir={tmp_path}", f"--metrics=cost,{metrics}", *options)


def test_two_processes_give_what_one_gives(capsys, pictures, tmp_path):
    arguments = [f"--samples={pictures}", "--reference=digits:test", "--metrics=fd-digits,kd-digits"]
    alone = evaluated(capsys, *arguments, "--no_cache")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}
    place = ["--distributed", f"--coordinator_address=127.0.0.1:{port}", "--process_count=2"]
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "dfm.evaluate",
                *arguments,
                *place,
                f"--process_id={i}",
                "--quiet",
                f"--output={tmp_path / f'{i}.jsonl'}",
            ],
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert not (tmp_path / "1.jsonl").exists()
    assert len(list((tmp_path / "data" / "evaluation").iterdir())) == 1
    together = [json.loads(line) for line in (tmp_path / "0.jsonl").read_text().splitlines()]
    for one, two in zip(alone, together, strict=True):
        assert two["value"] == pytest.approx(one["value"], abs=1e-3)
        assert (two["samples"], two["reference"]) == (one["samples"], one["reference"])


def test_folder_of_pictures(capsys, tmp_path):
    images = load("digits", "test").take(np.arange(30))
    for suffix in (".png", ".jpg"):
        (tmp_path / suffix).mkdir()
        for number, image in enumerate(images):
            save_picture(tmp_path / suffix / f"{number}{suffix}", image)
    line, *_ = evaluated(
        capsys, f"--samples={tmp_path / '.png'}", f"--reference={tmp_path / '.jpg'}", "--metrics=fd-digits"
    )
    assert any("30 JPEG files" in warning for warning in line["warnings"]) and line["value"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--metrics=foo"], "--metrics=fid or fd-NAME, not foo"),
        (["--metrics=kd-digits"], "--metrics=fid or fd-NAME, not kd-digits"),
        (["--metrics=fd-digits,fd-mnist"], "statistics of one network"),
        (["--metrics=fd-digits", "--reference=digits:train"], "--reference is for evaluations, not for --make_stats"),
    ],
)
def test_statistics_are_made_of_one_set_with_one_network(capsys, tmp_path, arguments, said):
    output = tmp_path / "stats.npz"
    assert said in refused(capsys, "--make_stats=digits:test", f"--output={output}", *arguments)
    assert not output.exists()


def test_few_references_are_warned_of_and_subsets_that_are_the_whole_have_no_spread(capsys, pictures):
    lines = evaluated(capsys, f"--samples={pictures}", "--reference=digits:test", "--metrics=fd-digits,kd-digits")
    warnings = " ".join(lines[0]["warnings"])
    assert "297 references are fewer than 2048" in warnings
    counts = {lines[1]["samples"]["count"], lines[1]["reference"]["count"]}
    assert (lines[1]["spread"] is None) == (len(counts) == 1)
