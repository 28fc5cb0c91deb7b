"""A corrected label: pixels set by hand, and a training that takes the folder as it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import GRID, TinySite, frame, polygon

from landslip import review, vector
from landslip.correct import correct
from landslip.errors import GridError, LabelError, OutputError, ReviewError
from landslip.geotiff import write_raster
from landslip.output import file_hash
from landslip.raster import read_stored
from landslip.run import read_run
from landslip.train import train


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    path = tmp_path / "landslides.gpkg"
    shapes = [polygon(0, 0, 4, 4), polygon(40, 40, 20, 20), polygon(80, 8, 6, 6), polygon(100, 100, 5, 5)]
    vector.write_vector(path, frame(shapes, id=[1, 2, 3, 4]), "inventory")
    review.decide(path, 1, "accepted")
    review.decide(path, 2, "rejected")
    review.decide(path, 3, "redrawn", outline=polygon(80, 10, 8, 3))
    review.decide(path, None, "drawn", outline=polygon(50, 50, 5, 5))  # on what 2 rejects
    return path


def test_reviewed_outlines_are_burnt_and_the_rest_stays(made: TinySite, inventory: Path, tmp_path: Path) -> None:
    before = read_stored(made.folder / "prepared" / "label.tif")
    expected = before.copy()
    expected[40:60, 40:60] = 0
    expected[0:4, 0:4] = 1
    expected[80:88, 10:13] = 1
    expected[50:55, 50:55] = 1
    valid = read_stored(made.folder / "prepared" / "valid.tif") == 1
    expected[~valid] = before[~valid]
    done = correct(made.folder / "prepared", inventory, tmp_path / "corrected")
    after = read_stored(tmp_path / "corrected" / "label.tif")
    assert np.array_equal(after, expected)
    assert done.states == {"accepted": 1, "rejected": 1, "redrawn": 1, "drawn": 1}
    assert done.to_landslide == int(((expected == 1) & (before != 1)).sum()) > 0
    assert done.to_other == int(((expected == 0) & (before != 0)).sum()) > 0
    manifest = json.loads((tmp_path / "corrected" / "manifest.json").read_text())
    corrected = manifest["corrected"]
    assert corrected["label_before_sha256"] == file_hash(made.folder / "prepared" / "label.tif")
    assert corrected["label_after_sha256"] == file_hash(tmp_path / "corrected" / "label.tif")
    assert corrected["inventory_sha256"] == file_hash(inventory)
    assert manifest["site"]["name"] == "tiny"
    assert file_hash(tmp_path / "corrected" / "stack.tif") == file_hash(made.folder / "prepared" / "stack.tif")


def test_training_takes_the_corrected_site_as_it_is(made: TinySite, inventory: Path, tmp_path: Path) -> None:
    correct(made.folder / "prepared", inventory, tmp_path / "corrected")
    train(read_run(made.run, {"training.epochs": 1}), tmp_path / "corrected", tmp_path / "model")
    facts = json.loads((tmp_path / "model" / "model.json").read_text())
    assert file_hash(tmp_path / "corrected" / "label.tif") in json.dumps(facts)


def test_ground_that_is_not_valid_stays_unknown(made: TinySite, inventory: Path, tmp_path: Path) -> None:
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    for name in ("stack.tif", "channels.json", "manifest.json"):
        (prepared / name).write_bytes((made.folder / "prepared" / name).read_bytes())
    label = read_stored(made.folder / "prepared" / "label.tif")
    valid = np.ones(label.shape, np.uint8)
    valid[:, :2], label[:, :2] = 0, 255
    write_raster(prepared / "valid.tif", valid[None], GRID, ["valid"])
    write_raster(prepared / "label.tif", label[None], GRID, ["label"], 255)
    correct(prepared, inventory, tmp_path / "corrected")
    after = read_stored(tmp_path / "corrected" / "label.tif")
    assert (after[0:4, 0:2] == 255).all() and (after[0:4, 2:4] == 1).all()


def test_refusals(made: TinySite, inventory: Path, tmp_path: Path) -> None:
    prepared = made.folder / "prepared"
    with pytest.raises(OutputError, match="is what is corrected"):
        correct(prepared, inventory, prepared, overwrite=True)
    bare = tmp_path / "bare.gpkg"
    vector.write_vector(bare, frame([polygon(0, 0, 4, 4)], id=[1]), "inventory")
    with pytest.raises(ReviewError, match="holds no review"):
        correct(prepared, bare, tmp_path / "corrected")
    elsewhere = tmp_path / "elsewhere.gpkg"
    vector.write_vector(
        elsewhere, frame([polygon(0, 0, 4, 4)], id=[1]).set_crs(32650, allow_override=True), "inventory"
    )
    review.decide(elsewhere, 1, "accepted")
    with pytest.raises(GridError, match=r"EPSG:32650 and .* EPSG:32649"):
        correct(prepared, elsewhere, tmp_path / "corrected")
    whole = tmp_path / "whole.gpkg"
    vector.write_vector(whole, frame([polygon(-5, -5, 300, 300)], id=[1]), "inventory")
    review.decide(whole, 1, "rejected")
    with pytest.raises(LabelError, match="rejects every landslide"):
        correct(prepared, whole, tmp_path / "corrected")
    assert not (tmp_path / "corrected").exists()
