"""The page of `dfm compare`: one HTML file that needs nothing else, with a slider between any two pictures."""

import base64
import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from dfm.picture_files import Picture, encode_picture


@dataclass(frozen=True)
class Rival:
    """A picture on the page: its name, the bytes of its file, its pixels, and its PSNR in dB (None: the original)."""

    name: str
    bytes: int
    picture: Picture
    psnr: float | None


def page(rivals: Sequence[Rival]) -> str:
    """The page; the first of `rivals` is the original, and all have its size."""
    height, width, _ = rivals[0].picture.shape
    pictures = [
        {
            "name": rival.name,
            "facts": facts(rival, height * width),
            "url": "data:image/png;base64," + base64.b64encode(encode_picture("picture.png", rival.picture)).decode(),
        }
        for rival in rivals
    ]
    # a file's name may hold what would begin or end a script
    data = json.dumps({"width": width, "height": height, "pictures": pictures}).replace("<", "\\u003c")
    rows = "".join(
        f"<tr><td>{html.escape(rival.name)}</td>" + "".join(f"<td>{word}</td>" for word in cells(rival, height * width))
        for rival in rivals
    )
    parts = {"TITLE": html.escape(rivals[0].name), "ROWS": rows, "DATA": data}
    # all at once: a file's name may hold such a word
    return re.sub("|".join(parts), lambda match: parts[match[0]], TEMPLATE)


def cells(rival: Rival, pixels: int) -> tuple[str, str, str]:
    """Bytes, bits per pixel and PSNR in words."""
    quality = "original" if rival.psnr is None else "identical" if rival.psnr == float("inf") else f"{rival.psnr:.2f}"
    return f"{rival.bytes:,}", f"{8 * rival.bytes / pixels:.3f}", quality


def facts(rival: Rival, pixels: int) -> str:
    size, rate, quality = cells(rival, pixels)
    return f"{size} bytes, {rate} bits per pixel" + ("" if rival.psnr is None else f", PSNR {quality} dB")


TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>TITLE</title>
<style>
body { font: 14px sans-serif; margin: 1em; background: #222; color: #ddd; }
select, input { font: inherit; vertical-align: middle; }
#slider { display: block; box-sizing: border-box; min-width: 200px; max-width: 100%; margin: .5em 0; }
#frame { overflow: auto; max-width: 100%; max-height: 80vh; border: 1px solid #555; }
#stage { position: relative; background: #000; cursor: ew-resize; touch-action: pan-y; }
#stage img { position: absolute; left: 0; top: 0; width: 100%; height: 100%; }
#stage img { image-rendering: pixelated; user-select: none; }
#border { position: absolute; top: 0; bottom: 0; width: 1px; background: #fff; pointer-events: none; }
#stage.difference #border { display: none; }
#stage.difference { isolation: isolate; filter: brightness(8); }
#stage.difference #right { mix-blend-mode: difference; clip-path: none !important; }
.facts { color: #aaa; }
table { border-collapse: collapse; margin-top: 1em; }
td, th { padding: .2em .8em; text-align: right; }
td:first-child { text-align: left; }
</style>
<p>
<label>left <select id="choose-left"></select></label> <span class="facts" id="facts-left"></span><br>
<label>right <select id="choose-right"></select></label> <span class="facts" id="facts-right"></span>
<p>
<label>zoom <select id="zoom">
<option>0.5</option><option selected>1</option><option>2</option><option>4</option><option>8</option>
</select></label>
<label><input type="checkbox" id="difference"> difference, eight times</label>
<input type="range" id="slider" min="0" max="1000" value="500" aria-label="border between the pictures">
<div id="frame"><div id="stage"><img id="left" alt="" draggable="false"><img id="right" alt="" draggable="false">
<div id="border"></div></div></div>
<table><tr><th>file</th><th>bytes</th><th>bits per pixel</th><th>PSNR, dB</th></tr>ROWS</table>
<script>
const data = DATA;
const get = id => document.getElementById(id);
for (const side of ["left", "right"]) {
  const choose = get("choose-" + side);
  data.pictures.forEach((picture, number) => choose.add(new Option(picture.name, number)));
  choose.value = side === "left" ? 0 : Math.min(1, data.pictures.length - 1);
  choose.onchange = show;
}
function show() {
  for (const side of ["left", "right"]) {
    const picture = data.pictures[get("choose-" + side).value];
    if (get(side).src !== picture.url) get(side).src = picture.url;
    get("facts-" + side).textContent = picture.facts;
  }
  const zoom = get("zoom").value;
  get("stage").style.width = data.width * zoom + "px";
  get("stage").style.height = data.height * zoom + "px";
  get("slider").style.width = get("stage").style.width;
  get("border").style.left = get("slider").value / 10 + "%";
  get("stage").className = get("difference").checked ? "difference" : "";
  get("right").style.clipPath = "inset(0 0 0 " + get("slider").value / 10 + "%)";
}
// the border follows the pointer over the picture
get("stage").onpointermove = event => {
  const stage = get("stage").getBoundingClientRect();
  get("slider").value = 1000 * (event.clientX - stage.left) / stage.width;
  show();
};
get("zoom").value = data.width < 400 ? 2 : 1;
get("zoom").onchange = get("difference").onchange = get("slider").oninput = show;
show();
</script>
"""
