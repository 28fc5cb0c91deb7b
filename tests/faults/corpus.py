"""Thousands of bad inputs, each tried in a process of its own: imports are paid once, then every case is a fork.

    python -m faults.corpus GOOD/ --count 10000        a run folder as test_cli's `finished` makes it
    python -m faults.corpus GOOD/ --case stack:17      one case again, with its traceback

A case is a kind of input and a number, which seed its change: the same on every machine. It may end well (exit code 0,
or 1 of `landslip check`) or be refused (a LandslipError, exit code 2, one message, no output with a final name). All
else is a failure: a traceback, a signal, more than LIMITS of processor time or memory, a message of pages.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # a process of several threads is not safely forked

import argparse
import faulthandler
import hashlib
import importlib
import io
import json
import pkgutil
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from faults import mutate
from faults.mutate import Mutator

PROCESSOR = 40  # seconds of processor time that a case may take
WALL = 600  # seconds; only a deadlock takes so long
ADDRESS = 4 * 2**30  # bytes of address space beyond what the imports take
RESIDENT = 2**30  # bytes that a case may add
LONGEST = 4000  # characters of a message


@dataclass(frozen=True)
class Kind:
    """An input that is changed, by whom it is then read, and what else has to be there."""

    file: str
    mutator: Mutator
    takers: tuple[str, ...]
    needs: tuple[str, ...] = ()
    weight: float = 1.0
    mend: Callable[[], None] | None = None  # run in the folder, after the change


MAP = "map model prepared/stack.tif new.tif --engine torch"
TRAIN = "train run.toml prepared new --set training.epochs=1"
SCORE = "evaluate p.tif prepared/label.tif --split model/split.tif --json new.json"
INVENTORY = "inventory p.tif new.gpkg"
SITE = (
    "site.toml",
    "image.tif",
    "dem.tif",
    "outline.gpkg",
    "rivers.gpkg",
    "faults.gpkg",
    "rocks.gpkg",
    "landslides.gpkg",
)
PREPARE = "prepare site.toml new --no-figures"
RASTERS = ("deflate", "lzw", "stripes", "packbits", "zstd", "lzma", "jpeg", "big", "mask", "cog", "motorola", "float64")
CALIBRATE = "calibrate model prepared new"
EXPORT = "export model new"
TRANSFER = "transfer model elsewhere new"
IMPORTANCE = "importance prepared new --model model --repeats 2 --block 16"
FURTHER = (CALIBRATE, IMPORTANCE, "intervals prepared new")
SLOW = (
    MAP,
    TRAIN,
    SCORE,
    INVENTORY,
    PREPARE,
    "check site.toml",
    "@state",
    "@report",
    "@correct",
    "@stac",
    *FURTHER,
    TRANSFER,
    EXPORT,
)
PAPERS = ("papers",)
MODEL_READERS = ("@model", "info model", "@model")


def rehash() -> None:
    """Name the changed weights in model.json, so that they are read."""
    path = Path("model/model.json")
    facts = json.loads(path.read_text())
    facts["weights_sha256"] = hashlib.sha256(Path("model/model.safetensors").read_bytes()).hexdigest()
    pixels = Path("model/training_pixels.safetensors")
    if "training_pixels" in facts and pixels.exists():
        facts["training_pixels"]["sha256"] = hashlib.sha256(pixels.read_bytes()).hexdigest()
    path.write_text(json.dumps(facts))


def kinds() -> dict[str, Kind]:
    """Every kind of input by name."""
    whole = ("prepared", "model", "run.toml", "p.tif")
    found = {
        "stack": Kind("prepared/stack.tif", mutate.tiff, ("@stack", "info prepared", "@survey", MAP), whole, 2),
        "stack bytes": Kind("prepared/stack.tif", mutate.bytes_, ("@stack", "@stack", MAP), whole),
        "valid": Kind("prepared/valid.tif", mutate.tiff, ("@survey", MAP), whole),
        "label": Kind("prepared/label.tif", mutate.tiff, ("@survey", SCORE, TRAIN), whole),
        "label bytes": Kind("prepared/label.tif", mutate.bytes_, ("@survey", SCORE), whole),
        "split": Kind("model/split.tif", mutate.tiff, ("@split", SCORE), whole),
        "split bytes": Kind("model/split.tif", mutate.bytes_, ("@split", SCORE), whole),
        "probability": Kind("p.tif", mutate.tiff, ("info p.tif", INVENTORY, SCORE), whole),
        "probability bytes": Kind("p.tif", mutate.bytes_, ("info p.tif", INVENTORY, SCORE), whole),
        "channels.json": Kind("prepared/channels.json", mutate.json_, ("info prepared", "info prepared"), whole, 0.5),
        "manifest.json": Kind(
            "prepared/manifest.json", mutate.json_, (INVENTORY + " --stack prepared/stack.tif", "@correct"),
            (*whole, "reviewed.gpkg"), 0.7,
        ),
        "run.toml": Kind("run.toml", mutate.toml, ("@run", "@run", "@survey"), whole, 2),
        "site.toml": Kind("site.toml", mutate.toml, ("@site", "@site", "@site", "check site.toml", PREPARE), SITE, 2),
        "image": Kind("image.tif", mutate.tiff, ("@site", "@site", "check site.toml", PREPARE), SITE),
        "dem": Kind("dem.tif", mutate.tiff, ("@site", "@site", "check site.toml", PREPARE), SITE),
        "dem bytes": Kind("dem.tif", mutate.bytes_, ("@site", "check site.toml"), SITE),
        "landslides": Kind("landslides.gpkg", mutate.geopackage, ("@vector", "@site", "check site.toml"), SITE, 1.5),
        "rivers": Kind("rivers.gpkg", mutate.geopackage, ("@vector", "@site", PREPARE), SITE),
        "rocks": Kind("rocks.gpkg", mutate.geopackage, ("@vector", "@site", "check site.toml"), SITE),
        "outline": Kind("outline.gpkg", mutate.geopackage, ("@site",), SITE, 0.7),
        "reviewed": Kind(
            "reviewed.gpkg", mutate.geopackage,
            ("@review", "@review", "@correct", "info reviewed.gpkg", INVENTORY + " --previous reviewed.gpkg"),
            (*whole, "reviewed.gpkg"), 2,
        ),
        "model.json": Kind("model/model.json", mutate.json_, (*MODEL_READERS, MAP, "@area"), whole, 2.5),
        "model.json further": Kind(
            "model/model.json", mutate.json_, (CALIBRATE, IMPORTANCE, TRANSFER, EXPORT), (*whole, "elsewhere"), 1.5
        ),
        "stack further": Kind("prepared/stack.tif", mutate.tiff, FURTHER, whole, 0.5),
        "label further": Kind("prepared/label.tif", mutate.tiff, FURTHER, whole, 0.5),
        "stack elsewhere": Kind("elsewhere/stack.tif", mutate.tiff, (TRANSFER,), (*whole, "elsewhere"), 0.3),
        "split further": Kind("model/split.tif", mutate.tiff, (CALIBRATE, IMPORTANCE), whole, 0.3),
        "weights": Kind("model/model.safetensors", mutate.safetensors, MODEL_READERS, whole, 1.5, rehash),
        "pixels": Kind("model/training_pixels.safetensors", mutate.safetensors, ("@area",), whole, 1, rehash),
        "history.csv": Kind("papers/model/history.csv", mutate.csv, ("@report",), PAPERS),
        "scores": Kind("papers/scores/test.json", mutate.json_, ("@report",), PAPERS),
        "model.json in papers": Kind("papers/model/model.json", mutate.json_, ("@report", "@stac"), PAPERS),
        "manifest in papers": Kind("papers/prepared/manifest.json", mutate.json_, ("@report", "@stac"), PAPERS, 0.7),
        "landsat json": Kind("landsat/LANDSAT_MTL.json", mutate.json_, ("@landsat",), ("landsat",), 1.5),
        "landsat txt": Kind("landsat_txt/LANDSAT_MTL.txt", mutate.mtl, ("@landsat_txt",), ("landsat_txt",), 1.5),
        "landsat band": Kind("landsat/LANDSAT_B4.TIF", mutate.tiff, ("@landsat",), ("landsat",), 0.7),
        "landsat quality": Kind("landsat/LANDSAT_QA_PIXEL.TIF", mutate.tiff, ("@landsat",), ("landsat",), 0.5),
        "landsat tar": Kind("landsat.tar", mutate.tar, ("@landsat_tar",), ("landsat.tar",), 2),
        "sentinel xml": Kind("s2.SAFE/MTD_MSIL2A.xml", mutate.xml, ("@sentinel",), ("s2.SAFE",), 1.5),
        "sentinel zip": Kind("s2.SAFE.zip", mutate.zip_, ("@sentinel_zip",), ("s2.SAFE.zip",), 2),
        "png": Kind("patches/train/images/3.png", mutate.png, ("@patches",), ("patches",), 1),
        "png mask": Kind("patches/train/masks/3.png", mutate.png, ("@patches",), ("patches",), 0.7),
        "hdf5": Kind("l4s/TrainData/img/image_3.h5", mutate.hdf5, ("@l4s",), ("l4s",), 1),
        "hdf5 mask": Kind("l4s/TrainData/mask/mask_3.h5", mutate.hdf5, ("@l4s",), ("l4s",), 0.7),
        "decision": Kind("decision.json", mutate.json_, ("@decide",), (*whole, "reviewed.gpkg", "decision.json"), 1),
        "map plan": Kind(".new.tif.windows/*/plan.json", mutate.json_, (MAP,), (*whole, ".new.tif.windows"), 0.3),
        "map window": Kind(".new.tif.windows/*/0000000.npy", mutate.bytes_, (MAP,), (*whole, ".new.tif.windows"), 0.3),
        "prepare ledger": Kind(".new.part/finished.json", mutate.json_, (PREPARE,), (*SITE, ".new.part"), 0.3),
        "state": Kind("state/state.safetensors", mutate.safetensors, ("@state",), (*whole, "state"), 0.7),
    }  # fmt: skip
    for name in RASTERS:
        file = f"rasters/{name}.tif"
        found[f"tiff {name}"] = Kind(file, mutate.tiff, (f"@pixels {file}", f"info {file}"), (file,), 0.7)
        found[f"tiff {name} bytes"] = Kind(file, mutate.bytes_, (f"@pixels {file}",), (file,), 0.4)
    found["jp2"] = Kind("rasters/a.jp2", mutate.bytes_, ("@pixels rasters/a.jp2",), ("rasters/a.jp2",), 0.7)
    with suppress(ImportError):
        importlib.import_module("openvino")
        found["int8.json"] = Kind("model/int8.json", mutate.json_, ("@int8", "info model"), whole, 0.5)
        found["int8.xml"] = Kind("model/int8.xml", mutate.xml, ("@int8",), whole, 0.7)
        found["int8.bin"] = Kind("model/int8.bin", mutate.bytes_, ("@int8",), whole, 0.3)
    return found


# ---- what reads them, below the command line ----


def pixels(name: str) -> None:
    from landslip.geo.grid import Window
    from landslip.geo.preview import read_decimated
    from landslip.geo.raster import (
        file_facts,
        open_raster,
        read_around,
        read_band_tags,
        read_info,
        unreadable_blocks,
    )

    path = Path(name)
    info = read_info(path)
    read_band_tags(path)
    file_facts(path)
    with open_raster(path) as dataset:
        read_around(dataset, Window(0, 0, min(info.height, 300), min(info.width, 300)), list(dataset.indexes)[:20])
        read_around(dataset, Window(max(0, info.height - 300), max(0, info.width - 300), 300, 300), [1])
    unreadable_blocks(path, Window(0, 0, 300, 300))
    read_decimated(path, [1], 100)


def stack() -> None:
    from landslip.dataset.channels import read_stack_info

    read_stack_info(Path("prepared/stack.tif"))
    pixels("prepared/stack.tif")


def survey() -> None:
    from landslip.config.run import read_run
    from landslip.dataset.training_data import build_training_data as lay_out

    lay_out(read_run(Path("run.toml")), Path("prepared"))


def split() -> None:
    from landslip.dataset.channels import read_stack_info
    from landslip.dataset.training_data import read_split
    from landslip.training.checkpoint import load_model, split_of

    stack = read_stack_info(Path("prepared/stack.tif"))
    with suppress_altered():
        split_of(load_model(Path("model")))
    read_split(Path("model/split.tif"), stack)


class suppress_altered(suppress):
    """What says that a hash differs is right, and not what is tried."""

    def __init__(self) -> None:
        from landslip.errors import ModelError

        super().__init__(ModelError)


def run_file() -> None:
    import torch

    from landslip.config.run import read_run, settled
    from landslip.models import build_model

    run = settled(read_run(Path("run.toml")))
    with torch.device("meta"):
        build_model(run.network.name, 18, **run.network.options)


def site() -> None:
    """What prepare reads, in windows of 40 pixels."""
    from landslip.config.site import read_site
    from landslip.geo.grid import Window
    from landslip.preparation.channel_sources import channel_sources
    from landslip.preparation.label_source import open_label
    from landslip.preparation.site_grid import site_grid
    from landslip.preparation.site_inputs import open_site

    found = read_site(Path("site.toml"))
    grid = site_grid(open_site(found))
    window = Window(0, 0, 40, 40).clip(grid.shape)
    scratch = Path("new")
    scratch.mkdir()
    for source in channel_sources(open_site(found), grid.crop(window), "planes"):
        source.begin(scratch)(Window(0, 0, window.height, window.width))
    if found.landslides is not None:
        open_label(found.landslides, grid)
    shutil.rmtree(scratch)


def vector() -> None:
    from landslip.geo.grid import Grid
    from landslip.geo.raster import read_info
    from landslip.geo.rasterize import burn
    from landslip.geo.vector import layer_names, read_vector

    grid: Grid = read_info(Path("image.tif")).grid
    for name in ("landslides", "rivers", "rocks"):
        layer_names(Path(f"{name}.gpkg"))
        frame = read_vector(Path(f"{name}.gpkg"), None, grid.crs, grid.bounds)
        burn(frame.geometry, grid, "touched")


def bundle(name: str, roles: tuple[str, ...] = ("red", "green")) -> None:
    """The pixels of a bundle as prepare has them."""
    from landslip.config.site import Site
    from landslip.config.site_tables import ImageTable
    from landslip.geo.grid import Window
    from landslip.preparation.images import describe_images, read_with_plain
    from landslip.preparation.site_grid import site_grid
    from landslip.preparation.site_inputs import open_site

    table = ImageTable.model_validate({"bundle": name, "bands": list(roles)})
    inputs = open_site(Site(name="x", image=(table,)))
    grid = site_grid(inputs)
    describe_images(inputs.images)
    read_with_plain(inputs.images, grid.crop(Window(0, 0, 40, 40).clip(grid.shape)))


def patches(name: str) -> None:
    from landslip.patches.import_patches import import_patches

    import_patches(Path(name), Path("new"))


def review() -> None:
    from shapely import box

    from landslip.review import reviews as review

    path = Path("reviewed.gpkg")
    review.crs_of(path)
    review.inventory_mark(path)
    landslides = review.read_inventory(path)
    standing = review.read_reviews(path)
    review.corrections(path)
    first = landslides[0].id if landslides else 1
    version = standing[first].version if first in standing else 0
    made = review.decide(path, first, "redrawn", version, box(460_100, 3_429_800, 460_200, 3_429_900), note="x")
    review.undo(path, made.decision)
    review.redo(path, made.decision)


def model() -> None:
    from landslip.dataset.channels import read_stack_info
    from landslip.training.checkpoint import load_model, match_channels, run_of, sites_of, split_of

    loaded = load_model(Path("model"))
    match_channels(loaded, read_stack_info(Path("prepared/stack.tif")))
    sites_of(loaded)
    split_of(loaded)
    run_of(loaded)


def area() -> None:
    from landslip.training.checkpoint import load_model
    from landslip.training.training_pixels import area_of

    area_of(load_model(Path("model")))


def int8() -> None:
    from landslip.inference.int8 import quantized_graph
    from landslip.training.checkpoint import load_model

    quantized_graph(load_model(Path("model")))


def state() -> None:
    """A training killed after its first epoch goes on, or starts anew."""
    line("train run.toml prepared state")


def decide() -> None:
    """The server answers any body, and never with a bug of its own."""
    client = _client()
    body = Path("decision.json").read_bytes()
    for path in ("/api/reviews", "/api/reviews/undo"):
        status = client.post(path, content=body, headers={"content-type": "application/json"}).status_code
        if status not in (200, 400, 403, 404, 409, 413, 422):
            raise AssertionError(f"{path} answers {status}")


def _client() -> Any:
    from fastapi.testclient import TestClient

    from landslip.runtime.run_folder import open_run
    from landslip.serve import guard
    from landslip.serve.app import create_app
    from landslip.serve.session import Session

    for name, to in (("p.tif", "map/probability.tif"), ("reviewed.gpkg", "inventory/landslides.gpkg")):
        Path(to).parent.mkdir(exist_ok=True)
        shutil.copy(name, to)
    host = "http://127.0.0.1:8008"
    app = create_app(Session(open_run(Path()), lambda _: None), guard.names_of("127.0.0.1"))
    return TestClient(app, host, headers={"origin": host})


TAKERS: dict[str, Callable[[], None]] = {
    "@stack": stack,
    "@survey": survey,
    "@split": split,
    "@run": run_file,
    "@site": site,
    "@vector": vector,
    "@review": review,
    "@correct": lambda: line("correct prepared reviewed.gpkg new"),
    "@model": model,
    "@area": area,
    "@int8": int8,
    "@report": lambda: line("report papers new.html"),
    "@stac": lambda: line("stac papers new"),
    "@landsat": lambda: bundle("landsat"),
    "@landsat_txt": lambda: bundle("landsat_txt"),
    "@landsat_tar": lambda: bundle("landsat.tar"),
    "@sentinel": lambda: bundle("s2.SAFE"),
    "@sentinel_zip": lambda: bundle("s2.SAFE.zip"),
    "@patches": lambda: patches("patches"),
    "@l4s": lambda: patches("l4s"),
    "@decide": decide,
    "@state": state,
}


def line(words: str) -> int:
    """A command as the shell would run it: 0 or 1, or LandslipError where it was refused as it should be."""
    from landslip.cli import main as cli
    from landslip.errors import LandslipError

    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["landslip", *words.split()]
    code = 0
    try:
        with redirect_stdout(out), redirect_stderr(err):
            cli.main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    said = err.getvalue()
    messages = [text for text in said.splitlines() if text.startswith("landslip: ")]
    if code == 2:
        if len(messages) != 1 or "Traceback" in said or "not enough memory" in said:
            raise AssertionError(f"refused, and says {said[-2000:]!r}")
        raise LandslipError(messages[0])
    if code not in ((0, 1) if words.startswith("check") else (0,)):
        raise AssertionError(f"exit code {code}: {said[-2000:]!r}")
    return code


# ---- good inputs ----


def write_good(finished: Path, good: Path) -> None:
    """Everything that is changed, from a finished run folder and out of nothing."""
    import rasterio
    import shapely
    from bundles import sentinel_metadata, write_landsat, write_sentinel
    from conftest import GRID, TINY
    from made_up import picture, write_png

    from landslip.review import reviews
    from landslip.training.checkpoint import load_model

    shutil.copytree(finished, good)
    text = (good / "site.toml").read_text()
    left, _, _, top = GRID.bounds
    extent = f"[grid]\nextent = [{left}, {top - 600}, {left + 900}, {top}]\n\n[outline]"
    (good / "site.toml").write_text(text.replace("[outline]", extent))
    (good / "run.toml").write_text((good / "run.toml").read_text() + '\n[channels]\nbands = "all"\nfactors = "all"\n')
    assert TINY in (good / "run.toml").read_text()
    shutil.copy(good / "i.gpkg", good / "reviewed.gpkg")
    ids = [landslide.id for landslide in reviews.read_inventory(good / "reviewed.gpkg")]
    shape = shapely.box(left + 300, top - 400, left + 400, top - 300)
    reviews.decide(good / "reviewed.gpkg", ids[0], "accepted")
    reviews.decide(good / "reviewed.gpkg", ids[1], "rejected", note="a field")
    reviews.decide(good / "reviewed.gpkg", None, "drawn", outline=shape)
    ring = [list(point) for point in shape.exterior.coords]
    body = {"landslide": ids[2], "state": "redrawn", "version": 0, "note": "x"}
    body["outline"] = {"type": "Polygon", "coordinates": [ring]}
    (good / "decision.json").write_text(json.dumps(body))
    shutil.copytree(good / "prepared", good / "elsewhere")
    with rasterio.open(good / "elsewhere" / "stack.tif", "r+") as stack:  # another site, by its hash
        stack.write(stack.read(1) + 1, 1)
    _write_papers(good)
    _write_rasters(good / "rasters")
    rng = np.random.default_rng(0)
    seven, pan = rng.integers(8000, 20_000, (7, 20, 20)), rng.integers(8000, 20_000, (39, 39))
    with tempfile.TemporaryDirectory() as aside:
        made = write_landsat(Path(aside), seven, pan, tar=True)
        folder = made.path.with_suffix("")
        shutil.copytree(folder, good / "landsat")
        shutil.copytree(folder, good / "landsat_txt")
        shutil.copy(made.path, good / "landsat.tar")
        next((good / "landsat").glob("*_MTL.txt")).unlink()
        next((good / "landsat_txt").glob("*_MTL.json")).unlink()
        safe = write_sentinel(
            Path(aside), {"B03": seven[0], "B04": seven[1]}, np.full((20, 20), 4), sentinel_metadata()
        )
        shutil.copytree(safe, good / "s2.SAFE")
        with zipfile.ZipFile(good / "s2.SAFE.zip", "w", zipfile.ZIP_DEFLATED) as packed:
            for path in sorted(path for path in safe.rglob("*") if path.is_file()):
                packed.write(path, path.relative_to(safe.parent))
    for part, count in (("train", 4), ("test", 1)):
        for number in range(1, count + 1):
            image, mask = picture(number, True)
            write_png(good / "patches" / part / "images" / f"{number}.png", image)
            write_png(good / "patches" / part / "masks" / f"{number}.png", mask)
    _write_hdf5(good / "l4s", rng)
    _write_graph(load_model(good / "model"))
    rename_bundles(good)


def _write_papers(good: Path) -> None:
    """What the report reads as text, without the rasters that it would draw for minutes."""
    papers = good / "papers"
    for name in ("model/model.json", "model/model.safetensors", "model/history.csv", "prepared/manifest.json",
                 "prepared/channels.json", "prepared/table.csv", "site.toml", "run.toml"):  # fmt: skip
        (papers / name).parent.mkdir(parents=True, exist_ok=True)
        if (good / name).exists():
            shutil.copy(good / name, papers / name)
    (papers / "scores").mkdir()
    shutil.copy(good / "s.json", papers / "scores" / "test.json")


def _write_rasters(folder: Path) -> None:
    import rasterio
    from affine import Affine
    from conftest import CRS_UTM

    folder.mkdir()
    values = np.random.default_rng(0).integers(1, 250, (3, 70, 90)).astype(np.uint8)
    plain = {"driver": "GTiff", "height": 70, "width": 90, "count": 3, "dtype": "uint8", "crs": CRS_UTM, "nodata": 0}
    plain["transform"] = Affine(15, 0, 460_000, 0, -15, 3_430_000)
    tiled = {"tiled": True, "blockxsize": 32, "blockysize": 32}
    ways: dict[str, dict[str, Any]] = {
        "deflate": {"compress": "deflate", "predictor": 2, **tiled},
        "lzw": {"compress": "lzw", "predictor": 2, "interleave": "band"},
        "stripes": {"blockysize": 7},
        "packbits": {"compress": "packbits"},
        "zstd": {"compress": "zstd", **tiled},
        "lzma": {"compress": "lzma", **tiled},
        "jpeg": {"compress": "jpeg", "photometric": "ycbcr", "nodata": None, **tiled},
        "big": {"bigtiff": "yes", "compress": "deflate", **tiled},
        "mask": {"nodata": None, "compress": "deflate"},
        "motorola": {"endianness": "big", "compress": "deflate"},
        "float64": {"dtype": "float64", "compress": "deflate", "predictor": 3, **tiled},
    }
    for name, way in ways.items():
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(folder / f"{name}.tif", "w", **{**plain, **way}) as file,
        ):
            file.write(values.astype(way.get("dtype", "uint8")))
            file.descriptions = ("red", "green", "blue")
            file.update_tags(threshold="0.5", note="n")
            if name == "mask":
                file.write_mask(values[0] > 20)
    kept = {key: value for key, value in plain.items() if key != "driver"}
    with rasterio.open(folder / "cog.tif", "w", driver="COG", blocksize=128, overviews="auto", **kept) as file:
        file.write(values)
    with rasterio.open(
        folder / "a.jp2", "w", driver="JP2OpenJPEG", quality=100, reversible="yes", **{**kept, "nodata": None}
    ) as file:
        file.write(values)
    for path in folder.glob("*.aux.xml"):
        path.unlink()


def _write_hdf5(folder: Path, rng: np.random.Generator) -> None:
    import h5py

    for part, count in (("TrainData", 4), ("ValidData", 1)):
        for number in range(1, count + 1):
            mask = np.zeros((32, 32), np.uint8)
            mask[4:12, 10:16] = 1
            for kind, name, values in (("img", "image", rng.normal(1, 0.2, (32, 32, 14))), ("mask", "mask", mask)):
                path = folder / part / kind / f"{name}_{number}.h5"
                path.parent.mkdir(parents=True, exist_ok=True)
                with h5py.File(path, "w") as file:
                    file.create_dataset(kind, data=values)


def _write_graph(model: Any) -> None:
    """int8.xml, .bin and .json as `landslip quantize` leaves them, of the network as it is."""
    with suppress(ImportError):
        import openvino

        from landslip.inference.engines import openvino_graph

        folder = model.folder
        openvino.save_model(
            openvino_graph(model.network, len(model.channels)), folder / "int8.xml", compress_to_fp16=False
        )
        files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("int8.xml", "int8.bin")}
        facts = {"weights_sha256": model.facts["weights_sha256"], "files": files}
        facts["validation"] = {"f1": {"int8": 0.9, "fp32": 0.9}}
        (folder / "int8.json").write_text(json.dumps(facts))


def rename_bundles(good: Path) -> None:
    """Short names for the two files of a bundle that are changed."""
    for folder in ("landsat", "landsat_txt"):
        product = next((good / folder).glob("*_MTL.*")).name.split("_MTL")[0]
        for path in list((good / folder).iterdir()):
            path.rename(path.with_name(path.name.replace(product, "LANDSAT")))
        for path in (good / folder).glob("*_MTL.*"):
            path.write_text(path.read_text().replace(f"{product}_B", "LANDSAT_B").replace(f"{product}_QA", "LANDSAT_QA")
                            .replace(product.replace("L2SP", "L1TP") + "_B", "LANDSAT_B"))  # fmt: skip


# ---- one case ----


@dataclass
class Outcome:
    """How a case ended: "well", "refused" or, with what a user would have seen, "failed"."""

    kind: str
    number: int
    taker: str
    ended: str
    said: str = ""
    seconds: float = 0.0
    grown: float = 0.0  # MiB

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.number}"


def attempt(good: Path, here: Path, name: str, number: int, kind: Kind) -> Outcome:
    """Change a file of a copy, read it in a fork, and say how that ended."""
    rng = Random(f"{name}:{number}")
    taker = Random(f"taker of {name}:{number}").choice(kind.takers)  # apart: --light changes who reads, not what
    shutil.rmtree(here, ignore_errors=True)
    for need in {kind.file.split("/")[0] if not kind.needs else kind.needs[0], *kind.needs}:
        source, target = good / need, here / need
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        elif source.exists():
            shutil.copy(source, target)
    changed = next(here.glob(kind.file))
    changed.write_bytes(kind.mutator(changed.read_bytes(), rng))
    said = here.parent / "said"
    said.write_bytes(b"")
    peak = here.parent / "peak"
    peak.write_text("0")
    child = os.fork()
    if not child:
        _child(here, said, peak, kind, taker)
    _, status, used = os.wait4(child, 0)
    seconds, grown = used.ru_utime + used.ru_stime, int(peak.read_text()) / 1024
    text = said.read_text(errors="replace").strip()
    outcome = Outcome(name, number, taker, "failed", text[-6000:], seconds, grown)
    if os.WIFSIGNALED(status):
        outcome.said = f"killed by {signal.Signals(os.WTERMSIG(status)).name}\n{text[-6000:]}"
    elif os.WEXITSTATUS(status) == 0:
        outcome.ended = "well"
    elif os.WEXITSTATUS(status) == 2:
        outcome.ended = "refused"
        left = sorted(name for path in here.glob("new*") for name in _final(path))
        if left and taker != "@site":
            outcome.ended, outcome.said = "failed", f"refused, and left {left}: {text}"
        if len(text) > LONGEST:
            outcome.ended, outcome.said = "failed", f"a message of {len(text)} characters: {text[:300]}"
    if outcome.ended != "failed" and grown * 2**20 > RESIDENT:
        outcome.ended, outcome.said = "failed", f"took {grown:.0f} MiB; {text[:500]}"
    return outcome


def _final(path: Path) -> list[str]:
    """What a command has left in an output or as it; from windows of a map the next run goes on."""
    kept = [part for part in path.rglob(".*.windows") if any(part.rglob("*.npy"))] if path.is_dir() else []
    if not kept:
        return [path.name]
    files = (file for file in path.rglob("*") if file.is_file() and not any(part in file.parents for part in kept))
    return [file.relative_to(path.parent).as_posix() for file in files]


def _child(here: Path, said: Path, peak: Path, kind: Kind, taker: str) -> None:
    """Never returns: leaves by 0 (well), 2 (refused) or 3 (anything else, written to `said`)."""
    from landslip.errors import LandslipError

    code, text = 3, ""
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far is what is held now
    before = _memory("VmHWM")
    try:
        os.chdir(here)
        out = os.open(said, os.O_WRONLY | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        faulthandler.enable(out)
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
        faulthandler.register(signal.SIGXCPU, file=out, chain=True)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR, PROCESSOR + 5))
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**30, 2**30))
        resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") * 1024 + ADDRESS,) * 2)
        signal.alarm(WALL)
        if kind.mend is not None:
            kind.mend()
        word, _, rest = taker.partition(" ")
        if word == "@pixels":
            pixels(rest)
        elif word in TAKERS:
            TAKERS[word]()
        else:
            line(taker)
        code = 0
    except LandslipError as error:
        code, text = 2, str(error)
    except BaseException:
        text = traceback.format_exc()
    with suppress(BaseException):
        peak.write_text(str(_memory("VmHWM") - before))
        os.ftruncate(1, 0) if code != 3 else None
        os.write(1, text.encode("utf-8", "replace"))
    os._exit(code)


def _memory(what: str) -> int:
    """KiB of this process, as /proc/self/status calls it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what))


