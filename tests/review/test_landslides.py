"""Landslides out of files that the program wrote: an inventory as it is, reviewed, and as GeoParquet."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
from command import command
from conftest import DRAWN, GRID, REDRAWN, TinySite, frame, polygon
from rasterio.crs import CRS
from rasterio.features import rasterize
from shapely import box

from landslip.errors import LabelError, VectorError
from landslip.geo.geopackage import write_vector
from landslip.geo.grid import Window
from landslip.geo.raster import read_stored
from landslip.geo.vector import layer_names, read_vector
from landslip.review import reviews
from landslip.review.landslides import read_landslides, read_mapped


def as_landslides(run: Path, path: str) -> Path:
    """A site file like that of the run, with another file as its landslides."""
    text = (run / "site.toml").read_text()
    assert 'path = "landslides.gpkg"' in text
    site = run / "again.toml"
    site.write_text(text.replace('path = "landslides.gpkg"', path))
    return site


def burnt(shapes: gpd.GeoSeries) -> np.ndarray:
    """By rasterio alone, without the package."""
    return rasterize(list(shapes), GRID.shape, transform=GRID.transform).astype(bool)


def test_a_site_takes_what_a_review_decided(reviewed: Path) -> None:
    site = as_landslides(reviewed, 'path = "inventory/landslides.gpkg"')
    checked = command("check", site)
    mapped = gpd.read_file(reviewed / "inventory" / "landslides.gpkg", layer="inventory")
    left = len(mapped) - 3
    told = (
        f"note: {reviewed}/inventory/landslides.gpkg: 3 of its {len(mapped) + 1} landslides are taken, by its review "
        f"(1 accepted, 1 redrawn, 1 drawn); left out are 1 rejected (other ground) and {left} still open (unknown "
        "ground)."
    )
    assert checked.code == 0 and told in checked.out
    done = command("prepare", site, reviewed / "again", "--no-figures")
    assert done.code == 0 and told in done.out + done.err
    label = read_stored(reviewed / "again" / "label.tif", 1)
    accepted, rejected, redrawn = (mapped.geometry[i : i + 1] for i in range(3))
    landslide = burnt(accepted) | burnt(gpd.GeoSeries([REDRAWN, DRAWN]))
    still_open = burnt(mapped.geometry[3:]) & ~landslide
    expected = np.where(landslide, 1, np.where(still_open, 255, 0))
    assert np.array_equal(label, expected)
    assert (label[burnt(rejected)] == 0).all() and (label[burnt(redrawn)] == 0).all()
    manifest = json.loads((reviewed / "again" / "manifest.json").read_text())
    assert manifest["landslides_by_review"] == {"open": left, "accepted": 1, "rejected": 1, "redrawn": 1, "drawn": 1}


def test_an_inventory_that_nobody_reviewed_is_taken_with_a_warning(mapped: Path, tmp_path: Path) -> None:
    folder = mapped / "inventory"
    shapes = gpd.read_file(folder / "landslides.gpkg", layer="inventory").geometry
    for name in ("landslides.gpkg", "landslides.parquet"):
        found = read_landslides(folder / name, None, GRID.crs, GRID.bounds)
        assert found.note.startswith(f"none of its {len(shapes)} landslides is reviewed: all are taken")
        assert found.outlines.geometry.geom_equals(shapes, align=False).all() and found.unknown.empty
        (tmp_path / "site.toml").write_text(
            (mapped / "site.toml").read_text().replace('path = "landslides.gpkg"', f'path = "inventory/{name}"')
        )
        checked = command("check", tmp_path / "site.toml", "--data", mapped)
        assert checked.code == 0 and f"warning: {folder / name}: none of its" in checked.out


@pytest.mark.parametrize("ending", [".gpkg", ".parquet"])
def test_a_layer_that_is_named_is_read_by_its_states(reviewed: Path, ending: str) -> None:
    path = reviewed / "inventory" / "landslides.gpkg"
    whole = gpd.read_file(path, layer="inventory")
    if ending == ".parquet":  # as made after the review
        path = path.with_suffix(ending)
        whole.to_parquet(path)
        found = read_landslides(path)
    else:
        found = read_landslides(path, "inventory")
        named = read_landslides(path, "review", GRID.crs, GRID.bounds)
        assert sorted(named.outlines["state"]) == ["accepted", "drawn", "redrawn"] and named.unknown.empty
        here = polygon(0, 160, 60, 32).bounds  # of those decided on none but the redrawn one touches it
        assert list(read_landslides(path, "review", GRID.crs, here).outlines["state"]) == ["redrawn"]
        assert read_landslides(path, "review", GRID.crs, here).states == named.states
    assert list(found.outlines.index) == list(whole.index[[0, 2]] + (ending == ".gpkg"))
    assert len(found.unknown) == len(whole) - 3 and found.states["rejected"] == 1


def test_an_inventory_is_scored_as_it_was_mapped(reviewed: Path) -> None:
    path = reviewed / "inventory" / "landslides.gpkg"
    whole = gpd.read_file(path, layer="inventory").geometry
    for name in (path, path.with_suffix(".parquet")):
        assert read_mapped(name, None, GRID.crs, GRID.bounds).outlines.geometry.geom_equals(whole, align=False).all()
    assert "--inventory-layer review scores what its review left" in read_mapped(path).note
    assert sorted(read_mapped(path, "review").outlines["state"]) == ["accepted", "drawn", "redrawn"]


def test_a_state_that_inventory_kept_without_its_decision_counts(mapped: Path, tmp_path: Path) -> None:
    """`--previous` of a file without layer review keeps what the column says."""
    earlier, anew = tmp_path / "earlier.gpkg", tmp_path / "anew.gpkg"
    rows = gpd.read_file(mapped / "inventory" / "landslides.gpkg", layer="inventory")
    rows.loc[0, "review"], rows.loc[1, "review"] = "rejected", "accepted"
    rows.to_file(earlier, layer="inventory")
    made = command("inventory", mapped / "map" / "probability.tif", anew, "--previous", earlier)
    assert made.code == 0
    found = read_landslides(anew)
    assert list(found.outlines["id"]) == [rows["id"][1]] and found.states["rejected"] == 1
    assert len(found.unknown) == len(rows) - 2


def test_an_undone_decision_is_open_again(reviewed: Path) -> None:
    path = reviewed / "inventory" / "landslides.gpkg"
    first = read_landslides(path).outlines["id"].iloc[-1]
    reviews.undo(path, reviews.read_reviews(path)[int(first)].decision)
    again = read_landslides(path)
    assert first not in set(again.outlines["id"]) and first in set(again.unknown["id"])


def test_layers_are_chosen_never_guessed(tmp_path: Path) -> None:
    path = tmp_path / "two.gpkg"
    pyogrio.write_dataframe(pd.DataFrame({"note": ["by hand"]}), path, layer="about", driver="GPKG")
    write_into(path, "slides", polygon(3, 3, 4, 4))
    assert len(read_landslides(path).outlines) == 1  # a table without geometry is no layer of landslides
    write_into(path, "roads", polygon(30, 3, 4, 4))
    with pytest.raises(LabelError, match=r'two\.gpkg holds the layers slides, roads\..*layer = "NAME"'):
        read_landslides(path)
    assert read_landslides(path, "roads").outlines.geometry.iloc[0].equals(polygon(30, 3, 4, 4))
    with pytest.raises(VectorError, match="has no layer 'rivers'"):
        read_landslides(path, "rivers")


def write_into(path: Path, layer: str, shape: object) -> None:
    frame([shape], id=[1]).to_file(path, layer=layer, driver="GPKG", mode="a")


def test_words_of_others_in_a_column_review_mean_nothing(tmp_path: Path) -> None:
    path = tmp_path / "theirs.gpkg"
    write_vector(path, frame([polygon(0, 0, 2, 2), polygon(5, 5, 2, 2)], review=["by two people", None]), "slides")
    found = read_landslides(path)
    assert len(found.outlines) == 2 and not found.states and not found.note


@pytest.mark.parametrize("ending", [".gpkg", ".parquet"])
@pytest.mark.parametrize("layer", ["slides", "inventory"])
def test_a_column_review_of_others_is_no_review_and_all_outlines_are_taken(
    made: TinySite, tmp_path: Path, ending: str, layer: str
) -> None:
    path = tmp_path / f"theirs{ending}"
    theirs = gpd.read_file(made.folder / "landslides.gpkg")
    # the words that are ours lie in the north, others in the south, with one that is not filled in
    half = len(theirs) // 2
    theirs["review"] = (
        ["accepted", "rejected", "open"] * (half // 3)
        + [None]
        + ["2nd pass"] * (len(theirs) - half // 3 * 3 - 2)
        + ["done"]
    )
    if ending == ".gpkg":
        write_vector(path, theirs, layer)
    else:
        theirs.to_parquet(path)
    told = (
        f"its column review is not taken for a review, since it holds '2nd pass', 'done' beside open, accepted, "
        f"rejected: all {len(theirs)} outlines are landslides"
    )
    for bounds in (None, GRID.bounds, polygon(0, 0, 40, 192).bounds):
        found = read_landslides(path, None, GRID.crs, bounds)
        here = theirs if bounds is None else theirs[theirs.intersects(box(*bounds))]
        assert found.outlines.geometry.geom_equals(here.geometry, align=False).all() and len(found.outlines)
        assert found.unknown.empty and not found.states and found.note.startswith(told)
    site = tmp_path / "site.toml"
    site.write_text(made.site.read_text().replace('path = "landslides.gpkg"', f'path = "{path}"'))
    checked = command("check", site, "--data", made.folder)
    assert checked.code == 0 and checked.out.count(f"warning: {path}: {told}") == 1
    theirs["review"] = ["accepted", "rejected"] * half + [None] * (len(theirs) % 2)  # now all of them are ours
    path.unlink()
    write_vector(path, theirs, layer) if ending == ".gpkg" else theirs.to_parquet(path)
    assert read_landslides(path, None, GRID.crs).states["rejected"] == half


def test_a_state_that_no_review_makes_is_told(reviewed: Path) -> None:
    path = reviewed / "inventory" / "landslides.gpkg"
    with closing(sqlite3.connect(path)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f'DROP TRIGGER "{name}"')
        connection.execute("UPDATE inventory SET review = 'Rejected' WHERE review = 'rejected'")
        connection.commit()
    with pytest.raises(VectorError, match="a landslide is 'Rejected', which no review makes of it"):
        read_landslides(path, "inventory")


def test_a_review_that_leaves_nothing_is_one_error(mapped: Path, tmp_path: Path) -> None:
    path = tmp_path / "landslides.gpkg"
    path.write_bytes((mapped / "inventory" / "landslides.gpkg").read_bytes())
    reviews.decide(path, reviews.read_inventory(path)[0].id, "rejected")
    text = (mapped / "site.toml").read_text().replace('path = "landslides.gpkg"', f'path = "{path}"')
    (tmp_path / "site.toml").write_text(text)
    done = command("check", tmp_path / "site.toml", "--data", mapped)
    assert done.code == 1
    assert "fault" in done.out and "holds no landslide (0 of its" in done.out and "still open" in done.out


def test_geoparquet_is_read_as_geopackage_is(tmp_path: Path) -> None:
    shapes = frame([polygon(0, 0, 4, 4), polygon(50, 50, 4, 4)], id=[1, 2])
    shapes.to_parquet(tmp_path / "a.parquet")
    write_vector(tmp_path / "a.gpkg", shapes)
    for crs in (GRID.crs, CRS.from_epsg(4326)):
        one, other = (read_vector(tmp_path / name, None, crs) for name in ("a.parquet", "a.gpkg"))
        assert one.geometry.geom_equals_exact(other.geometry, 1e-9, align=False).all() and one.crs == other.crs
    bounds = GRID.crop(Window(49, 49, 9, 9)).bounds
    assert list(read_vector(tmp_path / "a.parquet", "a", GRID.crs, bounds)["id"]) == [2]
    assert layer_names(tmp_path / "a.parquet") == ["a"]
    with pytest.raises(VectorError, match="has no layer 'b'"):
        read_vector(tmp_path / "a.parquet", "b")
    frame([polygon(0, 0, 4, 4)]).set_crs(None, allow_override=True).to_parquet(tmp_path / "nowhere.parquet")
    with pytest.raises(VectorError, match="has no CRS"):
        read_vector(tmp_path / "nowhere.parquet")


def test_what_a_parquet_cannot_hold_of_a_review_is_said(reviewed: Path) -> None:
    folder = reviewed / "inventory"
    made = command("inventory", reviewed / "map" / "probability.tif", folder / "landslides.gpkg", "--overwrite")
    assert made.code == 0, made.err
    whole = read_landslides(folder / "landslides.gpkg", None, GRID.crs, GRID.bounds)
    assert "outline that was mapped" not in whole.note
    found = read_landslides(folder / "landslides.parquet", None, GRID.crs, GRID.bounds)
    assert "redrawn ones by the outline that was mapped, and drawn ones are not in it" in found.note
