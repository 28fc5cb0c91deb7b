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
import numpy as np
import pytest
from conftest import GRID, TinySite
from rasterio.features import rasterize

from landslip.config.site import read_site
from landslip.geo.raster import read_stored
from landslip.inventory.inventory import make_inventory
from landslip.preparation.prepare import prepare
from landslip.review import reviews

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here (apt-get install chromium)")
playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (it is in [dev])")
pytest.importorskip("fastapi", reason="the page needs landslip[serve]")
from made_up import write_run

READY = "body[data-ready=yes]"
# what the tests ask the page's modules for, and what they move the map by
MODULES = """async () => {
    window.state = (await import("/state.js")).state;
    window.STYLES = (await import("/outlines.js")).STYLES;
}"""
FLAGS = (  # without the sandbox where the tests run as root, as in containers; nothing asks for anything elsewhere
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
LARGE = {"width": 1600, "height": 1100}  # of a screen on which the tiny site is enlarged six times
PHONE = {"width": 390, "height": 844}


class Server:
    """`landslip serve` as a process of its own, which can be killed and started again on its port."""

    def __init__(self, run: Path) -> None:
        self.run, self.port = run, 0
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "landslip", "serve", str(self.run), "--port", str(self.port)]
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


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, made: TinySite) -> Iterator[tuple[Server, Path]]:
    """A server of the tiny site's run, and its inventory as it was before anybody decided."""
    run = tmp_path_factory.mktemp("served") / "run"
    (run / "map").mkdir(parents=True)
    found = Server(write_run(run, made))
    shutil.copy(found.gpkg, run.parent / "untouched.gpkg")
    yield found, run.parent / "untouched.gpkg"
    found.kill()


@pytest.fixture
def server(served: tuple[Server, Path]) -> Server:
    found, untouched = served
    shutil.copy(untouched, untouched.with_name("next.gpkg")).replace(found.gpkg)
    return found


@pytest.fixture(scope="module")
def served_bare(tmp_path_factory: pytest.TempPathFactory, made: TinySite) -> Iterator[Server]:
    """A server of the tiny site, prepared where nobody has mapped a landslide yet: neither map nor inventory."""
    run = tmp_path_factory.mktemp("bare")
    for path in made.folder.iterdir():
        if path.is_file():
            shutil.copy(path, run / path.name)
    site = run / "site.toml"
    site.write_text(site.read_text().replace('[landslides]\npath = "landslides.gpkg"\n', ""))
    prepare(read_site(site), run / "prepared", figures=False)
    found = Server(run)
    yield found
    found.kill()


@pytest.fixture
def bare(served_bare: Server) -> Server:
    shutil.rmtree(served_bare.gpkg.parent, ignore_errors=True)
    return served_bare


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=list(FLAGS))
        yield started
        started.close()


@contextlib.contextmanager
def window(browser: object, server: Server, size: dict[str, int] | None = None, **options: object) -> Iterator[object]:
    """A page that is ready; whatever it complains of in the console is an error of the test."""
    viewport = size or {"width": 1200, "height": 800}
    context = browser.new_context(viewport=viewport, **options)  # type: ignore[attr-defined]
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "console",
        lambda message: (
            faults.append(message.text)
            if message.type == "error" and "net::ERR_" not in message.text and "409" not in message.text
            else None
        ),
    )
    page.goto(server.url)
    page.wait_for_selector(READY)
    page.evaluate(MODULES)
    yield page
    context.close()
    assert faults == []


def said(page: object, text: str) -> None:
    page.wait_for_function("text => document.getElementById('status').textContent.includes(text)", arg=text)  # type: ignore[attr-defined]


def wait_for_outlines(page: object, outlines: bool | None = None, candidates: bool | None = None) -> None:
    """Wait until outlines of landslides, or of candidates, are on the map (True) or gone (False)."""
    wanted = {name: shown for name, shown in (("outlines", outlines), ("candidates", candidates)) if shown is not None}
    page.wait_for_function(  # type: ignore[attr-defined]
        "wanted => Object.entries(wanted).every(([name, on]) => (state[name].getLayers().length > 0) === on)",
        arg=wanted,
    )


