"""A model taken to a second site: the west of the made-up site trains, the east is mapped; sites that do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio

from journeys.walk import SMALL, landslip

SHORT = [
    *("--set", "training.epochs=2", "--set", "blocks.step=32", "--set", "blocks.background=0.5"),
    *("--set", f"network.options={SMALL}"),
]


def write_halves(run: Path) -> None:
    """Two site files, each with one half of the ground, as somebody with two study areas has them."""
    text = (run / "site.toml").read_text(encoding="utf-8")
    with rasterio.open(run / "prepared" / "stack.tif") as stack:
        left, bottom, right, top = stack.bounds
    middle = (left + right) / 2
    for name, bounds in (("west", (left, bottom, middle, top)), ("east", (middle, bottom, right, top))):
        extent = ", ".join(f"{value:.1f}" for value in bounds)
        (run / f"{name}.toml").write_text(f"{text}\n[grid]\nextent = [{extent}]\n", encoding="utf-8")


def test_a_model_taken_to_a_second_site(copied: Path) -> None:
    write_halves(copied)
    for half in ("west", "east"):
        landslip("prepare", f"{half}.toml", f"{half}/", "--no-figures", at=copied)
    landslip("train", "run.toml", "west/", "model_west/", *SHORT, at=copied)
    said = landslip("transfer", "model_west/", "east/", "transfer/", "--blocks", 4, "--epochs", 1, at=copied)
    assert "kappa" in said.out.lower()

    # the same place with its reflectances a hundred times too large is refused, and mapped only when that is asked for
    text = (copied / "east.toml").read_text(encoding="utf-8")
    (copied / "wrong.toml").write_text(text.replace("scale = 0.0001", "scale = 0.01"), encoding="utf-8")
    landslip("prepare", "wrong.toml", "wrong/", "--no-figures", at=copied)
    refused = landslip("map", "model_west/", "wrong/stack.tif", "wrong.tif", at=copied, code=2)
    assert "--accept-range" in refused.err and not (copied / "wrong.tif").exists()
    landslip("map", "model_west/", "wrong/stack.tif", "wrong.tif", "--accept-range", at=copied)

    # pixels of three times the size are mapped, but said
    (copied / "coarse.toml").write_text(text.replace("[grid]\n", "[grid]\nresolution = 45\n"), encoding="utf-8")
    landslip("prepare", "coarse.toml", "coarse/", "--no-figures", at=copied)
    warned = landslip("map", "model_west/", "coarse/stack.tif", "coarse.tif", at=copied)
    assert "45" in warned.err and "15" in warned.err
    with rasterio.open(copied / "coarse.tif") as raster:
        assert any("45" in value for value in raster.tags().values())
        assert np.isfinite(raster.read(1)).any()
