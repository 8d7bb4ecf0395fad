import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from dfm import report
from dfm.config import defaults
from dfm.picture_files import save_picture
from dfm.results import append_line, dump


@pytest.fixture
def run(tmp_path):
    workdir = tmp_path / "run"
    (workdir / "pictures").mkdir(parents=True)
    (workdir / "config.json").write_text(dump(defaults().to_dict()))
    for step in (10, 20, 30):
        line = {"step": step, "loss": 100.0 / step**2, "psnr": 10.0 + step, "learning_rate/decoder": 0.001}
        append_line(workdir / "metrics.jsonl", line | ({"eval_step": 30, "eval_loss": 0.5} if step == 30 else {}))
    for step in (10, 30):
        save_picture(workdir / "pictures" / f"samples-{step:08d}.png", np.full((4, 4, 1), step, np.uint8))
    return workdir


def test_one_page_holds_curves_pictures_numbers_and_config(run, tmp_path, capsys):
    page = tmp_path / "run.html"
    assert report.main([f"--workdir={run}", "-o", str(page)]) == 0
    text = page.read_text()
    assert "dfm on digits: step 30 of 10,000" in text and "optimizer.learning_rate" in text
    assert not re.search(r"""(src|href)=["'](?!data:)""", text)  # self-contained
    assert text.count("<img") == 1 and "samples, step 30" in text
    svgs = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text)]
    names = [[words.text for words in svg.iter("text") if words.attrib["y"] == "18"] for svg in svgs]
    assert names == [["loss", "eval_loss"], ["psnr"], ["learning_rate/decoder"]]
    curve = [tuple(map(float, point.split(","))) for point in next(svgs[1].iter("polyline")).attrib["points"].split()]
    assert len(curve) == 3
    (x0, y0), (x1, y1), (x2, y2) = curve  # equal steps, equal differences: a straight line that rises
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2) and y0 - y1 == pytest.approx(y1 - y2, abs=0.2) and y0 > y2


def test_a_folder_without_metrics_or_run_is_one_line(run, tmp_path, capsys):
    (run / "metrics.jsonl").unlink()
    assert report.main([f"--workdir={run}", "-o", str(tmp_path / "x.html")]) == 2
    assert "has logged nothing yet" in capsys.readouterr().err
    assert report.main([f"--workdir={tmp_path}", "-o", str(tmp_path / "x.html")]) == 2
    assert not (tmp_path / "x.html").exists()


@pytest.mark.parametrize("name", ["config.json", "run.json", "metrics.jsonl", "checkpoints/7/state", "checkpoints/new"])
def test_no_file_of_the_run_is_written_over(run, tmp_path, capsys, name):
    (run / "checkpoints" / "7").mkdir(parents=True)
    (run / "checkpoints" / "7" / "state").write_bytes(b"weights")
    (tmp_path / "link").symlink_to(run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for folder in (run, tmp_path / "link", run / "pictures" / ".."):
        assert report.main([f"--workdir={run}", "-o", str(folder / name)]) == 2
        assert "is among the run's own files" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_page_in_the_run_may_be_written_anew_but_not_over_what_a_link_of_the_run_leads_to(run, tmp_path, capsys):
    for _ in range(2):
        assert report.main([f"--workdir={run}", "-o", str(run / "page.html")]) == 0
    (run / "metrics.jsonl").rename(tmp_path / "kept.jsonl")
    (run / "metrics.jsonl").symlink_to(tmp_path / "kept.jsonl")
    assert report.main([f"--workdir={run}", "-o", str(tmp_path / "kept.jsonl")]) == 2
    assert "which would be lost" in capsys.readouterr().err
    assert report.main([f"--workdir={run}", "-o", str(run / "page.html")]) == 0


def test_the_page_alone_goes_to_standard_output(run, capfdbinary, monkeypatch):
    monkeypatch.chdir(run)
    assert report.main(["--workdir=.", "-o", "-"]) == 0
    page, told = capfdbinary.readouterr()
    assert page.endswith(b"</html>\n") and told.startswith(b"-: ")
