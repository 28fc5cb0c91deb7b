"""The page in a real browser: what a reviewer does in an hour, in half a minute, and the server killed on the way."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import pytest
from conftest import TinySite

from landslip import review

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(bool(os.environ.get("CI")), reason="browser tests do not run in CI"),
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here (apt-get install chromium)"),
]
playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (it is not in [dev])")
pytest.importorskip("fastapi", reason="the page needs landslip[serve]")
from test_serve import write_run  # noqa: E402

READY = "body[data-ready=yes]"


class Server:
    """`landslip serve` as a process of its own, which can be killed and started again on its port."""

    def __init__(self, run: Path) -> None:
        self.run, self.port = run, 0
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "landslip.cli", "serve", str(self.run), "--port", str(self.port)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        self.port = int(line.split("http://127.0.0.1:")[1].split("/")[0])

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def gpkg(self) -> Path:
        return self.run / "inventory" / "landslides.gpkg"


@pytest.fixture
def server(tmp_path: Path, made: TinySite) -> Iterator[Server]:
    (tmp_path / "run" / "map").mkdir(parents=True)
    found = Server(write_run(tmp_path / "run", made))
    yield found
    found.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright_api.sync_playwright() as playwright:
        # without the sandbox where the tests run as root, as in containers
        started = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


@contextlib.contextmanager
def window(browser: object, server: Server, **options: object) -> Iterator[object]:
    """A page that is ready; whatever it complains of in the console is an error of the test."""
    context = browser.new_context(viewport={"width": 1200, "height": 800}, **options)  # type: ignore[attr-defined]
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "console",
        lambda message: (
            faults.append(message.text)
            if message.type == "error" and "ERR_CONNECTION" not in message.text and "409" not in message.text
            else None
        ),
    )
    page.goto(server.url)
    page.wait_for_selector(READY)
    yield page
    context.close()
    assert faults == []


def said(page: object, text: str) -> None:
    page.wait_for_function("text => document.getElementById('status').textContent.includes(text)", arg=text)  # type: ignore[attr-defined]


def on_map(page: object, x: float, y: float) -> tuple[float, float]:
    """Where a place of the map lies on the screen."""
    at = page.evaluate(  # type: ignore[attr-defined]
        """([x, y]) => {
            const box = document.getElementById("map").getBoundingClientRect();
            const point = map.latLngToContainerPoint([y, x]);
            return [box.left + point.x, box.top + point.y];
        }""",
        [x, y],
    )
    return at[0], at[1]


def test_layers_and_swipe(browser: object, server: Server) -> None:
    with window(browser, server) as page:
        shades = page.eval_on_selector_all("img.leaflet-tile-loaded", "tiles => tiles.map(tile => tile.naturalWidth)")
        assert shades and set(shades) == {256}
        page.select_option("#layer-left", "slope")
        page.select_option("#layer-right", "lithology")
        page.wait_for_selector("#legend-right >> text=soft")
        assert page.text_content("#legend-left strong") == "Slope"
        clips = "[panes.left, panes.right].map(one => one.style.clipPath)"
        before = page.evaluate(clips)
        assert all(before) and before[0] != before[1]
        box = page.locator("#swipe span").bounding_box()
        page.mouse.move(box["x"] + 16, box["y"] + 16)
        page.mouse.down()
        page.mouse.move(200, box["y"], steps=3)
        page.mouse.up()
        assert page.evaluate(clips) != before
        at = int(page.get_attribute("#swipe", "aria-valuenow"))
        assert at < 40
        page.focus("#swipe")
        page.keyboard.press("ArrowRight")
        assert int(page.get_attribute("#swipe", "aria-valuenow")) == at + 2
        page.select_option("#layer-right", "")
        assert page.is_hidden("#swipe")


def test_the_threshold_moves_polygons_and_scores(browser: object, server: Server) -> None:
    with window(browser, server) as page:
        page.wait_for_selector("[data-score=f1]")
        shown = page.text_content("[data-score=recall]")
        drawn = page.evaluate("outlines.getLayers().length")
        assert drawn > 0 and page.evaluate("candidates.getLayers().length") == 0
        page.fill("#threshold-number", "0.85")
        page.wait_for_function("() => candidates.getLayers().length > 0 && outlines.getLayers().length === 0")
        assert page.text_content("[data-score=recall]") != shown
        url = f"{server.url}api/scores?part=test"
        counts = json.loads(urllib.request.urlopen(url).read())
        recall = sum(counts["landslide"][850:]) / sum(counts["landslide"])
        assert page.text_content("[data-score=recall]") == f"{100 * recall:.2f}"
        page.click("#threshold-reset")
        page.wait_for_function("() => candidates.getLayers().length === 0 && outlines.getLayers().length > 0")
        assert page.text_content("[data-score=recall]") == shown
        # what is accepted is an outline of the inventory: while others are shown, they are brought back and no more
        page.fill("#threshold-number", "0.85")
        page.wait_for_function("() => candidates.getLayers().length > 0 && outlines.getLayers().length === 0")
        page.focus("#rows button")
        page.keyboard.press("j")
        page.keyboard.press("a")
        page.wait_for_function("() => candidates.getLayers().length === 0 && outlines.getLayers().length > 0")
        assert page.evaluate("reviews.size") == 0


def test_a_review_from_the_keyboard_outlives_both_page_and_server(browser: object, server: Server) -> None:
    with window(browser, server) as page:
        page.keyboard.press("j")
        first = int(page.text_content("#selected-head").split()[-1])
        assert page.text_content("#attributes").startswith("Area")
        page.fill("#note", "fresh scar")
        page.keyboard.press("Tab")
        page.focus("#rows tr[aria-current] button")
        page.keyboard.press("a")
        said(page, f"Landslide {first} accepted. Saved.")
        second = int(page.text_content("#selected-head").split()[-1])
        assert second != first
        page.keyboard.press("r")
        said(page, f"Landslide {second} rejected. Saved.")
        server.kill()  # what was said to be saved is saved
        page.keyboard.press("a")
        page.wait_for_selector("#alert >> text=does not answer")
        kept = review.read_reviews(server.gpkg)
        assert {i: one.state for i, one in kept.items()} == {first: "accepted", second: "rejected"}
        assert kept[first].note == "fresh scar"
        assert page.text_content("#progress").startswith("2 of")
        server.start()
        page.wait_for_selector("#alert", state="hidden")
        page.keyboard.press("u")
        said(page, f"Undone: landslide {second} is open. Saved.")
    with window(browser, server) as page:  # a page opened anew can undo too, and redo
        page.keyboard.press("u")
        said(page, f"Undone: landslide {first} is open.")
        page.keyboard.press("Shift+U")
        said(page, f"Again: landslide {first} is accepted.")
    server.kill()
    with sqlite3.connect(server.gpkg) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    layer = gpd.read_file(server.gpkg, layer="review")
    assert layer[["landslide", "state", "note"]].values.tolist() == [[first, "accepted", "fresh scar"]]
    server.start()


def test_redraw_and_draw_with_the_mouse(browser: object, server: Server) -> None:
    with window(browser, server) as page:
        page.keyboard.press("j")
        landslide = int(page.text_content("#selected-head").split()[-1])
        page.wait_for_timeout(600)  # the flight
        page.uncheck("#advance")
        page.click("#redraw")
        corners = [(250, 250), (420, 260), (400, 430), (260, 400)]
        for x, y in corners:
            page.mouse.click(x, y)
        expected = page.evaluate(
            """corners => corners.map(([x, y]) => {
                const box = document.getElementById("map").getBoundingClientRect();
                const at = map.containerPointToLatLng([x - box.left, y - box.top]);
                return [at.lng, at.lat];
            })""",
            corners,
        )
        page.keyboard.press("Enter")
        said(page, f"Landslide {landslide} redrawn. Saved.")
        outline = review.read_reviews(server.gpkg)[landslide].outline
        assert outline.geoms[0].exterior.coords[:4] == [tuple(pytest.approx(at) for at in one) for one in expected]
        page.keyboard.press("n")
        for x, y in [(500, 300), (560, 300), (560, 380)]:
            page.mouse.click(x, y)
        page.keyboard.press("Backspace")
        assert page.is_disabled("#draw-done")
        page.mouse.dblclick(530, 380)
        said(page, "New landslide 1 drawn. Saved.")
        drawn = review.read_reviews(server.gpkg)[-1]
        assert drawn.state == "drawn" and len(drawn.outline.geoms[0].exterior.coords) == 4
        page.wait_for_selector("#rows >> text=new 1")
        page.keyboard.press("Control+z")
        said(page, "new landslide 1 is removed")
        assert review.read_reviews(server.gpkg)[-1].state == "open"
        page.keyboard.press("e")
        page.keyboard.press("n")
        page.keyboard.press("Escape")
        assert page.is_hidden("#drawing")


def test_clicking_an_outline_selects_it(browser: object, server: Server) -> None:
    table = gpd.read_file(server.gpkg, layer="inventory")
    largest = table.loc[table.area_m2.idxmax()]
    with window(browser, server) as page:
        page.keyboard.press("o")
        page.keyboard.press("o")
        page.wait_for_function("() => outlines.getLayers().length > 0")
        inside = largest.geometry.representative_point()
        page.mouse.click(*on_map(page, inside.x, inside.y))
        page.wait_for_selector(f"#selected-head >> text=Landslide {largest.id}")
        assert page.get_attribute(f"#rows tr[data-id='{largest.id}']", "aria-current") == "true"


def test_two_windows_at_once(browser: object, server: Server) -> None:
    with window(browser, server) as mine, window(browser, server) as theirs:
        mine.evaluate("poll = async () => {}")  # as if nothing were heard of the other between two polls
        theirs.keyboard.press("j")
        landslide = theirs.text_content("#selected-head").split()[-1]
        theirs.keyboard.press("r")
        said(theirs, f"Landslide {landslide} rejected. Saved.")
        mine.keyboard.press("j")
        mine.keyboard.press("a")
        mine.wait_for_selector("#alert >> text=was changed meanwhile: it is rejected now")
        assert review.read_reviews(server.gpkg)[int(landslide)].state == "rejected"
        theirs.keyboard.press("a")
        theirs.wait_for_function("() => document.getElementById('progress').textContent.startsWith('2 of')")


def test_shortcuts_can_be_turned_off_and_do_not_type(browser: object, server: Server) -> None:
    with window(browser, server) as page:
        page.keyboard.press("j")
        page.fill("#note", "")
        page.type("#note", "arun?")
        assert page.input_value("#note") == "arun?" and review.read_reviews(server.gpkg) == {}
        page.focus("#accept")
        page.keyboard.press("?")
        assert page.is_visible("#help")
        page.uncheck("#shortcuts")
        page.click("#close-help")
        page.keyboard.press("a")
        page.wait_for_timeout(300)
        assert review.read_reviews(server.gpkg) == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_axe_finds_no_fault(browser: object, server: Server, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    with window(browser, server, color_scheme=scheme, bypass_csp=True) as page:
        page.set_viewport_size({"width": width, "height": 844})
        page.keyboard.press("j")
        page.wait_for_timeout(800)
        faults = axe.Axe().run(page).response["violations"]
        page.click("#show-help")
        faults += axe.Axe().run(page).response["violations"]
        page.click("#close-help")
        page.keyboard.press("n")
        faults += axe.Axe().run(page).response["violations"]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    listed = [(one["id"], one["impact"], [node["html"][:120] for node in one["nodes"]][:3]) for one in faults]
    assert listed == []
