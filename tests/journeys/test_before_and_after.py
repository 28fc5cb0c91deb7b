"""Emilia-Romagna, May 2023: from Sentinel-2 before and after the rain to a scored inventory. Real data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import geopandas as gpd
import rasterio

from journeys.walk import ROOT, SMALL, landslip, need


def test_before_and_after_to_a_scored_inventory(tmp_path: Path) -> None:
    data = need("emilia_romagna")
    for name in ("sites", "runs"):
        shutil.copy(ROOT / name / "emilia_romagna.toml", tmp_path / f"{name[:-1]}.toml")
    checked = landslip("check", "site.toml", "--data", data, at=tmp_path)
    assert "fault:" not in checked.out
    landslip("prepare", "site.toml", "prepared/", "--data", data, "--no-figures", at=tmp_path)
    with rasterio.open(tmp_path / "prepared" / "stack.tif") as stack:
        names = stack.descriptions
        before_after = stack.read(names.index("dndvi") + 1)
    with rasterio.open(tmp_path / "prepared" / "label.tif") as label:
        landslide = label.read(1) == 1
    assert landslide.sum() == 631  # as the data's own README counts them
    # landslides took the plants away: NDVI fell farther there than on other ground
    assert before_after[landslide].mean() < before_after[~landslide].mean() - 0.1
    words = "--set", "training.epochs=2", "--set", f"network.options={SMALL}"
    landslip("train", "run.toml", "prepared/", "model/", *words, at=tmp_path)
    landslip("map", "model/", "prepared/stack.tif", "map/probability.tif", at=tmp_path)
    landslip("inventory", "map/probability.tif", "inventory/landslides.gpkg", at=tmp_path)
    assert gpd.read_file(tmp_path / "inventory" / "landslides.gpkg", layer="inventory").crs.to_epsg() == 32632
    words = "evaluate", "map/probability.tif", "prepared/label.tif", "--split", "model/split.tif", "--part", "all"
    vectors = "--inventory", "inventory/landslides.gpkg", "--reference", data / "landslides.gpkg"
    landslip(*words, *vectors, "--json", "scores/all.json", at=tmp_path)
    scores = json.loads((tmp_path / "scores" / "all.json").read_text())
    assert scores["leaky"] is True
