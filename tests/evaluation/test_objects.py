"""An inventory with known hits, splits and merges, scored by hand."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from command import command
from conftest import DRAWN, GRID, REDRAWN, SHAPE, frame, polygon
from numpy.typing import NDArray

from landslip.errors import LabelError, RunError
from landslip.evaluation import objects as module
from landslip.evaluation.object_matching import match  # fmt: skip
from landslip.evaluation.object_scores import (
    InventoryScores,
    SizeClass,
    completeness,
    object_table,
    objects_json,
    size_classes,
)
from landslip.evaluation.objects import edges, read_polygons, score_polygons
from landslip.evaluation.plots import draw_areas
from landslip.geo.geopackage import write_vector
from landslip.geo.geotiff import write_raster
from landslip.geo.rasterize import burn
from landslip.metrics.size_distribution import fit_tail
from landslip.runtime.text import write_json

PIXEL = 225.0  # m2

TRUE = {  # row, column, height, width
    "found": (4, 4, 10, 10),
    "half": (4, 24, 10, 10),
    "touched": (4, 44, 10, 10),
    "missed": (4, 64, 10, 10),
    "split": (4, 84, 10, 12),
    "merged, left": (24, 4, 10, 6),
    "merged, right": (24, 14, 10, 6),
    "of the validation part": (100, 4, 10, 10),
}
MAPPED = {
    "as it is": (4, 4, 10, 10),
    "covers half": (4, 24, 5, 10),
    "covers a tenth": (4, 44, 1, 10),
    "left piece": (4, 84, 10, 4),
    "right piece": (4, 90, 10, 6),
    "sliver beside it": (4, 96, 10, 1),
    "joins two": (24, 4, 10, 16),
    "invented": (44, 4, 3, 3),
    "in the validation part": (110, 100, 4, 4),
}


def shapes_of(places: dict[str, tuple[int, int, int, int]]) -> list[shapely.Polygon]:
    return [polygon(*place) for place in places.values()]


def score_inventory(
    inventory: Path, reference: Path, *rasters: Path, layer: str | None = None, **choices: Any
) -> InventoryScores:
    """The scores of an inventory against a reference, over the rasters: probability, label and split."""
    return score_polygons(read_polygons(inventory, reference, rasters[0], layer), *rasters, **choices)


def store(
    folder: Path, true: list | None = None, mapped: list | None = None, label: NDArray[np.uint8] | None = None
) -> tuple[Path, Path, Path, Path, Path]:
    """Inventory, reference, probability, label and split: the test part ends at row 90."""
    true = shapes_of(TRUE) if true is None else true
    mapped = shapes_of(MAPPED) if mapped is None else mapped
    names = ("inventory.gpkg", "reference.gpkg", "probability.tif", "label.tif", "split.tif")
    paths = tuple(folder / name for name in names)
    write_vector(paths[0], frame(mapped, id=list(range(len(mapped)))), "inventory", overwrite=True)
    write_vector(paths[1], frame(true, id=list(range(len(true)))), overwrite=True)
    probability = np.full((1, *SHAPE), 0.1, np.float32)
    drawn = burn(true, GRID).astype(np.uint8) if label is None else label
    parts = np.full((1, *SHAPE), 3, np.uint8)
    parts[:, 90:] = 2
    write_raster(paths[2], probability, GRID, ["probability"], np.nan, overwrite=True)
    write_raster(paths[3], drawn[None], GRID, ["label"], 255, overwrite=True)
    write_raster(paths[4], parts, GRID, ["part"], None, tags={"split": "apart", "leaky": "no"}, overwrite=True)
    return paths  # type: ignore[return-value]


def numbers(found: InventoryScores) -> dict[str, int]:
    names = (
        "reference", "found", "missed", "missed_touched", "mapped", "invented", "invented_touching", "split",
        "split_pieces", "merged", "merged_landslides",
    )  # fmt: skip
    return {name: getattr(found, name) for name in names}


def test_hits_splits_and_merges_by_hand(tmp_path: Path) -> None:
    found = score_inventory(*store(tmp_path))
    assert numbers(found) == {
        "reference": 7, "found": 5, "missed": 2, "missed_touched": 1, "mapped": 8, "invented": 2,
        "invented_touching": 0, "split": 1, "split_pieces": 2, "merged": 1, "merged_landslides": 2,
    }  # fmt: skip
    area = 100 * 4 + 120 + 60 + 60, 100 + 50 + 10 + 40 + 60 + 10 + 160 + 9
    assert found.part == "test" and found.number_bias == 8 / 7
    assert found.area_bias == pytest.approx(area[1] / area[0])
    assert found.reference_area_m2 == pytest.approx(area[0] * PIXEL)
    # reference 13,500 twice, 22,500 four times, 27,000 m2; mapped 2,025 and 2,250 (invented), 2,250, 9,000, 11,250,
    # 13,500, 22,500 and 36,000 m2
    counted = {(c.low, c.high): (c.reference, c.found, c.mapped, c.invented) for c in found.classes}
    assert counted == {
        (2e3, 5e3): (0, 0, 3, 2), (5e3, 1e4): (0, 0, 1, 0), (1e4, 2e4): (2, 2, 2, 0), (2e4, 5e4): (5, 3, 2, 0)
    }  # fmt: skip
    whole = score_inventory(*store(tmp_path), part="all")
    assert (whole.reference, whole.found, whole.mapped, whole.invented) == (8, 5, 9, 3)
    assert whole.part == "all"


def test_the_overlap_asked_for_decides(tmp_path: Path) -> None:
    paths = store(tmp_path)
    strict = numbers(score_inventory(*paths, overlap=0.9))
    # "half" and "split" (10 of 12 columns) are now missed; "joins two" is 12/16 landslide, so invented, and still joins
    assert (strict["found"], strict["missed_touched"], strict["invented"]) == (3, 3, 3)
    assert (strict["invented_touching"], strict["split"], strict["merged"]) == (1, 0, 1)
    lax = numbers(score_inventory(*paths, overlap=0.1))
    assert (lax["found"], lax["missed"]) == (6, 1)
    for overlap in (0, -1, 1.5, math.nan):
        with pytest.raises(RunError, match="matches no landslides"):
            score_inventory(*paths, overlap=overlap)


def test_polygons_that_overlap_count_once() -> None:
    # two mapped polygons on the same tenth and another tenth: 3 tenths, not 4
    true = np.array([polygon(0, 0, 10, 10)])
    mapped = np.array([polygon(0, 0, 1, 10), polygon(0, 0, 2, 10), polygon(5, 0, 1, 10), polygon(10, 0, 3, 3)])
    found = match(true, mapped, 0.3)
    assert found.covered.tolist() == pytest.approx([0.3]) and found.pieces.tolist() == [3]
    assert found.real.tolist() == pytest.approx([1, 1, 1, 0])  # the last has only a side in common
    assert found.joined.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(("rows", "judged"), [(6, 1), (5, 1), (4, 0)])
def test_a_landslide_is_judged_where_most_of_it_is_scored(tmp_path: Path, rows: int, judged: int) -> None:
    place = [polygon(90 - rows, 10, 10, 7), polygon(30, 30, 5, 5)]
    found = score_inventory(*store(tmp_path, place, [polygon(30, 30, 5, 5)]))
    assert found.reference == 1 + judged and found.found == 1


def test_ground_beyond_the_map_is_not_scored_and_what_is_smaller_than_a_pixel_is_judged(tmp_path: Path) -> None:
    out = [polygon(-6, 10, 10, 7), polygon(-4, 40, 10, 7)]
    x, y = GRID.transform.c + 15 * 80.1, GRID.transform.f - 15 * 20.1
    speck, unscored = shapely.box(x, y - 2, x + 2, y), shapely.box(x, y - 2 - 15 * 80, x + 2, y - 15 * 80)
    found = score_inventory(*store(tmp_path, [*out, speck, unscored], [polygon(20, 80, 1, 1)]))
    assert found.reference == 2 and sorted(found.reference_areas) == pytest.approx([4, 70 * PIXEL])
    assert found.found == 1 and found.invented == 1  # 4 of 225 m2


def test_unknown_ground_is_not_scored(tmp_path: Path) -> None:
    label = burn(shapes_of(TRUE), GRID).astype(np.uint8)
    label[:20, :60] = 255
    found = score_inventory(*store(tmp_path, label=label))
    assert (found.reference, found.found, found.mapped) == (4, 3, 5)
    assert all(boundary.recall < 1 for boundary in found.boundary)


def test_windows_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = store(tmp_path)
    whole = objects_json(score_inventory(*paths))
    for side in (13, 32):
        monkeypatch.setattr(module, "MATCHING_SIDE", side)
        assert repr(objects_json(score_inventory(*paths))) == repr(whole)


# ---- boundaries ----


def test_a_square_moved_by_pixels_has_a_known_boundary_f1(tmp_path: Path) -> None:
    # 20 x 20: 76 boundary pixels. Moved by 1 column all are within 1 pixel, by 2 all within 2
    true = [polygon(30, 30, 20, 20)]
    one, two = score_inventory(*store(tmp_path, true, [polygon(30, 31, 20, 20)])).boundary
    assert (one.pixels, one.f1, two.pixels, two.f1) == (1, 1, 2, 1)
    # by 1 along both axes, the corner that is foremost is the root of 2 away
    one, two = score_inventory(*store(tmp_path, true, [polygon(31, 31, 20, 20)])).boundary
    assert one.precision == one.recall == 75 / 76 and one.f1 == pytest.approx(75 / 76) and two.f1 == 1
    one, two = score_inventory(*store(tmp_path, true, [polygon(30, 32, 20, 20)])).boundary
    # every distance, by numpy
    drawn, moved = burn(true, GRID), burn([polygon(30, 32, 20, 20)], GRID)
    rows, columns = np.nonzero(edges(moved, np.ones(SHAPE, bool)))
    r, c = np.nonzero(edges(drawn, np.ones(SHAPE, bool)))
    away = np.hypot(rows[:, None] - r, columns[:, None] - c).min(1)
    assert len(r) == len(rows) == 76
    assert one.precision == one.recall == pytest.approx((away <= 1).mean()) and one.f1 == pytest.approx(one.precision)
    assert 0.5 < one.f1 < 1 and two.f1 == 1
    one, two = score_inventory(*store(tmp_path, true, [polygon(60, 30, 20, 20)])).boundary
    assert one.f1 == two.f1 == one.precision == 0


def test_boundaries_end_where_nothing_is_known() -> None:
    mask = np.zeros((5, 6), bool)
    mask[1:4, 1:4] = True
    known = np.ones((5, 6), bool)
    ring = mask.copy()
    ring[2, 2] = False
    assert (edges(mask, known) == ring).all()
    known[:, 4] = False
    ring[2, 3] = False
    assert (edges(mask, known) == ring).all()
    assert not edges(np.ones((3, 3), bool), np.ones((3, 3), bool)).any()  # the border of the raster


# ---- sizes ----


def test_size_classes_hold_every_landslide_once() -> None:
    areas = np.array([1.0, 1.99, 2.0, 49.0, 50.0, 1000.0])
    found = np.array([True, False, True, True, False, True])
    classes = size_classes(areas, found, np.array([7.0]), np.array([True]))
    assert [(c.low, c.high) for c in classes[:3]] == [(1, 2), (2, 5), (5, 10)] and classes[-1].low == 1000
    assert [(c.reference, c.found) for c in classes if c.reference] == [(2, 1), (1, 1), (1, 1), (1, 0), (1, 1)]
    assert sum(c.reference for c in classes) == 6 and classes[2].mapped == classes[2].invented == 1
    assert size_classes(np.zeros(0), np.zeros(0, bool), np.zeros(0), np.zeros(0, bool)) == []


@pytest.mark.parametrize(
    ("counts", "limit"),  # (reference, found) from the smallest class, which begins at 1, on
    [
        ([(10, 5), (10, 8), (10, 9), (10, 10)], 2),
        ([(10, 9), (10, 7), (10, 9)], 5),
        ([(10, 10), (10, 10), (10, 7)], math.nan),
        ([(10, 5), (10, 10), (2, 1), (3, 3)], 2),  # the two largest classes are judged together: 4 of 5
        ([(10, 5), (10, 10), (2, 0), (3, 3)], math.nan),  # 3 of 5
        ([(10, 5), (10, 10), (1, 0)], 2),  # one large one missed, with the next: 10 of 11
        ([(1, 1), (10, 10)], 2),  # one small one found proves nothing
        ([(10, 10), (0, 0), (10, 10)], 1),
        ([], math.nan),
    ],
)
def test_completeness_limit_by_hand(counts: list[tuple[int, int]], limit: float) -> None:
    ends = [1, 2, 5, 10, 20]
    classes = [SizeClass(ends[i], ends[i + 1], n, k, 0, 0) for i, (n, k) in enumerate(counts)]
    assert completeness(classes) == limit or (math.isnan(limit) and math.isnan(completeness(classes)))


def test_tails_are_those_of_the_areas_judged(tmp_path: Path) -> None:
    sides = [3, 3, 3, 4, 4, 5, 5, 6, 7, 9, 12, 15]
    places = [polygon(2 + 28 * (i // 6), 2 + 30 * (i % 6), side, side) for i, side in enumerate(sides)]
    found = score_inventory(*store(tmp_path, places, places[3:]))
    assert found.reference_tail == fit_tail([PIXEL * side**2 for side in sides]) and found.reference_tail.count
    assert math.isnan(found.mapped_tail.exponent)
    assert any(note.startswith("the tail of the reference holds") for note in found.notes)


# ---- what is given ----


def test_an_empty_inventory_misses_everything(tmp_path: Path) -> None:
    paths = store(tmp_path)
    write_vector(paths[0], frame([polygon(0, 0, 1, 1)], id=[1]).iloc[:0], "inventory", overwrite=True)
    found = score_inventory(*paths)
    assert (found.found, found.missed, found.mapped, found.number_bias, found.area_bias) == (0, 7, 0, 0, 0)
    assert [boundary.f1 for boundary in found.boundary] == [0, 0]
    assert "none: fewer than 10" in object_table(found)
    draw_areas(found, tmp_path / "areas.png")


def test_ground_without_landslides_leaves_biases_undefined(tmp_path: Path) -> None:
    found = score_inventory(*store(tmp_path, [polygon(100, 4, 10, 10)]))
    assert found.reference == 0 and found.invented == found.mapped == 8
    assert math.isnan(found.number_bias) and math.isnan(found.area_bias) and math.isnan(found.completeness_m2)
    assert "Number undefined, area undefined" in object_table(found)
    draw_areas(found, tmp_path / "areas.png")


def test_what_cannot_be_scored_is_refused(tmp_path: Path) -> None:
    paths = store(tmp_path)
    for i, what in ((0, "inventory"), (1, "reference")):
        place = polygon(4, 4, 10, 10)
        broken = list(paths)
        broken[i] = tmp_path / "points.gpkg"
        write_vector(broken[i], frame([place.centroid], id=[1]), overwrite=True)
        with pytest.raises(LabelError, match=rf"points\.gpkg holds Point, .*Give polygons as the {what}"):
            score_inventory(*broken)
        broken[i] = tmp_path / "away.gpkg"
        write_vector(broken[i], frame([shapely.affinity.translate(place, 1e6)], id=[1]), overwrite=True)
        with pytest.raises(LabelError, match=r"away\.gpkg has no landslide on the map"):
            score_inventory(*broken)


def test_layers_are_chosen_never_guessed(tmp_path: Path) -> None:
    paths = store(tmp_path)
    frame([polygon(24, 4, 10, 6)], id=[1]).to_file(paths[1], layer="second", driver="GPKG")
    with pytest.raises(LabelError, match=r"holds the layers reference, second.*--layer NAME"):
        score_inventory(*paths)
    assert score_inventory(*paths, layer="second").reference == 1


def test_a_polygon_that_crosses_itself_is_mended_and_said(tmp_path: Path) -> None:
    left, bottom, right, top = polygon(30, 30, 10, 10).bounds
    bow = shapely.Polygon([(left, bottom), (right, top), (right, bottom), (left, top)])
    found = score_inventory(*store(tmp_path, [bow], [polygon(30, 30, 10, 10)]))
    assert found.reference_areas.tolist() == pytest.approx([50 * PIXEL]) and found.found == 1
    assert any("cross themselves were mended: 1 polygon of reference.gpkg" in note for note in found.notes)


# ---- what the program writes ----


def scored(run: Path, inventory: Path, reference: Path, *words: object) -> dict:
    """Scores of the whole site, by the command line."""
    out = run / "scores.json"
    done = command(
        "evaluate", run / "map" / "probability.tif", run / "prepared" / "label.tif", "--inventory", inventory,
        "--reference", reference, "--json", out, "--overwrite", *words,
    )  # fmt: skip
    assert done.code == 0, done.err
    found = json.loads(out.read_text())["inventory"]
    assert "Landslides of all mapped ground" in done.out and all(
        f"Note: {note}." in done.out for note in found["notes"]
    )
    return dict(found)


def test_an_inventory_that_landslip_wrote_is_scored_as_its_polygons_alone(reviewed: Path, tmp_path: Path) -> None:
    """Reviewed, with styles and logs, and as GeoParquet: as a file of geopandas that holds the polygons and no more."""
    own = reviewed / "inventory" / "landslides.gpkg"
    bare = tmp_path / "bare.gpkg"
    gpd.read_file(own, layer="inventory")[["id", "geometry"]].to_file(bare, layer="slides")
    expected = scored(reviewed, bare, reviewed / "landslides.gpkg")
    assert expected["reference"] == 40 and expected["found"] > 30
    plain = expected.pop("notes")
    for path in (own, own.with_suffix(".parquet")):
        found = scored(reviewed, path, reviewed / "landslides.gpkg")
        notes = found.pop("notes")
        assert found == expected
        told = "landslides.gpkg is scored as it was mapped; --inventory-layer review scores what its review left of it"
        assert notes == ([told] if path == own else []) + plain
    left = scored(reviewed, own, reviewed / "landslides.gpkg", "--inventory-layer", "review")
    assert left["mapped"] == 3 and left["invented"] == 2  # accepted; redrawn and drawn where nothing is


def test_a_reviewed_inventory_is_a_reference_by_what_was_decided(reviewed: Path, tmp_path: Path) -> None:
    own = reviewed / "inventory" / "landslides.gpkg"
    rows = gpd.read_file(own, layer="inventory")
    found = scored(reviewed, own, own)
    # on ground that is still open nothing is scored: judged are the accepted one, found, and the rejected and the
    # redrawn one as they were mapped, invented; redrawn and drawn anew are missed
    areas = [rows.geometry[0].area, REDRAWN.area, DRAWN.area]
    assert (found["reference"], found["found"], found["mapped"], found["invented"]) == (3, 1, 3, 2)
    assert found["reference_area_m2"] == pytest.approx(sum(areas))
    left = len(rows) - 3
    assert found["notes"][1] == (
        f"landslides.gpkg: 3 of its {len(rows) + 1} landslides are taken, by its review (1 accepted, 1 redrawn, "
        f"1 drawn); left out are 1 rejected (other ground) and {left} still open (unknown ground)"
    )
    mapped = scored(reviewed, own, own, "--layer", "inventory")  # without the outlines that were drawn
    assert (mapped["reference"], mapped["found"]) == (2, 2)
    parquet = own.with_suffix(".parquet")  # made before the review
    whole = scored(reviewed, own, parquet)
    assert whole["reference"] == whole["found"] == len(rows) and "none of its" in whole["notes"][1]


def test_what_cannot_be_read_is_refused_before_anything_is_written(reviewed: Path, tmp_path: Path) -> None:
    frame([polygon(0, 0, 4, 4)], id=[1]).to_file(tmp_path / "two.gpkg", layer="a")
    frame([polygon(0, 0, 4, 4)], id=[1]).to_file(tmp_path / "two.gpkg", layer="b")
    (tmp_path / "text.parquet").write_text("no parquet")
    for name, why in (("two.gpkg", "the layers a, b. Say which are the landslides: --inventory-layer NAME"),
                      ("text.parquet", "cannot be read as a vector file")):  # fmt: skip
        refused = command(
            "evaluate", reviewed / "map" / "probability.tif", reviewed / "prepared" / "label.tif", "--inventory",
            tmp_path / name, "--reference", reviewed / "landslides.gpkg", "--reliability", tmp_path / "r.png",
        )  # fmt: skip
        assert refused.code == 2 and why in refused.err and not refused.out and not (tmp_path / "r.png").exists()


def test_landslides_that_lie_mostly_in_other_parts_are_told(tmp_path: Path) -> None:
    # the test part ends at row 90: 4 of 10 rows of the mapped ones lie in it, 2 of 10 of the landslide
    mapped = [polygon(86, 10, 10, 10), polygon(86, 40, 10, 5), polygon(4, 4, 10, 10), polygon(110, 4, 5, 5)]
    found = score_inventory(*store(tmp_path, [polygon(88, 10, 10, 10), polygon(4, 4, 10, 10)], mapped))
    assert (found.mapped, found.reference) == (1, 1)
    assert found.notes == [
        "1 landslide of 22,500 m², 4,500 m² of it scored, lies mostly in other parts and is not counted",
        "2 mapped landslides of 33,750 m², 13,500 m² of it scored, lie mostly in other parts and are not counted",
    ]
    assert "area 1.00 times the reference's (22,500 m² of 22,500 m²)" in object_table(found)
    assert not score_inventory(*store(tmp_path, mapped, mapped), part="all").notes


# ---- what is shown ----


def test_table_json_and_picture(tmp_path: Path) -> None:
    found = score_inventory(*store(tmp_path))
    lines = object_table(found).splitlines()
    assert lines[0] == "Landslides of the test part, matched where 50 % of the area is covered"
    rows = {line[:26].strip(): line[26:].split() for line in lines[3:8]}
    assert rows["20,000 to 50,000 m²"] == ["5", "3", "60.0", "%", "2", "2", "0"]
    assert rows["all"] == ["7", "5", "71.4", "%", "2", "8", "2"]
    assert "Split 1 landslides, mapped as 2; merged 1 mapped landslides, 2 in truth" in lines
    write_json(tmp_path / "scores.json", objects_json(found))
    kept = json.loads((tmp_path / "scores.json").read_text())
    assert kept["found"] == 5 and kept["classes"][-1]["low"] == 20000 and kept["reference_tail"]["exponent"] is None
    assert kept.keys() == {f.name for f in dataclasses.fields(found)} - {"reference_areas", "mapped_areas"}
    draw_areas(found, tmp_path / "areas.png")
    assert (tmp_path / "areas.png").stat().st_size > 10_000


def test_the_command_scores_both(tmp_path: Path) -> None:
    inventory, reference, probability, label, split = store(tmp_path)
    given = ("evaluate", probability, label, "--split", split, "--inventory", inventory)
    out, picture = tmp_path / "scores.json", tmp_path / "areas.png"
    done = command(*given, "--reference", reference, "--block", 16, "--json", out, "--picture", picture)
    assert done.code == 0 and "Landslides of the test part" in done.out and picture.exists()
    kept = json.loads(out.read_text())
    assert kept["inventory"]["found"] == 5 and kept["bootstrap"]["block"] == 16 and kept["recall"] == 0
    lax = command(*given, "--reference", reference, "--overlap", 0.1)
    assert lax.code == 0 and "matched where 10 %" in lax.out
    for arguments, why in (
        (given, "give both --inventory and --reference"),
        ((*given[:-2], "--picture", tmp_path / "b.png"), "--picture shows the scores of an inventory"),
        ((*given[:-2], "--layer", "a"), "give both --inventory and --reference too, or leave them out"),
        ((*given[:-2], "--inventory-layer", "review"), "give both --inventory and --reference too, or leave them out"),
        ((*given, "--reference", reference, "--json", reference, "--overwrite"), "is read by this command"),
        ((*given, "--reference", reference, "--picture", picture), "exists already"),
        ((*given, "--reference", tmp_path / "none.gpkg"), "does not exist"),
    ):
        refused = command(*arguments)
        assert refused.code == 2 and why in refused.err
