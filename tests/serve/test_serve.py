"""The server: layers and tiles against the rasters themselves, reviews, refusals, and who may ask."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import geopandas as gpd
import matplotlib.image
import numpy as np
import pytest
import shapely
from affine import Affine
from conftest import CRS_UTM, GRID, TinySite, frame, polygon
from rasterio.crs import CRS

from landslip.dataset.channels import read_stack_info
from landslip.errors import OutputError, RasterError
from landslip.evaluation.evaluate import evaluate
from landslip.geo import vector
from landslip.geo.geodesy import area_and_perimeter
from landslip.geo.geopackage import write_vector
from landslip.geo.geotiff import write_raster
from landslip.geo.grid import Grid
from landslip.geo.raster import PROBABILITY, read_stored
from landslip.inventory.inventory import make_inventory
from landslip.metrics.confusion import SCORES, Confusion
from landslip.plots import palette
from landslip.review import reviews
from landslip.runtime.run_folder import open_run

pytest.importorskip("fastapi", reason="the page needs landslip[serve]")
pytest.importorskip("httpx", reason="FastAPI's test client needs httpx")
from fastapi.testclient import TestClient
from made_up import write_run

from landslip.serve import app, guard, routes, tiles
from landslip.serve.app import MODULES, create_app
from landslip.serve.session import Session

HOST = "http://127.0.0.1:8008"
MARS = CRS.from_wkt(
    'PROJCS["SimpleCylindrical_Mars",GEOGCS["GCS_Mars",DATUM["D_Mars",SPHEROID["Mars",3396190,0]],'
    'PRIMEM["Reference_Meridian",0],UNIT["degree",0.0174532925199433]],PROJECTION["Equirectangular"],'
    'PARAMETER["standard_parallel_1",0],PARAMETER["central_meridian",0],PARAMETER["false_easting",0],'
    'PARAMETER["false_northing",0],UNIT["metre",1]]'
)


@pytest.fixture
def run(tmp_path: Path, made: TinySite) -> Path:
    (tmp_path / "run" / "map").mkdir(parents=True)
    return write_run(tmp_path / "run", made)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def client(run: Path, said: list[str]) -> Iterator[TestClient]:
    with client_of(run, said) as client:
        yield client


def client_of(run: Path, said: list[str] | None = None) -> TestClient:
    session = Session(open_run(run), (said if said is not None else []).append)
    return TestClient(create_app(session, guard.names_of("127.0.0.1")), HOST, raise_server_exceptions=False)


def picture(content: bytes) -> np.ndarray:
    """(256, 256, 4) uint8, read by another program's decoder (matplotlib's)."""
    return np.rint(matplotlib.image.imread(io.BytesIO(content), format="png") * 255).astype(np.uint8)


def box(bounds: tuple[float, ...] = GRID.bounds) -> dict[str, float]:
    return dict(zip(("left", "bottom", "right", "top"), bounds, strict=True))


def test_the_page_knows_the_run(client: TestClient) -> None:
    about = client.get("/api/run").json()
    assert about["name"] == "tiny"
    assert [about["grid"][side] for side in ("left", "bottom", "right", "top")] == list(GRID.bounds)
    assert about["threshold"] == about["inventory_threshold"] == 0.4
    assert about["parts"][0] == "test" and about["reviewable"]
    titles = {layer["key"]: layer["title"] for layer in about["layers"]}
    assert {"true-colour", "false-colour", "slope", "aspect", "lithology", "probability", "agreement", "map"} <= set(
        titles
    )
    assert "reference" in titles and "aspect-sin" not in titles and "lithology-soft" not in titles


def test_tiles_show_the_rasters_pixels(client: TestClient, run: Path) -> None:
    """At the last zoom a pixel of a tile is a pixel of the raster, and nothing lies beyond the raster."""
    stored = read_stored(run / "inventory" / "landslides.tif")
    shown = picture(client.get("/api/tiles/map/0/0/0.png").content)  # 128 x 192: one tile, one zoom
    assert np.array_equal(shown[:128, :192, 3] > 0, stored == 1)
    assert not shown[128:].any() and not shown[:, 192:].any()
    probability = picture(client.get("/api/tiles/probability/0/0/0.png").content)
    assert not probability[:128, :3, 3].any() and (probability[:128, 3:192, 3] == 255).all()


def test_hits_misses_and_false_alarms_at_any_threshold(client: TestClient, run: Path) -> None:
    values = read_stored(run / "map" / "probability.tif")
    label = read_stored(run / "prepared" / "label.tif")
    for threshold in (0.4, 0.8):
        shown = picture(client.get(f"/api/tiles/agreement/0/0/0.png?threshold={threshold}").content)[:128, :192]
        colours = {
            palette.HITS: (values >= threshold) & (label == 1),
            palette.MISSES: (values < threshold) & (label == 1),
        }
        colours[palette.FALSE_ALARMS] = (values >= threshold) & (label == 0)
        for colour, where in colours.items():
            rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
            assert np.array_equal((shown[..., :3] == rgb).all(-1) & (shown[..., 3] > 0), where), (threshold, colour)


def test_images_are_stretched_between_percentiles(client: TestClient, run: Path) -> None:
    names = [channel.name for channel in read_stack_info(run / "prepared" / "stack.tif").channels]
    shown = picture(client.get("/api/tiles/true-colour/0/0/0.png").content)[:128, :192]
    for part, name in enumerate(("red", "green", "blue")):
        band = read_stored(run / "prepared" / "stack.tif", names.index(name) + 1)
        low, high = np.percentile(band, (2, 98))
        expected = np.clip((band - low) / (high - low), 0, 1) * 255
        assert np.abs(shown[..., part] - expected).max() < 1.01  # rounded down
    assert (shown[..., 3] == 255).all()


def test_lithology_is_shown_by_class_and_aspect_by_direction(client: TestClient, run: Path) -> None:
    names = [channel.name for channel in read_stack_info(run / "prepared" / "stack.tif").channels]
    legend = client.get("/api/layers/lithology/legend").json()["classes"]
    shown = picture(client.get("/api/tiles/lithology/0/0/0.png").content)[:128, :192, :3]
    for one in legend:
        plane = read_stored(run / "prepared" / "stack.tif", names.index(f"lithology_{one['name'].lower()}") + 1)
        rgb = [int(one["colour"][i : i + 2], 16) for i in (1, 3, 5)]
        assert np.array_equal((shown == rgb).all(-1), plane == 1)
    sine, cosine = (read_stored(run / "prepared" / "stack.tif", names.index(f"aspect_{n}") + 1) for n in ("sin", "cos"))
    share = np.degrees(np.arctan2(sine, cosine)) % 360 / 360
    expected = tiles._ramp("twilight")[np.maximum((share * 255).astype(int), 1), :3].astype(int)
    aspect = picture(client.get("/api/tiles/aspect/0/0/0.png").content)[:128, :192].astype(int)
    clear = (sine == 0) & (cosine == 0)
    assert not aspect[clear, 3].any()
    assert np.abs(aspect[..., :3] - expected)[~clear].max() <= 8  # a step of the ramp, where float32 rounds


def test_bands_of_uncertainty_are_layers(run: Path) -> None:
    path = run / "map" / "probability.tif"
    values = read_stored(path)
    inside = np.where(np.isnan(values), np.nan, np.indices(values.shape)[1] < 100).astype(np.float32)
    names = [PROBABILITY, "dissimilarity index", "area of applicability", "disagreement"]
    write_raster(path, np.stack([values, values * 3, inside, values / 2]), GRID, names, np.nan, overwrite=True)
    with client_of(run) as client:
        groups = {one["key"]: one["group"] for one in client.get("/api/run").json()["layers"]}
        assert groups["dissimilarity-index"] == groups["disagreement"] == "Uncertainty"
        shown = picture(client.get("/api/tiles/area-of-applicability/0/0/0.png").content)[:128, :192, 3]
        assert np.array_equal(shown > 0, inside == 0)
        low, high = client.get("/api/layers/dissimilarity-index/legend").json()["range"]
        assert (low, high) == pytest.approx(tuple(np.nanpercentile(values * 3, (2, 98))))


def test_where_the_server_listens(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    heard: list[socket.socket] = []
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: heard.extend(sockets))
    app.serve(run, 0)
    assert heard[0].getsockname()[0] == "127.0.0.1" and heard[0].proto == socket.IPPROTO_TCP
    assert "warning" not in capsys.readouterr().err
    with pytest.raises(OutputError, match="cannot be listened on"):
        app.serve(run, heard[0].getsockname()[1])
    app.serve(run, 0, "0.0.0.0")
    assert "there is no password" in " ".join(capsys.readouterr().err.split())
    for one in heard:
        one.close()


def test_a_tile_that_the_browser_has_is_not_sent_again(client: TestClient, run: Path) -> None:
    first = client.get("/api/tiles/map/0/0/0.png")
    tag = {"if-none-match": first.headers["etag"]}
    assert first.headers["cache-control"] == "private, no-cache"
    again = client.get("/api/tiles/map/0/0/0.png", headers=tag)
    assert again.status_code == 304 and not again.content
    mark = next(one["mark"] for one in client.get("/api/run").json()["layers"] if one["key"] == "map")
    assert "immutable" in client.get(f"/api/tiles/map/0/0/0.png?mark={mark}").headers["cache-control"]
    make_inventory(run / "map" / "probability.tif", run / "inventory" / "landslides.gpkg", 0.7, overwrite=True)
    new = client.get("/api/tiles/map/0/0/0.png", headers=tag)
    assert new.status_code == 200
    assert np.array_equal(
        picture(new.content)[:128, :192, 3] > 0, read_stored(run / "inventory" / "landslides.tif") == 1
    )


def test_scores_come_at_every_threshold(client: TestClient, run: Path) -> None:
    found = client.get("/api/scores?part=test").json()
    paths = run / "map" / "probability.tif", run / "prepared" / "label.tif", run / "model" / "split.tif"
    for threshold in (0.1, 0.4, 0.805):
        expected = evaluate(*paths, threshold=threshold)
        at = found["thresholds"][round(1000 * threshold)]
        assert (at["tp"], at["fp"]) == (expected.confusion.tp, expected.confusion.fp)
        assert at["tp"] + at["fp"] + at["fn"] + at["tn"] == expected.pixels
        assert {name: at[name] for name in SCORES} == expected.confusion.scores()
    assert routes._scores_at(Confusion(0, 0, 1, 1)).precision is None  # nothing is mapped, and JSON has no NaN
    assert (found["part"], found["split"], found["leaky"]) == ("test", expected.split, expected.leaky)
    training = client.get("/api/scores?part=train").json()
    assert training["leaky"] is True and "includes training ground: 100.0 %" in training["notes"][0]


def test_without_a_split_scores_say_so(run: Path) -> None:
    (run / "model" / "split.tif").unlink()
    with client_of(run) as client:
        assert client.get("/api/run").json()["parts"] == ["all"]
        found = client.get("/api/scores?part=all").json()
        assert found["leaky"] is None and "split unknown" in found["notes"][0]
        assert client.get("/api/scores?part=test").status_code == 404


def test_landslides_and_their_outlines(client: TestClient, run: Path) -> None:
    table = vector.read_vector(run / "inventory" / "landslides.gpkg", "inventory")
    rows = client.get("/api/landslides").json()["landslides"]
    assert [row["id"] for row in rows] == table["id"].tolist()
    assert [row["attributes"]["area_m2"] for row in rows] == table.area_m2.tolist()
    first = table.iloc[0].geometry
    near = client.get("/api/outlines", params=box(first.bounds)).json()
    assert {one["id"] for one in near["features"]} == set(table.id[table.intersects(first.envelope)])
    assert near["left_out"] == 0


def test_candidates_are_what_an_inventory_would_hold(client: TestClient, run: Path, tmp_path: Path) -> None:
    make_inventory(run / "map" / "probability.tif", tmp_path / "other.gpkg", 0.75)
    expected = vector.read_vector(tmp_path / "other.gpkg")
    found = client.get("/api/candidates", params=box() | {"threshold": 0.75}).json()["features"]
    shapes = sorted((shapely.geometry.shape(one["geometry"]) for one in found), key=lambda one: one.bounds)
    truth = sorted(expected.geometry, key=lambda one: one.bounds)
    assert len(shapes) == len(truth) and all(a.equals(b) for a, b in zip(shapes, truth, strict=True))


def test_a_decision_is_kept_before_it_is_answered(client: TestClient, run: Path) -> None:
    gpkg = run / "inventory" / "landslides.gpkg"
    made = client.post("/api/reviews", json={"landslide": 1, "state": "accepted", "note": "fresh"}).json()
    assert reviews.read_reviews(gpkg)[1].note == "fresh" and made["state"] == "accepted"
    late = client.post("/api/reviews", json={"landslide": 1, "state": "rejected", "version": 0})
    assert late.status_code == 409 and "accepted now" in late.json()["error"]
    ring = list(polygon(10, 10, 5, 5).exterior.coords)
    drawn = client.post(
        "/api/reviews",
        json={"landslide": None, "state": "drawn", "outline": {"type": "Polygon", "coordinates": [ring]}},
    ).json()
    # true metres, as in the inventory: on UTM's central meridian its own are 0.9996 of them
    true = float(area_and_perimeter(np.array([shapely.Polygon(ring)]), GRID.crs)[0][0])
    assert drawn["landslide"] == -1 and drawn["area_m2"] == true != 25 * 225
    shown = client.get("/api/outlines", params=box()).json()["features"]
    assert next(one for one in shown if one["id"] == -1)["state"] == "drawn"
    assert client.post("/api/reviews/undo", json={"decision": drawn["decision"]}).json()["state"] == "open"
    assert client.post("/api/reviews/redo", json={"decision": drawn["decision"]}).json()["state"] == "drawn"
    outline = {"type": "Polygon", "coordinates": [ring]}
    sent = {"landslide": 1, "state": "redrawn", "outline": outline, "version": made["version"]}
    redrawn = client.post("/api/reviews", json=sent).json()
    sent = {"landslide": 1, "state": "accepted", "version": redrawn["version"]}
    accepted = client.post("/api/reviews", json=sent).json()  # as it was redrawn
    assert accepted["state"] == "redrawn" and accepted["area_m2"] == redrawn["area_m2"] == true
    sent = {"landslide": 1, "state": "rejected", "version": accepted["version"]}
    made = client.post("/api/reviews", json=sent).json()  # rejected is the inventory's outline
    assert made["area_m2"] is None
    assert client.get("/api/reviews", params={"since": made["version"]}).json()["reviews"] == []
    client.post("/api/reviews/undo", json={"decision": drawn["decision"]})
    news = client.get("/api/reviews", params={"since": made["version"]}).json()
    assert [one["landslide"] for one in news["reviews"]] == [-1]


def test_two_windows_at_once_lose_nothing(client: TestClient, run: Path) -> None:
    ids = [row["id"] for row in client.get("/api/landslides").json()["landslides"]][:12]
    answers: list[int] = []

    def window(state: str) -> None:
        for landslide in ids:
            sent = {"landslide": landslide, "state": state, "version": 0}
            answers.append(client.post("/api/reviews", json=sent).status_code)

    windows = [threading.Thread(target=window, args=(state,)) for state in ("accepted", "rejected")]
    for one in windows:
        one.start()
    for one in windows:
        one.join()
    assert sorted(answers) == [200] * len(ids) + [409] * len(ids)
    assert set(reviews.read_reviews(run / "inventory" / "landslides.gpkg")) == set(ids)


@pytest.mark.parametrize(
    ("sent", "status", "message"),
    [
        ({"landslide": 999, "state": "accepted"}, 422, "no landslide 999"),
        ({"landslide": 1, "state": "gone"}, 422, "state"),
        ({"landslide": 1, "state": "accepted", "extra": 1}, 422, "extra"),
        ({"landslide": 2**63, "state": "accepted"}, 422, "landslide"),
        ({"landslide": 1, "state": "redrawn"}, 422, "outline belongs to"),
        ([], 422, "body"),
    ],
)
def test_bad_decisions_are_refused(client: TestClient, sent: object, status: int, message: str) -> None:
    answer = client.post("/api/reviews", json=sent)
    assert answer.status_code == status and message in answer.json()["error"]


@pytest.mark.parametrize(
    ("ring", "message"),
    [
        ([(0, 0), (1, 0), (1, 1), (0, 0)], "off the site"),
        ([(460_000, 3_429_000), (461_000, 3_429_000), (461_000, 3_428_000), (460_000, 3_428_000)], "not closed"),
        ([(460_000, 3_429_000), (461_000, 3_428_000), (461_000, 3_429_000), (460_000, 3_428_000), (460_000, 3_429_000)],
         "no simple area"),
        ([(1e300, 0), (1, 0), (1, 1), (1e300, 0)], "no place on the map"),
    ],
)  # fmt: skip
def test_outlines_that_are_no_place(client: TestClient, ring: list, message: str) -> None:
    sent = {"landslide": None, "state": "drawn", "outline": {"type": "Polygon", "coordinates": [ring]}}
    answer = client.post("/api/reviews", json=sent)
    assert answer.status_code == 422 and message in answer.json()["error"]


def test_bodies_that_are_no_json(client: TestClient) -> None:
    headers = {"content-type": "application/json"}
    for body in (b"", b"{", b"\xff\xfe", b'{"landslide": NaN, "state": "accepted"}', b"[" * 5000):
        answer = client.post("/api/reviews", content=body, headers=headers)
        assert 400 <= answer.status_code < 500 and answer.json()["error"], body
    answer = client.post(
        "/api/reviews",
        content=json.dumps({"landslide": 1, "state": "accepted"}),
        headers={"content-type": "text/plain"},
    )
    assert answer.status_code == 422  # what a form of another site could send
    large = client.post("/api/reviews", content=b"x" * (guard.MOST_SENT + 1), headers=headers)
    assert large.status_code == 413 and "error" in large.json()

    def pieces() -> Iterator[bytes]:  # a body that does not say how long it is
        for _ in range(3):
            yield b"x" * (guard.MOST_SENT // 2)

    assert client.post("/api/reviews", content=pieces(), headers=headers).status_code == 413


def test_only_this_computers_own_page_may_ask(client: TestClient, run: Path) -> None:
    sent = {"landslide": 1, "state": "accepted"}
    refused = [
        {"host": "evil.example"},  # a name pointed at this computer: DNS rebinding
        {"host": "127.0.0.1.evil.example:8008"},
        {"host": "192.168.1.5:8008"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
    ]
    for headers in refused:
        for answer in (
            client.get("/api/run", headers=headers),
            client.post("/api/reviews", json=sent, headers=headers),
        ):
            assert answer.status_code == 403 and answer.json()["error"], headers
    assert reviews.read_reviews(run / "inventory" / "landslides.gpkg") == {}
    taken = [{"host": "localhost:8008"}, {"host": "[::1]:8008"}, {"origin": HOST}, {"sec-fetch-site": "same-origin"}]
    for headers in taken:
        assert client.get("/api/run", headers=headers).status_code == 200, headers
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/", headers=link).status_code == 200
    assert client.get("/api/run", headers=link).status_code == 403


def test_a_server_for_others_answers_to_addresses_and_its_own_name() -> None:
    everyone = guard.Guard(lambda *_: None, guard.names_of("0.0.0.0"))  # type: ignore[arg-type]
    assert all(everyone._is_here(name) for name in ("192.168.1.5", "localhost", "[::1]:8008"))
    assert not everyone._is_here("evil.example")
    alone = guard.Guard(lambda *_: None, guard.names_of("127.0.0.1"))  # type: ignore[arg-type]
    assert not alone._is_here("192.168.1.5")


def test_no_path_names_a_file(client: TestClient) -> None:
    for path in (
        "/../../etc/passwd", "/..%2f..%2fetc/passwd", "/api/tiles/..%2f..%2fprobability/0/0/0.png", "/site.toml",
        "/api/layers/%2e%2e/legend", "/api/layers/nothing/legend", "/page.html", "/prepared/stack.tif",
        "/api/tiles/map/0/1/0.png", "/api/tiles/map/9/0/0.png", "/docs", "/redoc",
    ):  # fmt: skip
        answer = client.get(path)
        assert answer.status_code in (404, 422) and "error" in answer.json(), path


def test_every_answer_binds_the_browser(client: TestClient) -> None:
    modules = [f"/{name}" for name in MODULES]
    for path in ("/", *modules, "/leaflet.js", "/api/run", "/nothing"):
        policy = client.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy
    page = client.get("/").text
    assert "http://" not in page and "https://" not in page and "<script>" not in page and "style=" not in page
    assert not [path for path in modules if "innerHTML" in client.get(path).text]


def test_a_module_of_the_page_imports_those_before_it_only(client: TestClient) -> None:
    """So no two import each other, and what the page asks for first is enough to fetch all at once."""
    for number, name in enumerate(MODULES):
        text = client.get(f"/{name}").text
        assert set(re.findall(r'from "\./(.*)"', text)) <= set(MODULES[:number]), name
    assert '<script src="/page.js" type="module">' in client.get("/").text


def test_a_file_that_goes_while_it_is_served(client: TestClient, run: Path) -> None:
    (run / "map" / "probability.tif").unlink()
    answer = client.get("/api/tiles/probability/0/0/0.png")
    assert answer.status_code == 503 and "is gone" in answer.json()["error"]
    (run / "inventory" / "landslides.gpkg").write_bytes(b"no database at all, and long enough" * 40)
    for answer in (client.get("/api/reviews"), client.post("/api/reviews", json={"landslide": 1, "state": "accepted"})):
        assert answer.status_code == 503 and "cannot be read as a GeoPackage" in answer.json()["error"]


def test_a_run_without_an_inventory_is_looked_at_and_drawn_into(run: Path) -> None:
    path = run / "inventory" / "landslides.gpkg"
    shutil.rmtree(run / "inventory")
    ring = [[x, y] for x, y in polygon(20, 20, 5, 5).exterior.coords]
    drawn = {"landslide": None, "state": "drawn", "outline": {"type": "Polygon", "coordinates": [ring]}}
    off_site = {**drawn["outline"], "coordinates": [[[x - 1e5, y] for x, y in ring]]}
    with client_of(run) as client:
        assert client.get("/api/run").json()["reviewable"] is False
        assert client.get("/api/landslides").json()["landslides"] == []
        answer = client.post("/api/reviews", json={"landslide": 1, "state": "accepted"})
        assert answer.status_code == 404 and "landslip inventory" in answer.json()["error"]
        for refused in ({**drawn, "outline": off_site}, {**drawn, "outline": None}, {**drawn, "landslide": 3}):
            assert client.post("/api/reviews", json=refused).status_code in (404, 422)
        assert not path.exists()  # what is refused makes no file
        with ThreadPoolExecutor(4) as windows:
            answers = list(windows.map(lambda _: client.post("/api/reviews", json=drawn), range(4)))
        assert sorted(answer.json()["landslide"] for answer in answers) == [-4, -3, -2, -1]
        assert client.get("/api/run").json()["reviewable"] is True
        shown = client.get("/api/outlines", params=box()).json()["features"]
        assert {one["id"]: one["state"] for one in shown} == dict.fromkeys((-4, -3, -2, -1), "drawn")
    table = gpd.read_file(path, layer="review")
    assert table.crs == "EPSG:32649" and table.geometry.geom_equals(shapely.MultiPolygon([polygon(20, 20, 5, 5)])).all()


def test_an_inventory_that_is_made_while_the_run_is_served_is_shown(run: Path) -> None:
    shutil.rmtree(run / "inventory")
    with client_of(run) as client:
        assert client.get("/api/landslides").json()["landslides"] == []
        made = make_inventory(run / "map" / "probability.tif", run / "inventory" / "landslides.gpkg")
        assert len(client.get("/api/landslides").json()["landslides"]) == made.count > 0


def test_where_nothing_may_be_written_a_drawing_says_so(run: Path) -> None:
    """A file where the inventory's folder would be: root, whom rights do not bind, is refused too."""
    shutil.rmtree(run / "inventory")
    (run / "inventory").write_text("in the way")
    ring = [[x, y] for x, y in polygon(20, 20, 5, 5).exterior.coords]
    drawn = {"landslide": None, "state": "drawn", "outline": {"type": "Polygon", "coordinates": [ring]}}
    with client_of(run) as client:
        answer = client.post("/api/reviews", json=drawn)
        assert answer.status_code == 503 and "inventory" in answer.json()["error"]


