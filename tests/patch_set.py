"""A small made-up set of patches, as a fixture, and what the tests of imported patches share."""

import csv
from pathlib import Path

import numpy as np
import pytest
from made_up import picture, write_png

from landslip.geo.grid import Window

SIDE = 32
# read by eye: which of the made patches hold a landslide
TRAINING = {1: True, 2: True, 3: False, 4: True, 10: True, 11: True, 12: True, 20: False}
SCORED = {1: True, 2: True, 3: True}
CHOICES = {
    "blocks": {"window": SIDE, "step": SIDE},
    "split": {"kind": "given"},
    "network": {"options": {"layers": [1, 1, 1], "first_width": 8, "growth_rate": 4}},
    "training": {"epochs": 2, "batch": 2, "precision": "fp32"},
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    for part, held in (("train", TRAINING), ("validation", SCORED)):
        for number, landslide in held.items():
            image, mask = picture(number + 100 * (part == "train"), landslide)
            write_png(folder / part / "images" / f"image_{number}.png", image)
            write_png(folder / part / "masks" / f"mask_{number}.png", mask)
    return folder


def places(prepared: Path) -> dict[str, tuple[str, Window]]:
    """{patch: (part, window)} as patches.csv says."""
    with (prepared / "patches.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {r["patch"]: (r["part"], Window(int(r["row"]), int(r["column"]), SIDE, SIDE)) for r in rows}


def write_landslide4sense(folder: Path) -> Path:
    """Its own layout: TrainData and TestData, img and mask, float64 (row, column, band); TestData without masks."""
    h5py = pytest.importorskip("h5py", reason="needs h5py (landslip's extra hdf5)")
    for part, count in (("TrainData", 12), ("TestData", 2)):
        for kind in ("img", "mask") if part == "TrainData" else ("img",):
            (folder / part / kind).mkdir(parents=True)
        for number in range(1, count + 1):
            rng = np.random.default_rng(number)
            image = rng.normal(1, 0.1, (SIDE, SIDE, 14)) + 10 * np.arange(14)
            mask = np.zeros((SIDE, SIDE), np.uint8)
            mask[3:9, 20:30] = 1
            if (part, number) == ("TrainData", 2):
                image[0, 0, 5], image[31, 31, 13] = np.nan, np.inf
            with h5py.File(folder / part / "img" / f"image_{number}.h5", "w") as file:
                file["img"] = image
            if part == "TrainData":
                with h5py.File(folder / part / "mask" / f"mask_{number}.h5", "w") as file:
                    file["mask"] = mask
    return folder
