"""Prepared folders, runs and servers, made up or changed for tests."""

import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from conftest import CRS_UTM, GRID, TinySite
from rasterio.errors import NotGeoreferencedWarning

from landslip.dataset.channels import Channel, read_stack_info
from landslip.geo.geotiff import create_raster, write_raster, write_window
from landslip.geo.grid import Grid, Window
from landslip.geo.raster import PROBABILITY, open_raster, read, read_stored
from landslip.inventory.inventory import make_inventory


def write_prepared(
    folder: Path, planes: dict[Channel, np.ndarray], label: np.ndarray, valid: np.ndarray | None = None
) -> Path:
    """A prepared folder of given planes (H, W), label and valid."""

    grid = Grid(CRS_UTM, Affine(15, 0, 460_000, 0, -15, 3_430_000), *label.shape)
    folder.mkdir(parents=True, exist_ok=True)
    names = [channel.name for channel in planes]
    with create_raster(folder / "stack.tif", grid, "float32", names, np.nan, overwrite=True) as dataset:
        write_window(
            dataset, np.stack([np.asarray(plane, np.float32) for plane in planes.values()]), Window(0, 0, *label.shape)
        )
        for band, channel in enumerate(planes, start=1):
            dataset.update_tags(band, **channel.tags())
    valid = np.ones(label.shape, bool) if valid is None else valid
    write_raster(folder / "valid.tif", valid[None].astype(np.uint8), grid, ["valid"], overwrite=True)
    write_raster(folder / "label.tif", label[None].astype(np.uint8), grid, ["label"], overwrite=True)
    return folder


def factor(name: str, unit: str = "") -> Channel:
    return Channel(name, name, "factor", unit)


def other_site(made: TinySite, folder: Path, east: float = 1e5, without: str = "", unit: str = "") -> Path:
    """The prepared tiny site mirrored, darker and `east` metres away, as another site would be."""
    source = made.folder / "prepared"
    info = read_stack_info(source / "stack.tif")
    t = GRID.transform
    grid = Grid(GRID.crs, Affine(t.a, 0, t.c + east, 0, t.e, t.f), *GRID.shape)
    kept = [i for i, channel in enumerate(info.channels) if channel.name != without]
    values = read(source / "stack.tif")[kept][:, :, ::-1].copy()
    values[:7] -= 0.02
    names = [info.channels[i].name for i in kept]
    with create_raster(folder / "stack.tif", grid, "float32", names, float("nan")) as dataset:
        for band, i in enumerate(kept, start=1):
            tags = info.channels[i].tags()
            dataset.update_tags(band, **(tags | ({"landslip_unit": unit} if unit and band == 1 else {})))
        write_window(dataset, values, Window(0, 0, *grid.shape))
    for name in ("label", "valid"):
        stored = read_stored(source / f"{name}.tif")[:, ::-1].copy()
        write_raster(folder / f"{name}.tif", stored[None], grid, [name], 255 if name == "label" else None)
    return folder


def spoil(path: Path, tile: str, band: int) -> None:
    """Overwrite a stored tile (column_row) with what does not decode."""
    with open_raster(path) as dataset:
        offset = int(dataset.get_tag_item(f"BLOCK_OFFSET_{tile}", "TIFF", bidx=band))
        size = int(dataset.get_tag_item(f"BLOCK_SIZE_{tile}", "TIFF", bidx=band))
    content = bytearray(path.read_bytes())
    content[offset : offset + size] = b"\xff" * size
    path.write_bytes(content)


@contextmanager
def served(folder: Path, missing: int = 404) -> Iterator[Path]:
    """A folder under a path of GDAL's, whose address has lost a slash as Path makes it."""
    command = [sys.executable, str(Path(__file__).with_name("range_server.py")), str(folder), str(missing)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield Path(f"/vsicurl/http://127.0.0.1:{server.stdout.readline().strip()}")
        finally:  # else a test that fails would wait for the server for ever
            server.kill()


def made_up_probability(label: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(3)
    values = np.clip(rng.normal(0.1, 0.05, label.shape), 0, 1)
    values[label == 1] = np.clip(rng.normal(0.8, 0.1, int((label == 1).sum())), 0, 1)
    values[:, :3] = np.nan
    return values.astype(np.float32)


def write_run(folder: Path, made: TinySite) -> Path:
    """A run folder from the tiny site's prepared folder and split, and a probability made up."""
    for name in ("prepared", "model"):
        shutil.copytree(made.folder / name, folder / name)
    label = read_stored(made.folder / "prepared" / "label.tif")
    write_raster(
        folder / "map" / "probability.tif", made_up_probability(label)[None], GRID, [PROBABILITY], np.nan,
        tags={"threshold": "0.4"},
    )  # fmt: skip
    make_inventory(folder / "map" / "probability.tif", folder / "inventory" / "landslides.gpkg")
    return folder


def write_png(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", "PNG", width, height, count, dtype=values.dtype) as dataset:
            dataset.write(values)


def picture(number: int, landslide: bool, side: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """RGBA in 8 bits with its mask in R: dark ground, and a bright landslide of 8 x 6 pixels."""
    rng = np.random.default_rng(number)
    image = rng.integers(20, 60, (4, side, side)).astype(np.uint8)
    mask = np.zeros((4, side, side), np.uint8)
    if landslide:
        image[:3, 4:12, 10:16] += 100
        mask[0, 4:12, 10:16] = 255
    image[3] = mask[3] = 255
    return image, mask
