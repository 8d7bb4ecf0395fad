"""`dfm compare`: one page, complete in itself."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from dfm.codec.command.compare import compare
from dfm.compress import main
from dfm.picture_files import load_picture, save_picture

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MOVE = """<script>
document.getElementById("slider").value = 250;
document.getElementById("slider").oninput();
document.getElementById("zoom").value = "4";
document.getElementById("zoom").onchange();
const right = document.getElementById("right");
document.title = [right.style.clipPath, right.naturalWidth, right.clientWidth, right.clientHeight].join(";");
</script>"""


@pytest.fixture
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture = np.random.default_rng(0).integers(0, 256, (10, 14, 3), dtype=np.uint8)
    save_picture("photo.png", picture)
    save_picture("photo.jpg", picture)
    save_picture("<!--<script>.png", picture[..., :1])
    return tmp_path


def test_the_page_holds_everything(inside, capsys):
    assert main(["compare", "photo.png", "photo.jpg", "<!--<script>.png", "-o", "compare.html"]) == 0
    page = (inside / "compare.html").read_text()
    assert not re.search(r"""(src|href)=["']?(?!data:)\w""", page) and "http" not in page
    assert page.count("data:image/png;base64,") == 3
    assert page.count("<script>") == page.count("</script>") == 1 and "<!--" not in page
    jpeg = load_picture("photo.jpg").astype(float) - load_picture("photo.png")
    assert f"{10 * np.log10(255**2 / (jpeg**2).mean()):.2f}" in page
    assert f"{(inside / 'photo.jpg').stat().st_size:,} bytes" in page


def test_another_size_is_refused(inside, capsys):
    save_picture("small.png", np.zeros((5, 14, 3), np.uint8))
    assert main(["compare", "photo.png", "small.png", "-o", "compare.html"]) == 2
    assert capsys.readouterr().err == "dfm: small.png: 14 x 5 pixels, and photo.png has 14 x 10\n"
    assert not (inside / "compare.html").exists()


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_the_slider_moves(inside):
    compare("photo.png", ["photo.jpg"], "compare.html")
    (inside / "moved.html").write_text((inside / "compare.html").read_text() + MOVE)
    command = [BROWSER, "--headless", "--no-sandbox", "--dump-dom", f"file://{inside}/moved.html"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "<title>inset(0px 0px 0px 25%);14;56;40</title>" in shown
