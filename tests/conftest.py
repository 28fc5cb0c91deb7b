"""A tiny site that every stage can be tried on in a second, written as the files a user would have."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before torch starts its threads
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    # Where processes share the cores, threads of numpy's and torch's libraries would only wait for each other.
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, threads)

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from command import command
from hypothesis import settings
from rasterio.crs import CRS

from landslip.geo import geotiff
from landslip.geo.geopackage import write_vector
from landslip.geo.grid import Grid
from landslip.runtime.disk import file_hash

# On a shared machine one example may take long and be right all the same.
settings.register_profile("landslip", deadline=None)
settings.load_profile("landslip")

SHAPE = (128, 192)
CRS_UTM = CRS.from_epsg(32649)
GRID = Grid(CRS_UTM, Affine(15, 0, 460_000, 0, -15, 3_430_000), *SHAPE)
TINY = "options = { layers = [1, 1, 1], first_width = 8, growth_rate = 4 }"
RUN = f"""
[blocks]
window = 32
step = 16

[split]
region = 32
guard = 8

[network]
{TINY}

[training]
epochs = 3
batch = 4
precision = "fp32"
"""


@dataclass(frozen=True)
class TinySite:
    folder: Path
    site: Path
    run: Path
    label: np.ndarray


def polygon(row: int, column: int, height: int, width: int) -> shapely.Polygon:
    """The outline of whole pixels of GRID."""
    left, top = GRID.transform.c + column * 15, GRID.transform.f - row * 15
    return shapely.box(left, top - height * 15, left + width * 15, top)


REDRAWN, DRAWN = polygon(60, 170, 9, 7), polygon(120, 3, 4, 5)  # outlines of a review, where nothing is mapped


def frame(geometries: list, **columns: list) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(columns, geometry=geometries, crs="EPSG:32649")


def write_tiny_site(folder: Path) -> TinySite:
    """Bands with bright landslides on a hill; a DEM of 30 m with a margin; rivers, faults, two rocks, an outline."""
    rng = np.random.default_rng(7)
    label = np.zeros(SHAPE, bool)
    slides = []
    for row in range(6, SHAPE[0] - 16, 24):
        for column in range(6 + row % 5, SHAPE[1] - 16, 22):
            height, width = int(rng.integers(6, 13)), int(rng.integers(6, 13))
            label[row : row + height, column : column + width] = True
            slides.append(polygon(row, column, height, width))
    bands = rng.normal(0.1, 0.01, (7, *SHAPE)).astype(np.float32)
    bands[3:] += 0.1
    bands[:, label] += 0.1
    geotiff.write_raster(
        folder / "image.tif",
        np.rint(bands * 10_000).astype(np.uint16),
        GRID,
        ["coastal", "blue", "green", "red", "nir", "swir1", "swir2"],
        nodata=0,
    )
    dem_grid = Grid(CRS_UTM, Affine(30, 0, 460_000 - 300, 0, -30, 3_430_000 + 300), 84, 116)
    y, x = np.mgrid[0:84, 0:116].astype(np.float32)
    z = 500 + 8 * x + 60 * np.sin(x / 9) * np.cos(y / 7)
    geotiff.write_raster(folder / "dem.tif", z[None].astype(np.float32), dem_grid, ["elevation"], nodata=-9999.0)
    left, bottom, right, top = GRID.bounds
    write_vector(folder / "rivers.gpkg", frame([shapely.LineString([(left, top), (right, bottom)])]))
    write_vector(folder / "faults.gpkg", frame([shapely.LineString([(left - 900, bottom), (left - 900, top)])]))
    middle = (left + right) / 2
    rocks = [
        shapely.box(left - 99, bottom - 99, middle, top + 99),
        shapely.box(middle, bottom - 99, right + 99, top + 99),
    ]
    write_vector(folder / "rocks.gpkg", frame(rocks, rock=["shale", "limestone"]))
    write_vector(folder / "landslides.gpkg", frame(slides, id=list(range(len(slides)))))
    write_vector(folder / "outline.gpkg", frame([shapely.box(left, bottom, right, top)]))
    site = folder / "site.toml"
    site.write_text(
        """name = "tiny"

