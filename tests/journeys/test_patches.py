"""Patches cut from the made-up site, imported and trained on; the site is mapped with that model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio

from journeys.walk import landslip

SIDE = 64
RUN = """
[blocks]
window = 64
step = 64

[split]
kind = "given"

[network]
name = "fc_densenet"
options = { layers = [2, 2, 2], first_width = 16, growth_rate = 8 }

[training]
epochs = 4
batch = 4
"""


def cut_patches(prepared: Path, folder: Path) -> None:
    """Cut a prepared site into HDF5 patches, as somebody with h5py does; the lowest row of patches is to be scored."""
    h5py = pytest.importorskip("h5py", reason="patches in HDF5 need landslip[hdf5]")
    with rasterio.open(prepared / "stack.tif") as raster:
        stack = np.moveaxis(raster.read(), 0, -1)
    with rasterio.open(prepared / "label.tif") as raster:
        label = raster.read(1)
    last = stack.shape[0] // SIDE - 1
    for i in range(last + 1):
        for j in range(stack.shape[1] // SIDE):
            here = np.s_[i * SIDE : (i + 1) * SIDE, j * SIDE : (j + 1) * SIDE]
            for name, key, values in (("images", "img", stack), ("masks", "mask", label)):
                path = folder / ("test" if i == last else "train") / name / f"{i}_{j}.h5"
                path.parent.mkdir(parents=True, exist_ok=True)
                with h5py.File(path, "w") as file:
                    file[key] = values[here]


def test_patches_train_a_model_that_maps_the_site(copied: Path) -> None:
    cut_patches(copied / "prepared", copied / "patches")
    landslip("import", "patches/", "imported/", "--resolution", 15, "--channels", "prepared/stack.tif", at=copied)
    (copied / "patches_run.toml").write_text(RUN)
    landslip("train", "patches_run.toml", "imported/", "patch_model/", at=copied)
    landslip("map", "patch_model/", "prepared/stack.tif", "patch_map/probability.tif", at=copied)
    words = "evaluate", "patch_map/probability.tif", "prepared/label.tif", "--part", "all", "--json", "patches.json"
    landslip(*words, at=copied)
    scores = json.loads((copied / "patches.json").read_text())
    assert scores["kappa"] > 0.2  # four epochs of a small network: far from good, and far from chance