def test_a_label_without_landslides_is_no_reference(run: Path) -> None:
    label = run / "prepared" / "label.tif"
    write_raster(label, np.full((1, *GRID.shape), 255, np.uint8), GRID, ["label"], 255, overwrite=True)
    with client_of(run) as client:
        about = client.get("/api/run").json()
        assert not {"reference", "agreement"} & {layer["key"] for layer in about["layers"]}
        assert "probability" in {layer["key"] for layer in about["layers"]} and about["parts"] == []
    for path in (run / "prepared" / "stack.tif", run / "map" / "probability.tif", run / "inventory" / "landslides.tif"):
        path.unlink()
    with pytest.raises(RasterError, match="holds no raster to show"):
        Session(open_run(run))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_server_opens_a_browser_and_has_last_words_of_its_own(run: Path, number: int, code: int) -> None:
    """A browser that writes down what it is to open, as webbrowser finds it by $BROWSER."""
    (seen := run / "opened").touch()
    (browser := run / "browser").write_text(f'#!/bin/sh\necho "$1" > {seen}\n')
    browser.chmod(0o755)
    command = [sys.executable, "-m", "landslip", "serve", str(run), "--port", "0", "--open"]
    told = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | {"BROWSER": f"{browser} %s"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a test run in the background ignores Ctrl-C
    )  # fmt: skip
    assert told.stderr is not None
    first = told.stderr.readline()
    address = next(word for word in first.split() if word.startswith("http://"))
    for _ in range(200):
        if seen.read_text():
            break
        time.sleep(0.05)
    assert seen.read_text() == f"{address}\n" and "the browser opens it; Ctrl-C ends it" in first
    assert urllib.request.urlopen(f"{address}api/run").status == 200
    told.send_signal(number)
    rest = told.communicate(timeout=60)[1]
    assert told.returncode == code
    assert "is served no more" in rest and "half written" not in rest and "the same command" not in rest


