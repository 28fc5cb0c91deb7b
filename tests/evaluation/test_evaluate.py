"""Scores of a map over the part asked for, and everything that must be said about them."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.crs import CRS

import landslip.evaluation.evaluate
from landslip.errors import GridError, LabelError, OutputError, RasterError, RunError, SplitError
from landslip.evaluation.counts import confusion_by_block
from landslip.evaluation.evaluate import evaluate
from landslip.evaluation.result import Evaluation, score_table, write_scores
from landslip.geo.geotiff import write_raster
from landslip.geo.grid import Grid
from landslip.metrics.bootstrap import confidence_intervals
from landslip.metrics.confusion import SCORES

GRID = Grid(CRS.from_epsg(32649), Affine(15, 0, 500000, 0, -15, 3400000), 4, 5)
PIXEL = 225.0  # m2

PROBABILITY = np.array(
    [
        [0.9, 0.6, 0.2, 0.1, 0.8],
        [0.4, 0.3, 0.7, 0.1, 0.1],
        [0.9, 0.1, 0.1, 0.1, np.nan],
        [0.6, 0.2, 0.4, np.nan, np.nan],
    ],
    np.float32,
)
LABEL = np.array([[1, 0, 0, 0, 255], [1, 0, 1, 0, 0], [1, 0, 1, 0, 1], [0, 0, 1, 0, 255]], np.uint8)
PARTS = np.array([[1, 1, 1, 0, 1], [1, 1, 1, 2, 2], [3, 3, 0, 2, 3], [3, 3, 3, 3, 3]], np.uint8)


def store(
    folder: Path,
    probability: NDArray[np.float32] = PROBABILITY,
    label: NDArray[np.uint8] = LABEL,
    parts: NDArray[np.uint8] = PARTS,
    split: str = "apart",
    leaky: str = "no",
    tags: dict[str, str] | None = None,
    grid: Grid = GRID,
    window: str | None = None,
) -> tuple[Path, Path, Path]:
    paths = folder / "probability.tif", folder / "label.tif", folder / "split.tif"
    write_raster(paths[0], probability[None], grid, ["probability"], np.nan, tags=tags, overwrite=True)
    write_raster(paths[1], label[None], grid, ["label"], 255, overwrite=True)
    said = {"split": split, "leaky": leaky} | ({} if window is None else {"window": window})
    write_raster(paths[2], parts[None], grid, ["split"], None, tags=said, overwrite=True)
    return paths


def counts(found: Evaluation) -> tuple[int, int, int, int]:
    return found.confusion.tp, found.confusion.fp, found.confusion.fn, found.confusion.tn


def test_the_test_part_by_hand(tmp_path: Path) -> None:
    found = evaluate(*store(tmp_path))
    # test pixels with a probability and a label, row by row: 0.9/1, 0.1/0 | 0.6/0, 0.2/0, 0.4/1
    assert counts(found) == (1, 1, 1, 2)
    assert (found.split, found.part, found.pixels, found.leaky) == ("apart", "test", 5, False)
    assert found.area_m2 == 5 * PIXEL
    # of three landslide pixels in the test part, the one at (2, 4) has no probability
    assert found.landslide_area_not_scored_m2 == PIXEL
    assert found.landslide_share_not_scored == pytest.approx(1 / 3)
    assert found.scores["accuracy"] == pytest.approx(3 / 5) and list(found.scores) == list(SCORES)
    # one landslide pixel, (2, 2), is guard
    assert any("225 m² of landslide lies in no part" in note for note in found.notes)
    assert any("225 m² of landslide (33.3 %" in note for note in found.notes)


def test_blocks_by_hand(tmp_path: Path) -> None:
    # blocks of two pixels: the five test pixels (0.9/1, 0.1/0 | 0.6/0, 0.2/0, 0.4/1) lie in (2-3, 0-1) and (2-3, 2-3)
    found = confusion_by_block(*store(tmp_path), "test", 2)
    assert found.tolist() == [[0] * 4] * 3 + [[1, 1, 0, 2], [0, 0, 1, 0], [0] * 4]
    strict = confusion_by_block(*store(tmp_path, tags={"threshold": "0.7"}), "test", 4)  # 0.6 is mapped no more
    assert strict.tolist() == [[1, 0, 1, 3], [0] * 4]


def test_the_ground_is_audited_by_hand(tmp_path: Path) -> None:
    # the five test pixels lie 1, 1, 2, 2 and 2 pixels from the training pixel above them
    found = evaluate(*store(tmp_path)).audit
    assert found is not None and (found.minimum_m, found.median_m, found.reach_m) == (15, 30, 64 * 15)
    assert (found.share_inside, found.share_near) == (0, 1)
    found = evaluate(*store(tmp_path, window="2")).audit
    assert found is not None and (found.window, found.share_near) == (2, 0.4)
    whole = evaluate(*store(tmp_path), part="all").audit
    assert whole is not None and whole.share_inside == 6 / 16 and whole.minimum_m == 0
    assert evaluate(*store(tmp_path)[:2]).audit is None
    near = "lie nearer to training ground than one window of 64 pixels"
    assert sum(near in note for note in evaluate(*store(tmp_path)).notes) == 1
    assert not any(near in note for note in evaluate(*store(tmp_path, window="1")).notes)


def test_calibration_is_of_the_part_scored(tmp_path: Path) -> None:
    # the five test pixels: 0.9/1, 0.1/0 | 0.6/0, 0.2/0, 0.4/1; a bin's centre lies 0.0005 above them
    found = evaluate(*store(tmp_path))
    assert found.reliability is not None
    assert [row.pixels for row in found.reliability] == [0, 1, 1, 0, 1, 0, 1, 0, 0, 1]
    by_hand = (0.0995 + 0.1005 + 0.6005 + 0.2005 + 0.5995) / 5
    assert found.expected_calibration_error == pytest.approx(by_hand)
    assert f"expected calibration error {100 * by_hand:.2f} %, in 10 classes" in score_table(found)
    # of two 2 x 2 blocks, that with 0.4/1 holds no other pixel of its class
    assert (found.reliability[4].observed_low, found.reliability[4].observed_high) != (1, 1)
    drawn = evaluate(*store(tmp_path), block=2).reliability
    assert drawn is not None
    assert (drawn[4].observed_low, drawn[4].observed_high) == (1, 1) and math.isnan(drawn[0].observed_low)


def test_a_raster_of_landslide_or_not_has_no_calibration(tmp_path: Path) -> None:
    found = evaluate(*store(tmp_path, tags={"threshold": "0.5", "values": "mapped"}))
    assert counts(found) == (1, 1, 1, 2)  # scored as ever
    assert found.reliability is None and found.expected_calibration_error is None
    assert "alibration" not in score_table(found)
    write_scores(tmp_path / "scores.json", found)
    written = json.loads((tmp_path / "scores.json").read_text())
    assert written["reliability"] is None and written["expected_calibration_error"] is None


def test_intervals_come_from_blocks_of_the_part_scored(tmp_path: Path) -> None:
    # 1 x 1 blocks of a part with one pixel of each kind but two TN: the blocks are the pixels
    found = evaluate(*store(tmp_path), block=1)
    assert found.blocks == 5 and found.intervals == confidence_intervals(
        np.array([[1, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])
    )
    # 2 x 2: rows 2 and 3 in columns 0 and 1, and the one pixel at (3, 2)
    found = evaluate(*store(tmp_path), block=2)
    assert found.blocks == 2 and found.intervals == confidence_intervals(np.array([[1, 1, 0, 2], [0, 0, 1, 0]]))
    text = score_table(found)
    assert "of 2 blocks of 2 x 2 pixels" in text and "Note: scored ground lies in 2 blocks of 2 pixels only" in text
    assert re.search(r"Accuracy +60\.00 % +0\.00 to +75\.00\n", text)
    assert all(math.isnan(interval.low) for interval in evaluate(*store(tmp_path)).intervals.values())
    with pytest.raises(RunError, match="blocks of 0 pixels"):
        evaluate(*store(tmp_path), block=0)


def test_other_parts_by_hand(tmp_path: Path) -> None:
    paths = store(tmp_path)
    train = evaluate(*paths, part="train")
    assert counts(train) == (2, 1, 1, 2) and train.leaky is True
    assert any("includes training ground: 100.0 %" in note for note in train.notes)
    validation = evaluate(*paths, part="validation")
    assert counts(validation) == (0, 0, 0, 3) and validation.leaky is False
    assert any("chose the epoch and the threshold" in note for note in validation.notes)
    whole = evaluate(*paths, part="all")
    assert counts(whole) == (3, 2, 3, 8) and whole.leaky is True
    assert any("includes training ground: 37.5 %" in note for note in whole.notes)  # 6 of 16
    assert not any("in no part" in note for note in whole.notes)


def test_without_a_split_everything_is_scored_and_marked(tmp_path: Path) -> None:
    probability, label, split = store(tmp_path)
    found = evaluate(probability, label)
    assert counts(found) == counts(evaluate(probability, label, split, "all"))
    assert (found.split, found.part, found.leaky) == ("unknown", "all", None)
    assert found.notes[0] == "split unknown: the score may include training ground"
    with pytest.raises(SplitError, match=r"test part cannot be told without a split.*--part all"):
        evaluate(probability, label, None, "test")


def test_a_paper_split_is_leaky_and_has_no_test_part(tmp_path: Path) -> None:
    paths = store(tmp_path, split="paper", leaky="yes")
    for part in ("train", "validation", "all"):
        found = evaluate(*paths, part=part)
        assert found.leaky is True and any("leaky: windows of the paper split" in note for note in found.notes)
    for part in (None, "test"):
        with pytest.raises(SplitError, match=r"split\.tif: a paper split has no test part.*--part all"):
            evaluate(*paths, part=part)
    assert evaluate(*store(tmp_path, split="paper", leaky="no"), part="validation").leaky is True
    with pytest.raises(SplitError, match="no part 'tset'"):
        evaluate(*paths, part="tset")


def test_all_of_a_split_without_training_ground_is_not_leaky(tmp_path: Path) -> None:
    found = evaluate(*store(tmp_path, parts=np.where(PARTS == 1, 3, PARTS).astype(np.uint8)), part="all")
    assert found.leaky is False and not any("training" in note for note in found.notes)


def test_threshold_from_flag_tag_or_half(tmp_path: Path) -> None:
    paths = store(tmp_path, tags={"threshold": "0.7"})
    tagged = evaluate(*paths, part="all")
    assert tagged.threshold == 0.7 and "probability.tif" in tagged.threshold_source
    # at 0.7 and above: 0.9/1, 0.9/1 and 0.7/1, which as float32 is 0.69999999: the threshold is rounded likewise
    assert counts(tagged) == (3, 0, 3, 10)
    assert counts(evaluate(*paths, part="all", threshold=0.75)) == (2, 0, 4, 10)
    assert evaluate(*store(tmp_path)).threshold == 0.5
    with pytest.raises(RunError, match="threshold 50"):
        evaluate(*paths, threshold=50)


@pytest.mark.parametrize(
    ("label", "why", "undefined"),
    [
        (np.where(LABEL == 1, 0, LABEL), "no landslide pixel", {"recall"}),
        (np.where(LABEL == 0, 1, LABEL), "nothing but landslide", set()),
        (np.full_like(LABEL, 255), "no pixel of this part", set(SCORES)),
    ],
)
def test_one_class_only(tmp_path: Path, label: NDArray[np.uint8], why: str, undefined: set[str]) -> None:
    probability, path, _ = store(tmp_path, label=label.astype(np.uint8))
    found = evaluate(probability, path)
    assert {name for name, score in found.scores.items() if math.isnan(score)} == undefined
    assert any(why in note for note in found.notes) == bool(undefined)
    # mapped as the label says: chance agreement is certain and kappa is undefined
    alike = np.where(label == 255, np.nan, label).astype(np.float32)
    probability, path, _ = store(tmp_path, probability=alike, label=label.astype(np.uint8))
    found = evaluate(probability, path)
    assert math.isnan(found.scores["kappa"]) and any(why in note for note in found.notes)
    assert math.isnan(found.landslide_share_not_scored) != bool((label == 1).any())


def test_nothing_mapped_leaves_precision_undefined(tmp_path: Path) -> None:
    found = evaluate(*store(tmp_path)[:2], threshold=1.0)
    assert math.isnan(found.scores["precision"]) and found.scores["f1"] == 0
    assert "nothing was mapped as landslide: precision undefined" in found.notes


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), side=st.sampled_from([1, 7, 16, 1024]))
def test_windows_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, side: int) -> None:
    rng = np.random.default_rng(seed)
    grid = GRID.crop(landslip.geo.grid.Window(0, 0, 9, 20))
    probability = rng.random(grid.shape).astype(np.float32)
    probability[rng.random(grid.shape) < 0.2] = np.nan
    label = rng.choice(np.array([0, 0, 1, 255], np.uint8), grid.shape)
    parts = rng.integers(0, 4, grid.shape).astype(np.uint8)
    paths = store(tmp_path, probability, label, parts, grid=grid)
    monkeypatch.setattr(landslip.evaluation.evaluate, "COUNTING_SIDE", side)
    for part, code in (("train", 1), ("validation", 2), ("test", 3)):
        found = evaluate(*paths, part=part)
        # counted whole, with numpy
        use = (parts == code) & (label != 255) & ~np.isnan(probability)
        mapped, true = probability[use] >= 0.5, label[use] == 1
        assert counts(found) == (
            (mapped & true).sum(), (mapped & ~true).sum(), (~mapped & true).sum(), (~mapped & ~true).sum()
        )  # fmt: skip
        missed = ((parts == code) & (label == 1) & np.isnan(probability)).sum()
        assert found.landslide_area_not_scored_m2 == missed * PIXEL


def test_rasters_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    probability, label, _ = store(tmp_path)
    moved = Grid(GRID.crs, Affine(15, 0, 500015, 0, -15, 3400000), 4, 5)
    write_raster(tmp_path / "moved.tif", LABEL[None], moved, ["label"])
    for paths in ((probability, tmp_path / "moved.tif"), (probability, label, tmp_path / "moved.tif")):
        with pytest.raises(GridError, match=r"probability\.tif and .*moved\.tif do not lie on one grid"):
            evaluate(*paths)
    degrees = Grid(CRS.from_epsg(4326), Affine(0.1, 0, 110, 0, -0.1, 31), 4, 5)
    with pytest.raises(GridError, match=r"probability\.tif: .*degrees"):
        evaluate(*store(tmp_path, grid=degrees))
    with pytest.raises(RasterError, match=r"probability\.tif holds values from 10 to 90"):
        evaluate(*store(tmp_path, probability=PROBABILITY * 100))
    with pytest.raises(LabelError, match=r"label\.tif holds 7, and only 0, 1, 255"):
        evaluate(*store(tmp_path, label=np.where(LABEL == 1, 7, LABEL).astype(np.uint8)))
    with pytest.raises(SplitError, match=r"split\.tif holds 9"):
        evaluate(*store(tmp_path, parts=np.where(PARTS == 3, 9, PARTS).astype(np.uint8)))


def test_a_label_that_declares_0_as_nodata_still_has_other_ground(tmp_path: Path) -> None:
    paths = store(tmp_path)
    expected = counts(evaluate(*paths))
    write_raster(paths[1], LABEL[None], GRID, ["label"], 0, overwrite=True)
    assert counts(evaluate(*paths)) == expected


def test_table_reads_as_the_papers_table_6(tmp_path: Path) -> None:
    lines = score_table(evaluate(*store(tmp_path))).splitlines()
    assert lines[0] == "Taken over the test part: 1,125 m², 5 pixels (split apart)"
    assert lines[2] == (
        "Nearest training ground: 15 m at least, about 30 m in the median; 0.0 % of the pixels scored lie on it, "
        "100.0 % nearer than one window (64 pixels)"
    )
    assert {("Accuracy", "60.00", "%"), ("Precision", "50.00", "%")} <= {tuple(line.split()) for line in lines}
    at = next(i for i, line in enumerate(lines) if "Non-landslide" in line)
    assert lines[at].split() == ["Mapped", "/", "true", "Landslide", "Non-landslide"]
    assert lines[at + 1].split() == ["Landslide", "1", "1"]  # TP, FP
    assert lines[at + 2].split() == ["Non-landslide", "1", "2"]  # FN, TN
    assert len(lines[at]) == len(lines[at + 1]) == len(lines[at + 2])
    whole = score_table(evaluate(*store(tmp_path), "all"))
    assert "split apart, leaky)" in whole
    assert [line.split() for line in whole.splitlines() if "andslide  " in line][1:] == [
        ["Landslide", "3", "2"],
        ["Non-landslide", "3", "8"],
    ]
    blank = score_table(evaluate(*store(tmp_path)[:2], threshold=1.0))
    assert "(split unknown, leaky or not: unknown)" in blank and re.search("Precision +undefined", blank)


def test_scores_as_json(tmp_path: Path) -> None:
    found = evaluate(*store(tmp_path)[:2], threshold=1.0)
    path = tmp_path / "scores.json"
    write_scores(path, found)
    content = json.loads(path.read_text())
    assert list(content) == [
        *SCORES, "split", "part", "threshold", "leaky", "confusion", "pixels", "landslide_area_not_scored_m2",
        "landslide_share_not_scored", "notes", "intervals", "bootstrap", "audit", "expected_calibration_error",
        "reliability",
    ]  # fmt: skip
    assert content["precision"] is None and content["leaky"] is None and content["f1"] == 0
    assert content["confusion"] == {"tp": 0, "fp": 0, "fn": 6, "tn": 10} and content["pixels"] == 16
    assert content["intervals"]["f1"] == [None, None] and content["audit"] is None
    assert content["expected_calibration_error"] == found.expected_calibration_error
    assert [row["pixels"] for row in content["reliability"]] == [0, 6, 2, 1, 2, 0, 2, 1, 0, 2]
    assert content["reliability"][0]["probability"] is None and content["reliability"][9]["observed"] == 1
    with pytest.raises(OutputError, match="exists already"):
        write_scores(path, found)
    write_scores(path, evaluate(*store(tmp_path), block=2), overwrite=True, inventory={"found": 3})
    content = json.loads(path.read_text())
    assert content["audit"]["median_m"] == 30 and content["bootstrap"]["blocks"] == 2
    assert content["intervals"]["accuracy"] == [0, 0.75] and content["inventory"] == {"found": 3}