[outline]
path = "outline.gpkg"

[[image]]
path = "image.tif"
bands = { coastal = 1, blue = 2, green = 3, red = 4, nir = 5, swir1 = 6, swir2 = 7 }
scale = 0.0001

[dem]
path = "dem.tif"

[rivers]
path = "rivers.gpkg"

[faults]
path = "faults.gpkg"

[lithology]
path = "rocks.gpkg"
field = "rock"
classes = { shale = "soft", limestone = "hard" }

[landslides]
path = "landslides.gpkg"
"""
    )
    run = folder / "run.toml"
    run.write_text(RUN)
    return TinySite(folder, site, run, label)


def rewrite_split(model: Path, parts: np.ndarray, tags: dict[str, str]) -> None:
    """Give a model folder another split, as if it had been trained by it."""
    geotiff.write_raster(model / "split.tif", parts[None], GRID, ["part"], None, tags=tags, overwrite=True)
    facts = json.loads((model / "model.json").read_text())
    facts["split_sha256"] = file_hash(model / "split.tif")
    (model / "model.json").write_text(json.dumps(facts))


@pytest.fixture
def tiny(tmp_path: Path) -> TinySite:
    return write_tiny_site(tmp_path)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> TinySite:
    """The tiny site, prepared and trained once; read only."""
    from landslip.config.run import read_run
    from landslip.config.site import read_site
    from landslip.preparation.prepare import prepare
    from landslip.training.train import train

    found = write_tiny_site(tmp_path_factory.mktemp("made"))
    prepare(read_site(found.site), found.folder / "prepared")
    train(read_run(found.run), found.folder / "prepared", found.folder / "model")
    return found


@pytest.fixture(scope="session")
def mapped(made: TinySite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny site as a run folder with its map and inventory; read only."""
    from landslip.inference.mapping import map_site
    from landslip.inventory.inventory import make_inventory
    from landslip.training.checkpoint import load_model

    run = tmp_path_factory.mktemp("mapped") / "run"
    shutil.copytree(made.folder, run)
    map_site(load_model(run / "model"), run / "prepared" / "stack.tif", run / "map" / "probability.tif")
    make_inventory(run / "map" / "probability.tif", run / "inventory" / "landslides.gpkg")
    return run


@pytest.fixture
def reviewed(mapped: Path, tmp_path: Path) -> Path:
    """The run folder `mapped`, its first landslides accepted, rejected and redrawn, another drawn, the rest open."""
    from landslip.review import reviews

    run = tmp_path / "run"
    shutil.copytree(mapped, run)
    path = run / "inventory" / "landslides.gpkg"
    first, second, third = (one.id for one in reviews.read_inventory(path)[:3])
    reviews.decide(path, first, reviews.ACCEPTED)
    reviews.decide(path, second, reviews.REJECTED)
    reviews.decide(path, third, reviews.REDRAWN, outline=REDRAWN)
    reviews.decide(path, None, reviews.DRAWN, outline=DRAWN)
    return run


@pytest.fixture(scope="session")
def finished(made: TinySite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny site as a run folder after every command; read only."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    shutil.copytree(made.folder, folder)
    p, label, split = folder / "p.tif", folder / "prepared" / "label.tif", folder / "model" / "split.tif"
    assert command("map", folder / "model", folder / "prepared" / "stack.tif", p).code == 0
    assert command("inventory", p, folder / "i.gpkg").code == 0
    assert command("evaluate", p, label, "--split", split, "--json", folder / "s.json").code == 0
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run folder, to be changed at will."""
    return Path(shutil.copytree(finished, tmp_path / "run"))
