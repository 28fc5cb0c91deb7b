"""Decisions in a GeoPackage: kept in one transaction each, versioned, undone, and readable by GDAL."""

from __future__ import annotations

import os
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import shapely
from affine import Affine
from conftest import GRID, frame, polygon
from rasterio.crs import CRS

import landslip.inventory.inventory
from landslip.errors import ConflictError, OutputError, ReviewError, VectorError
from landslip.geo import vector
from landslip.geo.geopackage import lock_geopackage, write_vector
from landslip.geo.geotiff import write_raster
from landslip.geo.grid import Grid
from landslip.inventory.inventory import make_inventory
from landslip.review import reviews

OUTLINES = [polygon(4, 4, 6, 8), polygon(30, 40, 10, 5), polygon(60, 90, 7, 7)]
NEW = polygon(100, 100, 9, 9)


@pytest.fixture
def gpkg(tmp_path: Path) -> Path:
    path = tmp_path / "landslides.gpkg"
    table = frame(
        OUTLINES, id=[1, 2, 3], area_m2=[shape.area for shape in OUTLINES], review=["open", "open", "accepted"]
    )
    write_vector(path, table, "inventory")
    return path


def layer(path: Path, name: str = "review") -> gpd.GeoDataFrame:
    """As GDAL sees it, which is what QGIS opens."""
    return gpd.read_file(path, layer=name)


def test_a_decision_is_a_row_that_gdal_reads(gpkg: Path) -> None:
    made = reviews.decide(gpkg, 1, "accepted", note="fresh scar")
    assert (made.landslide, made.state, made.note) == (1, "accepted", "fresh scar")
    row = layer(gpkg).iloc[0]
    assert (row.landslide, row.state, row.note, row.version) == (1, "accepted", "fresh scar", made.version)
    assert row.geometry.equals(OUTLINES[0])
    assert row.decided.tzinfo is not None and abs(row.decided.timestamp() - time.time()) < 60
    assert layer(gpkg).crs == "EPSG:32649"
    assert list(layer(gpkg, "inventory").review) == ["accepted", "open", "accepted"]


def test_the_file_stays_a_whole_geopackage(gpkg: Path) -> None:
    reviews.decide(gpkg, None, "drawn", outline=polygon(0, 0, 3, 3))
    reviews.decide(gpkg, 2, "redrawn", outline=NEW)
    reviews.decide(gpkg, 1, "rejected")
    assert set(vector.layer_names(gpkg)) == {"inventory", "review", "review_log"}
    info = pyogrio.read_info(gpkg, layer="review", force_total_bounds=True)
    assert info["features"] == 3 and info["geometry_type"] == "MultiPolygon"
    with sqlite3.connect(gpkg) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        headers = connection.execute("SELECT DISTINCT substr(geom, 1, 8) FROM review").fetchall()
        assert headers == [(b"GP\x00\x03" + (32649).to_bytes(4, "little"),)]
        extent = connection.execute(
            "SELECT min_x, min_y, max_x, max_y FROM gpkg_contents WHERE table_name = 'review'"
        ).fetchone()
    union = shapely.union_all([OUTLINES[0], NEW, polygon(0, 0, 3, 3)])
    assert extent == union.bounds == tuple(info["total_bounds"])
    # GDAL edits it, as QGIS does: its triggers and counts are of one mind with ours
    vector.layer_names(gpkg)
    pyogrio.write_dataframe(frame([NEW], id=[9], area_m2=[NEW.area], review=["open"]), gpkg, "inventory", append=True)
    assert reviews.decide(gpkg, 9, "accepted").outline.equals(NEW)


def test_who_decides_second_is_told(gpkg: Path) -> None:
    first = reviews.decide(gpkg, 1, "accepted")
    with pytest.raises(ConflictError, match="landslide 1 was changed meanwhile: it is accepted now"):
        reviews.decide(gpkg, 1, "rejected", version=0)
    assert reviews.read_reviews(gpkg)[1] == first
    assert reviews.decide(gpkg, 2, "rejected").state == "rejected"  # another landslide never conflicts
    assert reviews.decide(gpkg, 1, "rejected", version=first.version).state == "rejected"