def test_a_raster_on_another_grid_is_left_out_and_named(run: Path) -> None:
    other = Grid(CRS_UTM, Affine(15, 0, 0, 0, -15, 0), 20, 20)
    write_raster(run / "prepared" / "label.tif", np.zeros((1, 20, 20), np.uint8), other, ["label"], 255, overwrite=True)
    with client_of(run) as client:
        about = client.get("/api/run").json()
        assert "label.tif is not shown: it lies on another grid" in about["warnings"][0]
        assert "reference" not in [layer["key"] for layer in about["layers"]] and about["parts"] == []


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A Martian raster without overviews, wide enough to be thinned in memory; each pixel says where it is."""
    folder = tmp_path_factory.mktemp("wide")
    (folder / "map").mkdir()
    rows, columns = np.mgrid[0:600, 0:5000]
    values = ((rows // 8 * 7 + columns // 8 * 3) % 256 / 255).astype(np.float32)
    values[:40] = np.nan
    grid = Grid(MARS, Affine(232, 0, -5_513_958, 0, -232, -162_531), 600, 5000)
    write_raster(folder / "map" / "probability.tif", values[None], grid, [PROBABILITY], np.nan)
    return folder, values


def test_tiles_from_afar_without_overviews(wide: tuple[Path, np.ndarray]) -> None:
    """Zoomed out, every tile pixel is a pixel of the raster within the square that it stands for; said once."""
    folder, values = wide
    said: list[str] = []
    session = Session(open_run(folder), said.append)
    layer = session.tiles.layers["probability"]
    assert session.tiles.levels == 5 and session.tiles.thin == 4
    shades = tiles._ramp("viridis")[:, :3]
    for z, x, y in [(0, 0, 0), (1, 1, 0), (2, 1, 0), (3, 3, 0), (5, 19, 2)]:
        shown = picture(session.tiles.tile(layer, z, x, y, 0.0))
        factor = 2 ** (5 - z)
        for row, column in [(0, 0), (3, 5), (17, 100), (120, 135)]:
            top, left = (y * 256 + row) * factor, (x * 256 + column) * factor
            square = values[top : top + factor, left : left + factor]
            if not square.size or np.isnan(square).all():
                assert shown[row, column, 3] == 0
            elif not np.isnan(square).any():
                possible = shades[np.unique(np.maximum((square * 255).astype(np.uint8), 1))]
                assert (possible == shown[row, column, :3]).all(-1).any(), (z, row, column)
    assert len(said) == 1 and "gdaladdo" in said[0]


def test_a_view_lies_on_the_grid(wide: tuple[Path, np.ndarray]) -> None:
    folder, values = wide
    session = Session(open_run(folder), lambda _: None)
    layer, left, top = session.tiles.layers["probability"], -5_513_958, -162_531
    seen = session.tiles.view(layer, (left + 232 * 100.5, top - 232 * 300.5, left + 232 * 400.5, top - 232 * 50.5), 400)
    assert seen is not None
    shown, grid = seen
    assert np.array_equal(shown, values[50:301, 100:401])
    assert grid.bounds == pytest.approx((left + 23_200, top - 232 * 301, left + 232 * 401, top - 232 * 50))
    coarse = session.tiles.view(layer, (left, top - 232 * 600, left + 232 * 5000, top), 700)
    assert coarse is not None and coarse[1].x_size == 8 * 232 and coarse[0].shape == (75, 625)
    assert session.tiles.view(layer, (0, 0, 1, 1), 700) is None


def test_attributes_of_any_column_are_shown(run: Path) -> None:
    path = run / "inventory" / "landslides.gpkg"
    path.unlink()
    text = "<img src=x onerror=alert(1)>"
    table = frame([polygon(5, 5, 4, 4)], id=[1], area_m2=[3600.0], lithology=[text], slope_mean=[np.nan])
    write_vector(path, table, "inventory")
    with client_of(run) as client:
        row = client.get("/api/landslides").json()["landslides"][0]
        assert row["attributes"]["lithology"] == text and row["attributes"]["slope_mean"] is None


def test_the_page_has_a_word_for_every_column_of_an_inventory(client: TestClient) -> None:
    columns = set(client.get("/api/landslides").json()["columns"]) - {"id", "review"}
    page = client.get("/table.js").text
    assert len(columns) > 15 and not {name for name in columns if f"{name}: [" not in page}


def test_schemathesis_finds_no_server_error(run: Path) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed (it is not in [dev])")
    from hypothesis import HealthCheck, given, settings

    served = create_app(Session(open_run(run), lambda _: None), guard.names_of("127.0.0.1"))
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", served, headers={"host": "127.0.0.1:8008"})
    for operation in schema.get_all_operations():

        @given(case=operation.ok().as_strategy())
        @settings(max_examples=15, derandomize=True, suppress_health_check=list(HealthCheck))
        def every(case: object) -> None:
            answer = case.call(headers={"host": "127.0.0.1:8008"})  # type: ignore[attr-defined]
            assert answer.status_code < 500, answer.text

        every()
