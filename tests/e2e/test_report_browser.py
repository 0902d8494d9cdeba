"""The page in a real browser: nothing sticks out, nothing fails, and what it promises works."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from chop.report.page import write_page
from tests.unit.report_fixture import make_design, write_study

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    _CHROMIUM is None, reason="chromium is not installed: apt-get install chromium"
)
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--allow-file-access-from-files", "--enable-logging=stderr"),
    *("--virtual-time-budget=4000", "--dump-dom"),
)
# A window cannot be narrower than 500 pixels; a frame in it can.
_HOST = """<body><pre id="found"></pre><iframe src="{page}" style="width:{width}px;height:800px">
</iframe><script>
const frame = document.querySelector("iframe");
frame.addEventListener("load", () => setTimeout(() => {{
  const page = frame.contentDocument, view = frame.contentWindow;
  const probe = () => {{ {probe} }};
  document.getElementById("found").textContent = JSON.stringify(probe());
}}, 300));
</script></body>"""
_OVERFLOW = """
const wide = [...page.querySelectorAll("main *")].filter((e) => {
  if (e.closest(".scroll, .drawing")) return false;
  const box = e.getBoundingClientRect();
  return box.width > 0 && (box.right > view.innerWidth + 0.5 || box.left < -0.5);
});
return { whole: page.documentElement.scrollWidth, view: view.innerWidth,
  wide: wide.map((e) => e.outerHTML.slice(0, 90)) };
"""
_USE = """
const click = (e) => e.dispatchEvent(new view.MouseEvent("click", { bubbles: true }));
const found = {};
const node = page.querySelector("a.node[data-node=add]");
node.focus();
found.tip = page.getElementById("tip").innerText;
node.blur();
click(page.querySelector("[data-by=cycles]"));
found.by = page.querySelector("svg.graph").dataset.by;
const table = page.querySelector("#layers table");
const column = [...table.tHead.rows[0].cells].findIndex((c) => c.textContent === "LUT");
click(table.tHead.rows[0].cells[column].firstChild);
found.sorted = [...table.tBodies[0].rows].map((r) => Number(r.cells[column].dataset.sort));
found.sort = table.tHead.rows[0].cells[column].getAttribute("aria-sort");
const chart = [...page.querySelectorAll("#search svg.chart")].find((e) => e.checkVisibility());
chart.focus();
chart.dispatchEvent(new view.KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
found.trial = page.getElementById("tip").innerText;
chart.dispatchEvent(new view.KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
found.hidden = page.getElementById("tip").hidden;
const paper = () => view.getComputedStyle(page.body).backgroundColor;
found.light = paper();
click(page.getElementById("theme"));
found.dark = paper();
return found;
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build = make_design(tmp_path_factory.mktemp("page"))
    write_study(build)
    run = build.parent.parent / "runs/residual"
    return write_page(build, run, run / "report.html")


def _open(page: Path, probe: str, width: int, theme: str = "light") -> Any:
    """Returns what the probe finds; fails where the page writes to the console."""
    host = page.with_name("host.html")
    host.write_text(_HOST.format(page=f"{page.name}?theme={theme}", width=width, probe=probe))
    profile = page.parent / "profile"
    done = subprocess.run(
        [str(_CHROMIUM), *_FLAGS, f"--user-data-dir={profile}", f"file://{host}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    found = re.search(r'<pre id="found">(.+?)</pre>', done.stdout)
    assert found is not None, done.stderr[-2000:]
    return json.loads(found[1].replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&"))


@pytest.mark.parametrize(("width", "theme"), [(390, "light"), (820, "dark"), (1400, "light")])
def test_nothing_sticks_out(page: Path, width: int, theme: str) -> None:
    found = _open(page, _OVERFLOW, width, theme)
    assert found == {"whole": width, "view": width, "wide": []}


def test_what_can_be_done_with_it(page: Path) -> None:
    found = _open(page, _USE, 1200)
    assert found["tip"].startswith("add (tensor_add)")
    assert "streams" in found["tip"]
    assert found["by"] == "cycles"
    assert found["sorted"] == sorted(found["sorted"], reverse=True)
    assert len(set(found["sorted"])) > 2
    assert found["sort"] == "descending"
    assert found["trial"].startswith("trial ")
    assert found["hidden"] is True
    assert found["light"] == "rgb(255, 255, 255)"
    assert found["dark"] == "rgb(23, 27, 33)"


def test_a_fault_would_be_seen(page: Path, tmp_path: Path) -> None:
    """The probes see what they look for: a box that is too wide, and an error in a script."""
    broken = tmp_path / "broken.html"
    text = page.read_text()
    broken.write_text(text.replace('<p class="lead">', '<p class="lead" style="width:700px">', 1))
    assert _open(broken, _OVERFLOW, 390)["whole"] > 390
    broken.write_text(text.replace('"use strict";', '"use strict"; missing();'))
    with pytest.raises(AssertionError, match="missing is not defined"):
        _open(broken, _OVERFLOW, 390)