def test_a_version_is_never_given_twice(gpkg: Path) -> None:
    """Undone and decided anew, a landslide is not what an old page thinks it is, though its state may be the same."""
    first = reviews.decide(gpkg, 1, "accepted")
    reviews.undo(gpkg, first.decision)
    reviews.decide(gpkg, 1, "accepted", version=reviews.read_reviews(gpkg)[1].version)
    with pytest.raises(ConflictError):
        reviews.decide(gpkg, 1, "rejected", version=first.version)


def test_undo_and_redo_go_through_several_decisions(gpkg: Path) -> None:
    made = [reviews.decide(gpkg, 1, "accepted")]
    made.append(reviews.decide(gpkg, 1, "redrawn", made[-1].version, NEW))
    made.append(reviews.decide(gpkg, 1, "rejected", made[-1].version))
    states = [reviews.undo(gpkg, decision.decision).state for decision in reversed(made)]
    assert states == ["redrawn", "accepted", "open"]
    assert len(layer(gpkg)) == 0 and next(iter(layer(gpkg, "inventory").review)) == "open"
    again = [reviews.redo(gpkg, decision.decision) for decision in made]
    assert [one.state for one in again] == ["accepted", "redrawn", "rejected"]
    assert again[1].outline.equals(NEW) and again[2].outline.equals(OUTLINES[0])  # rejected is what was mapped
    assert layer(gpkg).state.tolist() == ["rejected"]


def test_what_another_window_changed_is_not_undone(gpkg: Path) -> None:
    mine = reviews.decide(gpkg, 1, "accepted")
    theirs = reviews.decide(gpkg, 1, "rejected", mine.version)
    with pytest.raises(ConflictError, match="rejected now"):
        reviews.undo(gpkg, mine.decision)
    reviews.undo(gpkg, theirs.decision)
    with pytest.raises(ConflictError):
        reviews.undo(gpkg, theirs.decision)
    reviews.decide(gpkg, 1, "redrawn", reviews.read_reviews(gpkg)[1].version, NEW)
    with pytest.raises(ConflictError):
        reviews.redo(gpkg, theirs.decision)


def test_drawn_landslides_have_ids_below_zero(gpkg: Path) -> None:
    first = reviews.decide(gpkg, None, "drawn", outline=NEW)
    assert first.landslide == -1
    reviews.undo(gpkg, first.decision)
    assert reviews.decide(gpkg, None, "drawn", outline=NEW).landslide == -2  # the first can still be made again
    assert reviews.redo(gpkg, first.decision).state == "drawn"
    assert sorted(layer(gpkg).landslide) == [-2, -1]
    moved = reviews.decide(gpkg, -2, "redrawn", reviews.read_reviews(gpkg)[-2].version, polygon(0, 0, 5, 5))
    assert moved.state == "drawn"


def test_an_accepted_redrawing_keeps_its_outline(gpkg: Path) -> None:
    redrawn = reviews.decide(gpkg, 1, "redrawn", outline=NEW)
    made = reviews.decide(gpkg, 1, "accepted", redrawn.version, note="seen")
    assert (made.state, made.note) == ("redrawn", "seen") and made.outline.equals(NEW)
    assert layer(gpkg).state.tolist() == ["redrawn"] and next(iter(layer(gpkg, "inventory").review)) == "redrawn"
    assert next((one.state, one.outline.equals(NEW)) for one in reviews.corrections(gpkg)) == ("redrawn", True)
    drawn = reviews.decide(gpkg, None, "drawn", outline=polygon(0, 0, 5, 5))
    assert reviews.decide(gpkg, -1, "accepted", drawn.version).state == "drawn"
    rejected = reviews.decide(gpkg, 1, "rejected", made.version)  # which gives up what was drawn
    again = reviews.decide(gpkg, 1, "accepted", rejected.version)
    assert again.state == "accepted" and again.outline.equals(OUTLINES[0])
    assert reviews.undo(gpkg, again.decision).state == "rejected"