def on_map(page: object, x: float, y: float) -> tuple[float, float]:
    """Where a place of the map lies on the screen."""
    at = page.evaluate(  # type: ignore[attr-defined]
        """([x, y]) => {
            const box = document.getElementById("map").getBoundingClientRect();
            const point = state.map.latLngToContainerPoint([y, x]);
            return [box.left + point.x, box.top + point.y];
        }""",
        [x, y],
    )
    return at[0], at[1]


def chosen(page: object) -> int:
    """The id of the landslide that is selected."""
    return int(page.text_content("#selected-head").split()[-1])  # type: ignore[attr-defined]


def go_to(page: object, landslide: int) -> None:
    """Go through the table with J until a landslide is selected, and wait for the end of the flight."""
    for _ in range(100):
        page.keyboard.press("j")  # type: ignore[attr-defined]
        if chosen(page) == landslide:
            break
    assert chosen(page) == landslide
    page.wait_for_timeout(600)  # type: ignore[attr-defined]


def overlap(page: object, one: str, other: str) -> bool:
    """Whether two things that are shown lie on one another."""
    a, b = (page.locator(name).bounding_box() for name in (one, other))  # type: ignore[attr-defined]
    assert a and b
    return all(a[at] < b[at] + b[side] and b[at] < a[at] + a[side] for at, side in (("x", "width"), ("y", "height")))


def test_layers_and_swipe(browser: object, server: Server) -> None:
    with window(browser, server) as page:
        shades = page.eval_on_selector_all("img.leaflet-tile-loaded", "tiles => tiles.map(tile => tile.naturalWidth)")
        assert shades and set(shades) == {256}
        page.select_option("#layer-left", "slope")
        page.select_option("#layer-right", "lithology")
        page.wait_for_selector("#legend-right >> text=soft")
        assert page.text_content("#legend-left strong") == "Slope"
        clips = "[state.panes.left, state.panes.right].map(one => one.style.clipPath)"
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
        drawn = page.evaluate("state.outlines.getLayers().length")
        assert drawn > 0 and page.evaluate("state.candidates.getLayers().length") == 0
        page.fill("#threshold-number", "0.85")
        page.wait_for_function(
            "() => state.candidates.getLayers().length > 0 && state.outlines.getLayers().length === 0"
        )
        assert page.text_content("[data-score=recall]") != shown
        url = f"{server.url}api/scores?part=test"
        at = json.loads(urllib.request.urlopen(url).read())["thresholds"][850]
        assert page.text_content("[data-score=recall]") == f"{100 * at['tp'] / (at['tp'] + at['fn']):.2f}"
        page.click("#threshold-reset")
        page.wait_for_function(
            "() => state.candidates.getLayers().length === 0 && state.outlines.getLayers().length > 0"
        )
        assert page.text_content("[data-score=recall]") == shown
        # what is accepted is an outline of the inventory: while others are shown, they are brought back and no more
        page.fill("#threshold-number", "0.85")
        page.wait_for_function(
            "() => state.candidates.getLayers().length > 0 && state.outlines.getLayers().length === 0"
        )
        page.focus("#rows button")
        page.keyboard.press("j")
        page.keyboard.press("a")
        page.wait_for_function(
            "() => state.candidates.getLayers().length === 0 && state.outlines.getLayers().length > 0"
        )
        assert page.evaluate("state.reviews.size") == 0


def test_a_review_from_the_keyboard_outlives_both_page_and_server(browser: object, server: Server) -> None:
    with window(browser, server) as page:
        page.keyboard.press("j")
        first = chosen(page)
        assert page.text_content("#attributes").startswith("Area")
        page.fill("#note", "fresh scar")
        page.keyboard.press("Tab")
        page.focus("#rows tr[aria-current] button")
        page.keyboard.press("a")
        said(page, f"Landslide {first} accepted. Saved.")
        second = chosen(page)
        assert second != first
        page.keyboard.press("r")
        said(page, f"Landslide {second} rejected. Saved.")
        server.kill()  # what was said to be saved is saved
        page.keyboard.press("a")
        page.wait_for_selector("#alert >> text=does not answer")
        kept = reviews.read_reviews(server.gpkg)
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


def test_what_was_not_saved_is_said_until_the_server_answers_again(browser: object, server: Server) -> None:
    with window(browser, server) as page:
        page.route("**/api/reviews", lambda route: route.abort("connectionrefused"))
        page.keyboard.press("j")
        page.keyboard.press("a")
        page.wait_for_selector("#alert >> text=Nothing was saved")
        page.wait_for_selector("#alert", state="hidden")  # the next question for what others decided is answered