# ---- many ----


@dataclass
class Tally:
    """What became of the cases of one kind."""

    ends: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    grown: float = 0.0


def import_all() -> None:
    """Import what cases need, so that forks have it."""
    import landslip

    for module in pkgutil.walk_packages(landslip.__path__, "landslip."):
        importlib.import_module(module.name)
    for name in ("matplotlib.pyplot", "torch", "h5py", "pystac", "openvino", "fastapi.testclient", "numba", "pyflwdir"):
        with suppress(ImportError):
            importlib.import_module(name)


def cases(count: int, seed: int, found: dict[str, Kind]) -> Iterator[tuple[str, int]]:
    """(kind, number) of `count` cases, each kind as often as its weight asks, in an order drawn from the seed."""
    total = sum(kind.weight for kind in found.values())
    shares = {name: max(1, round(count * kind.weight / total)) for name, kind in found.items()}
    listed = [(name, seed * 1_000_000 + i) for name, share in shares.items() for i in range(share)]
    Random(seed).shuffle(listed)
    return iter(listed)


def main() -> int:
    """Try cases; prints a line for each that fails and a table at the end. Exit code 1 where any failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("finished", type=Path)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default="", help="names, separated by commas; default: all")
    parser.add_argument("--case", action="append", default=[], metavar="KIND:NUMBER")
    parser.add_argument("--unchanged", action="store_true", help="read every input as it is: all must end well")
    parser.add_argument("--light", action="store_true", help="leave out the commands that take a second or more")
    parser.add_argument("--keep", type=Path, help="folder that good inputs, and the last case, stay in")
    given = parser.parse_args()
    import_all()
    from landslip.inference import mapping
    from landslip.preparation import channel_summary

    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults") as scratch:
        place = given.keep or Path(scratch)
        good = place / "good"
        if not good.exists():
            in_fork(lambda: write_good(given.finished.resolve(), good))
            in_fork(lambda: _write_state(good))
            in_fork(lambda: _write_interrupted(good, MAP, mapping, "_assemble"))
            in_fork(lambda: _write_interrupted(good, PREPARE, channel_summary, "table_csv"))
        warm_up(good, place / "case")
        found = kinds()
        if given.kinds:
            found = {name: found[name] for name in given.kinds.split(",")}
        chosen = [(name, int(number)) for name, _, number in (case.rpartition(":") for case in given.case)]
        print(f"ready after {time.monotonic() - began:.0f} s", flush=True)
        tally: dict[str, Tally] = {}
        failed = 0
        began = time.monotonic()
        if given.light:
            lighter = {name: tuple(t for t in kind.takers if t not in SLOW) for name, kind in found.items()}
            found = {name: replace(found[name], takers=takers) for name, takers in lighter.items() if takers}
        if given.unchanged:
            found = {f"{name}, {taker}": replace(kind, mutator=lambda content, _: content, takers=(taker,))
                     for name, kind in found.items() for taker in dict.fromkeys(kind.takers)}  # fmt: skip
            chosen = [(name, 0) for name in found]
        for done, (name, number) in enumerate(chosen or cases(given.count, given.seed, found), start=1):
            outcome = attempt(good, place / "case", name, number, found[name])
            own = tally.setdefault(name, Tally())
            own.ends[outcome.ended] += 1
            own.seconds += outcome.seconds
            own.grown = max(own.grown, outcome.grown)
            if chosen or outcome.ended == "failed":
                shown = {"case": outcome.name, "taker": outcome.taker, "ended": outcome.ended, "said": outcome.said}
                print(json.dumps(shown), flush=True)
            if done % 100 == 0:
                print(f"{done} cases, {time.monotonic() - began:.0f} s", flush=True)
            failed += outcome.ended == "failed" or (given.unchanged and outcome.ended != "well")
    print(f"{'kind':<24}{'cases':>7}{'well':>7}{'refused':>9}{'failed':>8}{'s each':>8}{'MiB most':>10}")
    for name in sorted(tally):
        own = tally[name]
        n = own.ends.total()
        figures = f"{n:>7}{own.ends['well']:>7}{own.ends['refused']:>9}{own.ends['failed']:>8}"
        print(f"{name:<24}{figures}{own.seconds / n:>8.2f}{own.grown:>10.0f}")
    total = sum(own.ends.total() for own in tally.values())
    spent = sum(own.seconds for own in tally.values())
    print(f"{total} cases, {failed} failed, {spent:.0f} s of processor time in cases, {time.monotonic() - began:.0f} s")
    return int(failed > 0)


def _write_state(good: Path) -> None:
    """A training killed after its first epoch."""
    from landslip.config.run import read_run
    from landslip.training import train

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    train.write_text = killed  # after the first epoch's state
    with suppress(KeyboardInterrupt):
        train.train(read_run(good / "run.toml"), good / "prepared", good / "state")
    assert (good / "state" / "state.safetensors").exists()


def _write_interrupted(good: Path, words: str, module: Any, last: str) -> None:
    """What a command leaves that is killed before its function `last`."""
    os.chdir(good)
    setattr(module, last, lambda *_, **__: os._exit(0))
    line(words)
    raise AssertionError(f"{words} never came to {last}")


def in_fork(step: Callable[[], None]) -> None:
    """Do what may start threads elsewhere: a process that has threads is not safely forked."""
    child = os.fork()
    if not child:
        code = 1
        try:
            step()
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    assert os.waitpid(child, 0)[1] == 0, "the good inputs could not be written"


def warm_up(good: Path, here: Path) -> None:
    """Read good inputs once, so that what is loaded on a first call is there in every fork."""
    shutil.rmtree(here, ignore_errors=True)
    shutil.copytree(good, here)
    back = Path.cwd()
    os.chdir(here)
    try:
        for name in ("@site", "@vector", "@review", "@model", "@landsat", "@sentinel", "@survey"):
            TAKERS[name]()
        for words in (MAP, INVENTORY, SCORE, "info p.tif"):
            line(words)
            for path in here.glob("new*"):
                path.unlink()
    finally:
        os.chdir(back)


if __name__ == "__main__":
    sys.exit(main())