def test_a_state_that_the_inventory_kept_is_where_an_undo_ends(gpkg: Path) -> None:
    assert reviews.read_reviews(gpkg)[3].state == "accepted"
    made = reviews.decide(gpkg, 3, "rejected")
    assert reviews.undo(gpkg, made.decision).state == "accepted"
    assert list(layer(gpkg, "inventory").review)[2] == "accepted"


def test_corrections_are_the_layer_and_what_was_kept(gpkg: Path) -> None:
    reviews.decide(gpkg, 1, "rejected")
    undone = reviews.decide(gpkg, 2, "accepted")
    reviews.undo(gpkg, undone.decision)
    reviews.decide(gpkg, None, "drawn", outline=NEW)
    assert [(one.landslide, one.state) for one in reviews.corrections(gpkg)] == [
        (-1, "drawn"),
        (1, "rejected"),
        (3, "accepted"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"landslide": 7, "state": "accepted"}, "no landslide 7"),
        ({"landslide": 1, "state": "open"}, "cannot be 'open'"),
        ({"landslide": 1, "state": "redrawn"}, "an outline belongs to"),
        ({"landslide": 1, "state": "drawn", "outline": NEW}, "has no id yet"),
        ({"landslide": None, "state": "accepted"}, "has no id yet"),
        ({"landslide": 1, "state": "accepted", "note": "x" * 1001}, "1001 characters"),
        ({"landslide": 1, "state": "redrawn", "outline": shapely.LineString([(0, 0), (1, 1)])}, "not a LineString"),
        (
            {"landslide": 1, "state": "redrawn", "outline": shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])},
            "no simple",
        ),
        (
            {"landslide": 1, "state": "redrawn", "outline": shapely.Polygon([(0, 0), (1, 0), (0, float("nan"))])},
            "no number",
        ),
        ({"landslide": 1, "state": "redrawn", "outline": shapely.Point(0, 0).buffer(1, 6000)}, "24001 vertices"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(gpkg: Path, arguments: dict, message: str) -> None:
    before = gpkg.read_bytes()
    with pytest.raises(ReviewError, match=message):
        reviews.decide(gpkg, **arguments)
    assert gpkg.read_bytes() == before


def test_a_decision_on_a_file_that_is_replaced_meanwhile_is_not_said_to_be_kept(
    gpkg: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anew = gpkg.with_name("anew.gpkg")
    anew.write_bytes(gpkg.read_bytes())
    before, real = anew.read_bytes(), reviews.settle

    def replaced(*arguments: object) -> object:
        anew.replace(gpkg)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("landslip.review.reviews.settle", replaced)
    with pytest.raises(OutputError, match="made anew meanwhile"):
        reviews.decide(gpkg, 1, "accepted")
    assert gpkg.read_bytes() == before


def test_files_that_are_no_inventory(tmp_path: Path) -> None:
    with pytest.raises(VectorError, match="does not exist"):
        reviews.read_reviews(tmp_path / "none.gpkg")
    (tmp_path / "text.gpkg").write_text("not a database, and long enough to be one" * 30)
    with pytest.raises(VectorError, match="cannot be read as a GeoPackage"):
        reviews.decide(tmp_path / "text.gpkg", 1, "accepted")
    write_vector(tmp_path / "other.gpkg", frame([NEW]), "rivers")
    with pytest.raises(VectorError, match="no layer inventory"):
        reviews.decide(tmp_path / "other.gpkg", 1, "accepted")


def test_a_file_that_another_program_holds(gpkg: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landslip.review.review_tables.PATIENCE", 0.05)
    other = sqlite3.connect(gpkg, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(OutputError, match="Another program keeps it locked"):
        reviews.decide(gpkg, 1, "accepted")
    other.close()
    assert reviews.decide(gpkg, 1, "accepted").state == "accepted"


def test_threads_that_review_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "many.gpkg"
    shapes = [polygon(row, column, 3, 3) for row in range(0, 40, 5) for column in range(0, 50, 5)]
    write_vector(path, frame(shapes, id=list(range(1, 81))), "inventory")

    def judge(landslide: int) -> int:
        return reviews.decide(path, landslide, "accepted" if landslide % 2 else "rejected").version

    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(judge, range(1, 81)))
    assert sorted(versions) == list(range(1, 81))
    kept = layer(path).set_index("landslide").state
    assert all(kept[i] == ("accepted" if i % 2 else "rejected") for i in range(1, 81))

    def quarrel(state: str) -> bool:
        try:
            reviews.decide(path, 1, state, version=versions[0])
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(quarrel, ["accepted", "rejected"] * 4)) == 1


def test_a_killed_process_loses_no_decision_and_leaves_none_half(gpkg: Path) -> None:
    """Whatever a process said it had kept before kill -9 is there, and the log and the layer are of one mind."""
    code = """
import sys
from pathlib import Path
from landslip.review import reviews as review
path, version = Path(sys.argv[1]), 0
while True:
    version = review.decide(path, 1, "accepted" if version % 2 else "rejected", version).version
    print(version, flush=True)
"""
    for attempt in range(3):
        worker = subprocess.Popen(
            [sys.executable, "-c", code.replace("version = Path(sys.argv[1]), 0", "version = Path(sys.argv[1]), "
             "review.last_version(Path(sys.argv[1]))"), str(gpkg)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert worker.stdout is not None
        worker.stdout.readline()
        time.sleep(0.02 + 0.017 * attempt)
        os.kill(worker.pid, signal.SIGKILL)
        said = [int(line) for line in worker.stdout.read().split()]
        worker.wait()
        standing = reviews.read_reviews(gpkg)[1]
        assert standing.version >= max(said, default=1)
        row = layer(gpkg).iloc[0]
        assert (row.version, row.state) == (standing.version, standing.state)
        assert layer(gpkg, "inventory").review[0] == standing.state
        with sqlite3.connect(gpkg) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def mapped(folder: Path, *squares: tuple[int, int]) -> Path:
    """A probability raster with landslides of 6 x 6 pixels at these rows and columns."""
    values = np.zeros((1, 40, 60), np.float32)
    for row, column in squares:
        values[0, row : row + 6, column : column + 6] = 0.9
    grid = Grid(CRS.from_epsg(32649), Affine(15, 0, 500_000, 0, -15, 3_400_000), 40, 60)
    path = folder / "probability.tif"
    write_raster(path, values, grid, ["landslide probability"], np.nan, overwrite=True)
    return path


def test_reviews_stay_in_an_inventory_made_anew(tmp_path: Path) -> None:
    out = tmp_path / "i.gpkg"
    make_inventory(mapped(tmp_path, (2, 2), (2, 30), (20, 2)), out, 0.5)
    assert [landslide.id for landslide in reviews.read_inventory(out)] == [1, 2, 3]
    first = reviews.decide(out, 1, "rejected", note="road")
    reviews.decide(out, 2, "accepted")
    drawn = shapely.box(500_300, 3_399_500, 500_400, 3_399_600)
    reviews.decide(out, None, "drawn", outline=drawn)

    made = make_inventory(mapped(tmp_path, (3, 3), (20, 4), (30, 40)), out, 0.5, overwrite=True)  # the second is gone
    assert made.kept == 2
    assert list(layer(out, "inventory")["id"]) == [1, 3, 4]
    assert list(layer(out, "inventory")["review"]) == ["rejected", "open", "open"]
    kept = reviews.read_reviews(out)
    assert (kept[1].state, kept[1].note, kept[2].state, kept[-1].state) == ("rejected", "road", "accepted", "drawn")
    assert reviews.undo(out, first.decision).state == "open"
    assert list(layer(out, "inventory")["review"]) == ["open", "open", "open"]
    assert reviews.decide(out, 4, "accepted").version > first.version
    with sqlite3.connect(out) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_the_layer_of_a_review_has_a_style_of_its_own(tmp_path: Path) -> None:
    out = tmp_path / "i.gpkg"
    make_inventory(mapped(tmp_path, (2, 2), (2, 30)), out, 0.5)
    reviews.decide(out, 1, "accepted")
    for again in (False, True):
        if again:
            make_inventory(mapped(tmp_path, (2, 2)), out, 0.5, overwrite=True)
        styles = layer(out, "layer_styles").set_index("f_table_name")
        assert sorted(styles.index) == ["inventory", "review"] and styles.useAsDefault.all()
        assert styles.update_time.notna().all()  # QGIS finds no style without it
        qml = ElementTree.fromstring(styles.styleQML["review"].split("\n", 1)[1])
        renderer = qml.find("renderer-v2")
        assert renderer is not None and renderer.get("attr") == "state" and renderer.get("attr") in layer(out).columns
        values = [category.get("value") for category in renderer.iter("category")]
        assert sorted(values) == sorted(set(reviews.STATES) - {"open"})


def test_a_decision_made_while_the_inventory_is_made_anew_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "i.gpkg"
    probability = mapped(tmp_path, (2, 2), (2, 30))
    make_inventory(probability, out, 0.5)
    reviews.decide(out, 1, "accepted")
    real = landslip.inventory.inventory.find

    def meanwhile(*words: object) -> object:
        reviews.decide(out, 2, "rejected")
        return real(*words)  # type: ignore[arg-type]

    monkeypatch.setattr("landslip.inventory.inventory.find", meanwhile)  # the inventory was read before
    with pytest.raises(OutputError, match=r"i\.gpkg was reviewed while the inventory was made anew"):
        make_inventory(probability, out, 0.5, overwrite=True)
    assert reviews.read_reviews(out)[2].state == "rejected"
    monkeypatch.undo()
    make_inventory(probability, out, 0.5, overwrite=True)
    assert list(layer(out, "inventory")["review"]) == ["accepted", "rejected"]


def test_nobody_decides_on_a_file_that_is_being_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "i.gpkg"
    probability = mapped(tmp_path, (2, 2), (2, 30))
    make_inventory(probability, out, 0.5)
    fill = landslip.inventory.inventory.fill_styles

    def meanwhile(*words: object) -> None:
        fill(*words)  # type: ignore[arg-type]
        with pytest.raises(OutputError, match="locked"):
            reviews.decide(out, 2, "rejected")

    monkeypatch.setattr("landslip.review.review_tables.PATIENCE", 0.05)
    monkeypatch.setattr(landslip.inventory.inventory, "fill_styles", meanwhile)
    make_inventory(probability, out, 0.5, overwrite=True)
    assert reviews.decide(out, 2, "rejected").state == "rejected"


def test_a_file_that_qgis_has_open_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "i.gpkg"
    probability = mapped(tmp_path, (2, 2), (2, 30))
    make_inventory(probability, out, 0.5)
    with closing(sqlite3.connect(out, isolation_level=None)) as qgis:
        qgis.execute("PRAGMA journal_mode = WAL")  # as QGIS does with what it opens
        reviews.decide(out, 1, "accepted")
        qgis.execute("SELECT count(*) FROM inventory").fetchall()
        with pytest.raises(OutputError, match=r"i\.gpkg cannot be replaced .*locked.* Close it in QGIS"):
            make_inventory(probability, out, 0.5, overwrite=True)
        assert (tmp_path / "i.gpkg-wal").exists()
    make_inventory(probability, out, 0.5, overwrite=True)
    assert reviews.read_reviews(out)[1].state == "accepted" and not (tmp_path / "i.gpkg-wal").exists()


def test_reviews_of_a_replaced_file_are_not_lost_for_those_of_another(tmp_path: Path) -> None:
    out, other = tmp_path / "i.gpkg", tmp_path / "other.gpkg"
    probability = mapped(tmp_path, (2, 2), (2, 30))
    for path in (out, other):
        make_inventory(probability, path, 0.5)
    reviews.decide(out, 1, "accepted")
    with pytest.raises(OutputError, match=r"i\.gpkg holds reviews, which keeping those of .*other\.gpkg would lose"):
        make_inventory(probability, out, 0.5, overwrite=True, previous=other)
    assert reviews.read_reviews(out)[1].state == "accepted"


def test_an_id_that_is_no_number_is_told(gpkg: Path) -> None:
    with pytest.raises(VectorError, match="the id 'one', which is no whole number"):
        table = frame([NEW]).assign(id=["one"])
        write_vector(gpkg, table, "inventory", overwrite=True)
        reviews.read_inventory(gpkg)


@pytest.mark.parametrize("column", ["landslide", "decision", "before", "state", "outline", "note", "decided"])
def test_what_landslip_never_wrote_into_a_row_is_told(gpkg: Path, column: str) -> None:
    """SQLite keeps a value of any type in any column."""
    reviews.decide(gpkg, None, "drawn", outline=NEW)
    other = "a text" if column == "outline" else b"a blob"
    with closing(sqlite3.connect(gpkg)) as connection:
        connection.execute(f"UPDATE {reviews.LOG} SET {column} = ?", (other,))
        connection.commit()
    with pytest.raises(VectorError, match=f"hold .*a (text|blob).* as {column}, which cannot be|whole number"):
        reviews.read_reviews(gpkg)
        reviews.decide(gpkg, None, "drawn", outline=NEW)


def test_a_layer_whose_landslide_is_no_number_is_told(gpkg: Path) -> None:
    reviews.decide(gpkg, 1, "rejected")
    with closing(sqlite3.connect(gpkg)) as connection:
        for trigger in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f'DROP TRIGGER "{trigger[0]}"')
        connection.execute(f"UPDATE {reviews.REVIEW_LAYER} SET landslide = ?", (b"1",))
        connection.commit()
    with pytest.raises(VectorError, match="as landslide, which cannot be"):
        reviews.corrections(gpkg)


def test_blobs_of_other_writers(gpkg: Path) -> None:
    """The header as OGC 12-128r19 2.1.3 has it: without an envelope, and big-endian."""
    square = shapely.box(0, 0, 2, 2)
    assert reviews.decode(b"GP\x00\x01" + (32649).to_bytes(4, "little") + shapely.to_wkb(square)).equals(square)
    big = b"GP\x00\x00" + (32649).to_bytes(4, "big") + shapely.to_wkb(square, byte_order=0)
    assert reviews.decode(big).equals(square)
    for damaged in (
        "GP a text",
        7,
        b"",
        b"GP\x00",
        b"XX\x00\x01" + bytes(30),
        b"GP\x00\x01" + bytes(30),
        b"GP\x00\x0f" + bytes(90),
    ):
        with pytest.raises(VectorError, match="damaged"):
            reviews.decode(damaged)
    curve = struct.pack("<BII4d", 1, 8, 2, 0, 0, 1, 1)  # a CircularString, which shapely does not read
    with pytest.raises(VectorError, match="damaged"):
        reviews.decode(b"GP\x00\x01" + bytes(4) + curve)
    assert GRID.crs.to_epsg() == 32649


def test_a_schema_that_is_no_text_is_one_error(tmp_path: Path) -> None:
    """Of a damaged table whose name is no UTF-8 SQLite makes a message that Python cannot read."""
    write_vector(tmp_path / "i.gpkg", frame([NEW], id=[1]), "inventory")
    with closing(sqlite3.connect(tmp_path / "i.gpkg")) as file:
        file.execute("PRAGMA writable_schema = ON")
        file.execute("UPDATE sqlite_master SET name = CAST(x'66ff66' AS TEXT), sql = 'x' WHERE name = 'gpkg_contents'")
        file.commit()
    with pytest.raises(VectorError, match=r"i\.gpkg cannot be read as a GeoPackage"):
        reviews.crs_of(tmp_path / "i.gpkg")
    with pytest.raises(VectorError, match=r"i\.gpkg"), lock_geopackage(tmp_path / "i.gpkg"):
        pass