def test_redraw_and_draw_with_the_mouse(browser: object, server: Server) -> None:
    with window(browser, server) as page:
        page.keyboard.press("j")
        landslide = chosen(page)
        page.wait_for_timeout(600)  # the flight
        page.uncheck("#advance")
        page.click("#redraw")
        corners = [(250, 250), (420, 260), (400, 430), (260, 400)]
        for x, y in corners:
            page.mouse.click(x, y)
        expected = page.evaluate(
            """corners => corners.map(([x, y]) => {
                const box = document.getElementById("map").getBoundingClientRect();
                const at = state.map.containerPointToLatLng([x - box.left, y - box.top]);
                return [at.lng, at.lat];
            })""",
            corners,
        )
        page.keyboard.press("Enter")
        said(page, f"Landslide {landslide} redrawn. Saved.")
        outline = reviews.read_reviews(server.gpkg)[landslide].outline
        assert outline.geoms[0].exterior.coords[:4] == [tuple(pytest.approx(at) for at in one) for one in expected]
        page.keyboard.press("n")
        for x, y in [(500, 300), (560, 300), (560, 380)]:
            page.mouse.click(x, y)
        page.keyboard.press("Backspace")
        assert page.is_disabled("#draw-done")
        page.mouse.dblclick(530, 380)
        said(page, "New landslide 1 drawn. Saved.")
        drawn = reviews.read_reviews(server.gpkg)[-1]
        assert drawn.state == "drawn" and len(drawn.outline.geoms[0].exterior.coords) == 4
        page.wait_for_selector("#rows >> text=new 1")
        page.keyboard.press("Control+z")
        said(page, "new landslide 1 is removed")
        assert reviews.read_reviews(server.gpkg)[-1].state == "open"
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
        wait_for_outlines(page, outlines=True)
        inside = largest.geometry.representative_point()
        page.mouse.click(*on_map(page, inside.x, inside.y))
        page.wait_for_selector(f"#selected-head >> text=Landslide {largest.id}")
        assert page.get_attribute(f"#rows tr[data-id='{largest.id}']", "aria-current") == "true"


def test_two_windows_at_once(browser: object, server: Server) -> None:
    with window(browser, server) as mine, window(browser, server) as theirs:
        # As if nothing were heard of the other window between two polls.
        mine.route("**/api/reviews?since=*", lambda route: route.fulfill(json={"version": 0, "reviews": []}))
        theirs.keyboard.press("j")
        landslide = theirs.text_content("#selected-head").split()[-1]
        theirs.keyboard.press("r")
        said(theirs, f"Landslide {landslide} rejected. Saved.")
        mine.keyboard.press("j")
        mine.keyboard.press("a")
        mine.wait_for_selector("#alert >> text=was changed meanwhile: it is rejected now")
        assert reviews.read_reviews(server.gpkg)[int(landslide)].state == "rejected"
        theirs.keyboard.press("a")
        theirs.wait_for_function("() => document.getElementById('progress').textContent.startsWith('2 of')")


def test_shortcuts_can_be_turned_off_and_do_not_type(browser: object, server: Server) -> None:
    with window(browser, server) as page:
        page.keyboard.press("j")
        page.fill("#note", "")
        page.type("#note", "arun?")
        assert page.input_value("#note") == "arun?" and reviews.read_reviews(server.gpkg) == {}
        page.focus("#accept")
        page.keyboard.press("?")
        assert page.is_visible("#help")
        page.uncheck("#shortcuts")
        page.click("#close-help")
        page.keyboard.press("a")
        page.wait_for_timeout(300)
        assert reviews.read_reviews(server.gpkg) == {}


def test_a_redrawn_landslide_is_left_for_the_next_and_stays_redrawn(browser: object, server: Server) -> None:
    with window(browser, server) as page:
        page.keyboard.press("j")
        landslide = chosen(page)
        page.keyboard.press("e")
        for x, y in [(250, 250), (420, 260), (400, 430)]:
            page.mouse.click(x, y)
        page.keyboard.press("Enter")
        said(page, f"Landslide {landslide} redrawn. Saved.")
        outline = reviews.read_reviews(server.gpkg)[landslide].outline
        assert chosen(page) != landslide  # on to the next open one, as the tick says
        page.click(f"#rows tr[data-id='{landslide}']")
        page.keyboard.press("a")
        said(page, f"Landslide {landslide} accepted as it was redrawn. Saved.")
        kept = reviews.read_reviews(server.gpkg)[landslide]
        assert kept.state == "redrawn" and kept.outline.equals(outline)
        assert page.text_content(f"#rows tr[data-id='{landslide}'] .state") == "redrawn"


