"""`dfm compare`: one page, complete in itself."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from dfm.codec.command.compare import compare
from dfm.compress import main
from dfm.picture_files import load_picture, save_picture

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
MOVE = """<script>
const said = [];
function look() {
  const [right, border] = [document.getElementById("right"), document.getElementById("border")];
  const size = [right.naturalWidth, right.clientWidth, right.clientHeight];
  said.push([right.style.clipPath, border.style.left, ...size, get("facts-right").textContent].join(";"));
}
get("zoom").value = "4";
get("zoom").onchange();
get("slider").value = 250;
get("slider").oninput();
look();
const stage = get("stage").getBoundingClientRect();
const place = {clientX: stage.left + 42, clientY: stage.top + 5, bubbles: true};
get("right").dispatchEvent(new PointerEvent("pointermove", place));
get("choose-right").value = 2;
get("choose-right").onchange();
get("difference").checked = true;
get("difference").onchange();
look();
said.push(getComputedStyle(get("right")).mixBlendMode, getComputedStyle(get("right")).clipPath);
document.title = said.join("|");
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


def test_a_name_may_hold_the_words_of_the_template(inside):
    picture = load_picture("photo.png")
    save_picture("DATA_ROWS_TITLE.png", picture)
    assert main(["compare", "DATA_ROWS_TITLE.png", "photo.jpg", "-o", "compare.html"]) == 0
    page = (inside / "compare.html").read_text()
    assert "<title>DATA_ROWS_TITLE.png</title>" in page and "<td>DATA_ROWS_TITLE.png</td>" in page
    assert page.count("data:image/png;base64,") == 2


def test_another_size_is_refused(inside, capsys):
    save_picture("small.png", np.zeros((5, 14, 3), np.uint8))
    assert main(["compare", "photo.png", "small.png", "-o", "compare.html"]) == 2
    assert capsys.readouterr().err == "dfm: small.png: 14 x 5 pixels, and photo.png has 14 x 10\n"
    assert not (inside / "compare.html").exists()


@pytest.mark.parametrize("output", ["photo.png", "photo.jpg", "link.html"])
def test_the_page_replaces_no_input(inside, capsys, output):
    (inside / "link.html").symlink_to(inside / "photo.jpg")
    before = {name: (inside / name).read_bytes() for name in ("photo.png", "photo.jpg")}
    assert main(["compare", "photo.png", "photo.jpg", "-o", output]) == 2
    assert "is or holds the input photo." in capsys.readouterr().err
    assert {name: (inside / name).read_bytes() for name in before} == before


@pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is on the PATH")
def test_the_slider_moves(inside):
    """In a browser: by the slider and by the pointer; any two pictures, their sizes, and their difference."""
    compare("photo.png", ["photo.jpg", "<!--<script>.png"], "compare.html")
    (inside / "moved.html").write_text((inside / "compare.html").read_text() + MOVE)
    command = [BROWSER, "--headless", "--no-sandbox", "--dump-dom", f"file://{inside}/moved.html"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    slider, pointer, blend, clip = re.findall("<title>(.*)</title>", shown)[0].split("|")
    facts = [f"{(inside / name).stat().st_size:,} bytes, " for name in ("photo.jpg", "<!--<script>.png")]
    assert slider.startswith(f"inset(0px 0px 0px 25%);25%;14;56;40;{facts[0]}")
    assert pointer.startswith(f"inset(0px 0px 0px 75%);75%;14;56;40;{facts[1]}")
    assert (blend, clip) == ("difference", "none")