def test_the_ends_of_the_table_are_said(browser: object, server: Server) -> None:
    with window(browser, server) as page:
        last = int(page.get_attribute("#rows tr:last-child", "data-id"))
        page.keyboard.press("k")  # from nowhere, from the end
        assert chosen(page) == last and page.text_content("#status") == ""
        page.keyboard.press("j")
        said(page, "This is the last landslide of the table.")
        assert chosen(page) == last
        page.click("#rows tr:first-child")
        page.keyboard.press("k")
        said(page, "This is the first landslide of the table.")


def test_going_through_a_small_site_never_leaves_it(browser: object, server: Server) -> None:
    """A site of 192 pixels fits the screen at a zoom that flights used to end below, half of the map off the site."""
    with window(browser, server, LARGE) as page:
        whole = page.evaluate("state.map.getZoom()")
        left, bottom, right, top = GRID.bounds
        ids = page.eval_on_selector_all("#rows tr", "rows => rows.map(row => Number(row.dataset.id))")
        for landslide in (ids[0], ids[len(ids) // 2], ids[-1]):
            page.click(f"#rows tr[data-id='{landslide}']")
            page.wait_for_timeout(600)
            assert page.evaluate("state.map.getZoom()") >= whole
            west, south, east, north = map(float, page.evaluate("state.map.getBounds().toBBoxString()").split(","))
            across = (min(east, right) - max(west, left)) / (east - west)
            down = (min(north, top) - max(south, bottom)) / (north - south)
            assert across > 0.84 and down > 0.84, landslide


def test_drawing_by_keys_at_the_edge_of_a_small_site(browser: object, server: Server) -> None:
    """Each arrow key moves the map by 80 pixels of the screen, at once and also at the edge of the site."""
    table = gpd.read_file(server.gpkg, layer="inventory")
    right_most = int(table.loc[table.geometry.centroid.x.idxmax(), "id"])
    with window(browser, server, LARGE) as page:
        go_to(page, right_most)
        for key in ("n", "c", "ArrowRight", "c", "ArrowDown", "c"):
            page.keyboard.press(key)
        assert page.is_enabled("#draw-done")
        metres = page.evaluate(
            "state.run.grid.x_size * 2 ** (state.run.grid.levels - state.map.getZoom())"
        )  # of a pixel of the screen
        page.keyboard.press("Enter")
        said(page, "New landslide 1 drawn. Saved.")
        drawn = reviews.read_reviews(server.gpkg)[-1].outline
        assert drawn.area == pytest.approx((80 * metres) ** 2 / 2, rel=1e-3)
        page.keyboard.press("n")
        page.keyboard.press("c")
        page.keyboard.press("c")  # which is no corner, and not dropped without a word
        said(page, "There is a corner at the cross already")
        page.keyboard.press("Shift+ArrowLeft")  # in small steps
        page.keyboard.press("c")
        assert page.evaluate("state.drawing.corners.length") == 2
        for _ in range(30):
            page.keyboard.press("ArrowRight")
        middle = page.evaluate("state.map.getCenter().lng")
        assert GRID.bounds[2] < middle < GRID.bounds[2] + 0.11 * (GRID.bounds[2] - GRID.bounds[0])


def test_a_legend_says_what_the_outlines_are(browser: object, server: Server) -> None:
    with window(browser, server) as page:
        assert page.locator("#outline-legend li").all_text_contents() == ["open"]
        page.keyboard.press("j")
        page.keyboard.press("a")
        page.wait_for_selector("#outline-legend >> text=accepted")
        page.keyboard.press("r")
        said(page, "rejected. Saved.")
        page.keyboard.press("h")  # which shows both
        page.wait_for_selector("#outline-legend >> text=rejected")
        shown = page.eval_on_selector_all(
            "#outline-legend li",
            "all => all.map(one => [one.textContent, one.querySelector('line:last-child').getAttribute('stroke')])",
        )
        assert shown == [[state, page.evaluate(f"STYLES.{state}.color")] for state in ("open", "accepted", "rejected")]
        page.fill("#threshold-number", "0.85")
        page.wait_for_selector("#outline-legend >> text=candidate")
        page.uncheck("#show-outlines")
        page.wait_for_selector("#outline-legend", state="hidden")


def test_on_a_phone_nothing_covers_the_buttons(browser: object, server: Server) -> None:
    with window(browser, server, PHONE, has_touch=True) as page:
        page.tap("#draw")
        page.keyboard.press("Enter")
        said(page, "An outline needs three corners or more.")
        for button in ("#draw-back", "#draw-done", "#draw-cancel"):
            assert not overlap(page, "#status", button)
        page.tap("#draw-cancel")
        below = [page.locator(name).bounding_box()["y"] for name in ("#accept", "#scores-area")]
        assert below[0] < below[1]  # the map, then what is decided on it
    with window(browser, server) as page:
        below = [page.locator(name).bounding_box()["y"] for name in ("#scores-area", "#accept")]
        assert below[0] < below[1]


def test_a_site_without_landslides_is_drawn_and_prepared_with_them(browser: object, bare: Server) -> None:
    """From a folder that holds `prepared/` only to a label: burnt by rasterio from what GDAL reads of the drawings."""
    with window(browser, bare) as page:
        offered = page.locator("#layer-left option").all_text_contents()
        assert "True colour" in offered and "Reference" not in offered and "Hits, misses, false alarms" not in offered
        assert "[landslides] in site.toml" in page.text_content("#no-inventory")
        assert page.is_hidden("#table-area") and page.is_disabled("#accept")
        page.keyboard.press("j")
        said(page, "N draws one")
        assert not bare.gpkg.exists()  # looking alone writes nothing
        for number, (x, y) in enumerate([(200, 200), (500, 450)], start=1):
            page.click("#draw")
            for dx, dy in [(0, 0), (120, 10), (100, 110)]:
                page.mouse.click(x + dx, y + dy)
            page.keyboard.press("Enter")
            said(page, f"New landslide {number} drawn. Saved.")
        page.wait_for_selector("#rows >> text=new 2")
        assert page.text_content("#progress") == "2 drawn"
        page.keyboard.press("u")
        said(page, "new landslide 2 is removed")
        page.keyboard.press("Shift+U")
        said(page, "new landslide 2 is drawn")
    with window(browser, bare) as page:  # opened anew
        assert page.text_content("#progress") == "2 drawn"
        wait_for_outlines(page, outlines=True)
    drawn = gpd.read_file(bare.gpkg, layer="review")
    assert list(drawn.state) == ["drawn", "drawn"]
    site = bare.run / "site.toml"
    (again := bare.run / "again.toml").write_text(
        site.read_text() + '[landslides]\npath = "inventory/landslides.gpkg"\n'
    )
    prepare(read_site(again), bare.run / "labelled", figures=False)
    burnt = rasterize(list(drawn.geometry), GRID.shape, transform=GRID.transform)
    assert burnt.sum() > 50
    assert np.array_equal(read_stored(bare.run / "labelled" / "label.tif"), burnt)


def test_a_map_without_an_inventory_is_drawn_on(browser: object, server: Server) -> None:
    made_before = server.gpkg.parent.rename(server.run / "made before")
    other = Server(server.run)
    try:
        with window(browser, other) as page:
            assert "landslip inventory" in page.text_content("#no-inventory")
            wait_for_outlines(page, candidates=True)
            page.keyboard.press("n")
            for x, y in [(200, 200), (300, 210), (290, 300)]:
                page.mouse.click(x, y)
            page.keyboard.press("Enter")
            said(page, "New landslide 1 drawn. Saved.")
            page.wait_for_function(
                "() => state.candidates.getLayers().length > 0 && state.outlines.getLayers().length > 0"
            )
            assert page.locator("#outline-legend li").all_text_contents() == ["drawn", "candidate"]
        before = reviews.read_reviews(other.gpkg)[-1]
        made = make_inventory(server.run / "map" / "probability.tif", other.gpkg, overwrite=True)
        after = reviews.read_reviews(other.gpkg)
        assert made.count > 0 and list(after) == [-1] and after[-1].outline.equals(before.outline)
    finally:
        other.kill()
        shutil.rmtree(server.gpkg.parent)
        made_before.rename(server.gpkg.parent)


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
