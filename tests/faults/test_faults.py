"""What is broken, hostile or careless ends in one error that names the file and the remedy, and costs nothing."""

import errno
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import torch
from affine import Affine
from command import command, contents
from conftest import CRS_UTM, GRID, SHAPE, TinySite, frame, polygon
from rasterio.crs import CRS
from safetensors.torch import load, save
from shapely import LineString, Point, Polygon, box
from shapely.affinity import translate

from landslip.errors import OutputError, RasterError
from landslip.geo import geotiff
from landslip.geo.geopackage import write_vector
from landslip.geo.geotiff import create_raster, write_raster, write_window
from landslip.geo.grid import Grid, Window
from landslip.geo.raster import open_raster, read, read_info, read_stored
from landslip.geo.vector import read_vector
from landslip.models import build_model

Change = Callable[[Path], object]

PREPARE = "prepare site.toml new"
TRAIN = "train run.toml prepared new"
MAP = "map model prepared/stack.tif new.tif"
MAP_PAPER = MAP + " --method paper"
INVENTORY = "inventory p.tif new.gpkg"
EVALUATE = "evaluate p.tif prepared/label.tif --split model/split.tif --json new.json"


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The finished run folder, a copy, as the current folder."""
    monkeypatch.chdir(folder)
    return folder


def refused(line: str, says: str) -> str:
    """Run a command that must be refused with one message, and touch nothing; return the message."""
    before = contents(Path())
    outcome = command(*line.split())
    assert outcome.code == 2 and outcome.out == "", outcome
    errors = [text for text in outcome.err.splitlines() if not text.startswith(("warning: ", "note: "))]
    assert errors[0].startswith("landslip: ") and len(errors) == 1, outcome.err
    assert re.search(says, errors[0]), errors[0]
    assert contents(Path()) == before
    return errors[0]


def edit(name: str, old: str, new: str) -> Change:
    def change(at: Path) -> None:
        text = (at / name).read_text()
        assert old in text
        (at / name).write_text(text.replace(old, new))

    return change


def halved(name: str) -> Change:
    return lambda at: (at / name).write_bytes((at / name).read_bytes()[: (at / name).stat().st_size // 2])


def removed(name: str) -> Change:
    return lambda at: (at / name).unlink()


def holding(name: str, content: bytes | str) -> Change:
    return lambda at: (at / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def copied(name: str, to: str) -> Change:
    return lambda at: (at / to).write_bytes((at / name).read_bytes())


def without_crs(name: str) -> Change:
    def change(at: Path) -> None:
        with rasterio.open(at / name) as dataset:
            values, profile = dataset.read(), {**dataset.profile, "crs": None}
            names = dataset.descriptions
        with rasterio.open(at / name, "w", **profile) as dataset:
            dataset.write(values)
            dataset.descriptions = names

    return change


def stored(name: str, values: np.ndarray, grid: Grid = GRID, **tags: str) -> Change:
    bands = [f"band {i + 1}" for i in range(len(values))]
    return lambda at: write_raster(at / name, values, grid, bands, tags=tags, overwrite=True)


def drawn(name: str, *geometries: Any) -> Change:
    return lambda at: write_vector(at / name, frame(list(geometries)), overwrite=True)


# ---- inputs that are missing or damaged ----

INPUTS = ["image.tif", "dem.tif", "outline.gpkg", "rivers.gpkg", "faults.gpkg", "rocks.gpkg", "landslides.gpkg"]


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_of_a_site(here: Path, name: str) -> None:
    whole = (here / name).read_bytes()
    for damage in (halved(name), holding(name, b""), holding(name, b"\0" * 5000)):
        damage(here)
        refused(PREPARE, rf"{name}.*(truncated|damaged).*(Fetch)")
        (here / name).write_bytes(whole)
    removed(name)(here)
    refused(PREPARE, rf"{name} does not exist\. Check the path")


DAMAGED = {
    "stack": (MAP, "prepared/stack.tif"),
    "stack, to train": (TRAIN, "prepared/stack.tif"),
    "valid": (MAP, "prepared/valid.tif"),
    "valid, to train": (TRAIN, "prepared/valid.tif"),
    "label": (TRAIN, "prepared/label.tif"),
    "label, to score": (EVALUATE, "prepared/label.tif"),
    "split": (EVALUATE, "model/split.tif"),
    "probability": (INVENTORY, "p.tif"),
    "probability, to score": (EVALUATE, "p.tif"),
    "weights": (MAP, "model/model.safetensors"),
    "model.json": (MAP, "model/model.json"),
    "site": (PREPARE, "site.toml"),
    "run": (TRAIN, "run.toml"),
}


@pytest.mark.parametrize("line, name", DAMAGED.values(), ids=DAMAGED.keys())
def test_results_of_earlier_commands(here: Path, line: str, name: str) -> None:
    whole = (here / name).read_bytes()
    cut = whole[:-9] if name.endswith(".toml") else whole[: len(whole) // 2]
    cut = cut + b"= [\n" if name.endswith(".toml") else cut
    for content in (cut, b"\xff" * 999):
        (here / name).write_bytes(content)
        refused(line, rf"{re.escape(name)}.*(cannot be read|altered|not a|has no CRS)")
    removed(name)(here)
    if name == "prepared/valid.tif" and line == MAP:
        assert command(*line.split()).code == 0  # valid is then what is defined in the stack
    else:
        refused(
            line,
            rf"{name}( does not exist| is not there).*(Check|prepare|again)|model is not a model folder.*Train one",
        )


# ---- a site that is not what it seems ----

FAR = [translate(polygon(5, 5, 9, 9), 800_000)]
DEGREES = Grid(CRS.from_epsg(4326), Affine(1.5e-4, 0, 110.58, 0, -1.5e-4, 31), *SHAPE)
SEVEN = np.ones((7, *SHAPE), np.uint16)
NO_OUTLINE = edit("site.toml", '[outline]\npath = "outline.gpkg"\n', "")

SITES: dict[str, tuple[Change, str]] = {
    "image without CRS": (without_crs("image.tif"), r"image\.tif has no CRS.*rio edit-info --crs"),
    "DEM without CRS": (without_crs("dem.tif"), r"dem\.tif has no CRS.*rio edit-info --crs"),
    "grid in degrees": (stored("image.tif", SEVEN, DEGREES), r"image\.tif.*geographic \(degrees\).*EPSG:32649"),
    "grid in feet": (edit("site.toml", "[dem]", '[grid]\ncrs = "EPSG:2263"\n[dem]'), r"US survey foot.*in metres"),
    "no such CRS": (edit("site.toml", "[dem]", '[grid]\ncrs = "EPSG:0"\n[dem]'), r"'EPSG:0' is not a CRS"),
    "no code of a CRS": (edit("site.toml", "[dem]", '[grid]\ncrs = "EPSG:x"\n[dem]'), r"'EPSG:x' is not a CRS"),
    "outline elsewhere": (drawn("outline.gpkg", box(0, 0, 9, 9)), r"outline\.gpkg.*not overlap.*Check the CRS"),
    "outline of lines": (drawn("outline.gpkg", LineString([(0, 0), (9, 9)])), r"outline\.gpkg holds no polygon"),
    "DEM elsewhere": (
        stored("dem.tif", np.ones((1, 9, 9), np.float32), Grid(CRS_UTM, Affine(30, 0, 0, 0, -30, 0), 9, 9)),
        r"dem\.tif.*does not overlap",
    ),
    "landslides in another country": (drawn("landslides.gpkg", *FAR), r"landslides\.gpkg has no landslide on the site"),
    "landslides as points": (drawn("landslides.gpkg", Point(460_500, 3_429_500)), r"Point.*Digitise the outlines"),
    "no landslide": (drawn("landslides.gpkg"), r"landslides\.gpkg holds no landslide\. Remove \[landslides\]"),
    "empty mask": (
        lambda f: (stored("m.tif", SEVEN[:1] * 0)(f), edit("site.toml", "landslides.gpkg", "m.tif")(f)),
        r"m\.tif: no landslide pixel inside the outline.*it holds 0 \(24,576 px\); 1 is landslide, 255 unknown",
    ),
    "mask of classes": (
        lambda f: (stored("m.tif", SEVEN[:1] * np.arange(SHAPE[1], dtype=np.uint16))(f),
                   edit("site.toml", "landslides.gpkg", "m.tif")(f)),
        r"m\.tif is not a landslide mask: it holds 0 \(128 px\), 1 \(128 px\), 2 .*say which: \[landslides\] landslide",
    ),
    "all NaN": (stored("dem.tif", np.full((1, *SHAPE), np.nan, np.float32)), r"dem\.tif is undefined all over"),
    "all infinite": (stored("dem.tif", np.full((1, *SHAPE), np.inf, np.float32)), r"dem\.tif is undefined all over"),
    "GeoPackage called .tif": (copied("rocks.gpkg", "dem.tif"), r"dem\.tif cannot be read as a raster"),
    "TIFF called .gpkg": (copied("dem.tif", "rocks.gpkg"), r"rocks\.gpkg cannot be read as a vector"),
    "no such layer": (edit("site.toml", '"rivers.gpkg"', '"rivers.gpkg"\nlayer = "r"'), r"no layer 'r'; its layers"),
    "no such field": (edit("site.toml", 'field = "rock"', 'field = "stone"'), r"no field 'stone'; its fields are rock"),
    "no such class": (edit("site.toml", 'shale = "soft", limestone = "hard"', 'gneiss = "hard"'), r"no lithology clas"),
    "no such band": (edit("site.toml", "swir2 = 7", "swir2 = 9"), r"image\.tif: swir2 = 9, but the file has 7"),
    "factor of no band": (
        edit("site.toml", "[landslides]", '[[factor]]\nname = "rain"\npath = "dem.tif"\nband = 2\n[landslides]'),
        r"dem\.tif: factor rain is band 2, but the file has 1",
    ),
    "two channels of one name": (
        edit("site.toml", "[landslides]", '[[factor]]\nname = "aspect_sin"\npath = "dem.tif"\n[landslides]'),
        r"two channels called aspect_sin\. Rename",
    ),
    "elevation as classes": (
        edit("site.toml", "[landslides]", '[[factor]]\nname = "z"\npath = "dem.tif"\nkind = "classes"\n[landslides]'),
        r"dem\.tif does not hold classes: \d+ different values",
    ),
    "a millimetre grid": (edit("site.toml", "[dem]", "[grid]\nresolution = 1e-3\n[dem]"), r"more than 2,000,000,000"),
    "a millimetre DEM": (edit("site.toml", '"dem.tif"', '"dem.tif"\ndem_resolution = 1e-3'), r"coarser \[dem\]"),
}  # fmt: skip


@pytest.mark.parametrize("change, says", SITES.values(), ids=SITES.keys())
def test_sites(here: Path, change: Change, says: str) -> None:
    change(here)
    refused(PREPARE, says)


def test_some_nan_and_infinite_pixels_are_undefined_and_no_more(here: Path) -> None:
    z = read(here / "dem.tif")
    z[0, 40, 50], z[0, 60, 70] = np.nan, -np.inf
    stored("dem.tif", z, read_info(here / "dem.tif").grid)(here)
    assert command(*PREPARE.split()).code == 0
    undefined = np.isnan(read(here / "new" / "stack.tif", [8])[0])
    before = np.isnan(read(here / "prepared" / "stack.tif", [8])[0])
    assert 0 < (undefined & ~before).sum() < 200 and np.isfinite(read(here / "new" / "stack.tif")[:7]).all()
    assert command("map", "model", "new/stack.tif", "new.tif").code == 0
    assert np.array_equal(np.isnan(read(here / "new.tif")[0]), read_stored(here / "new" / "valid.tif") == 0)


# ---- TOML ----

DEM = '\n[dem]\npath = "dem.tif"\n'
WRONG_SITES = {
    "": r"'name' is missing",
    "name = 3" + DEM: r"name: it should be a text in quotes, not 3",
    'name = "x"': r"needs an \[\[image\]\], a \[dem\] or a \[\[factor\]\]",
    'name = "x"\nimage = 3': r"image: it should be tables: write \[\[image\]\], with two brackets, not 3",
    'name = "x"\n[image]\npath = "image.tif"': r"image: it should be tables: write \[\[image\]\], with two brackets\.",
    'name = "x"\ndem = "dem.tif"': r"dem: it should be a table: write \[dem\], once, .*not 'dem.tif'",
    'name = "x"\n[dem]\npath = 3': r"dem\.path: it should be a path in quotes, not 3",
    'name = "x"\n[dem]\npath = "."': r"is a folder: did you mean .*dem\.tif.*\?",
    'name = "x"\n[dem]\npath = "a\\u0000b.tif"': r"does not exist",
    'name = "x"' + DEM + 'nodata = "x"': r"dem\.nodata: .*not 'x'",
    'name = "x"' + DEM + "nodata = [1, [2]]": r"dem\.nodata, item 2: it should be a number, not \[2\]",
    'name = "x"' + DEM + "scale = nan": r"dem\.scale: .*finite number, not nan",
    'name = "x"' + DEM + "scale = 0": r"dem\.scale: .*above 0, not 0",
    'name = "x"' + DEM + "dem_resolution = inf": r"dem\.dem_resolution: .*finite number, not inf",
    'name = "x"' + DEM + "[grid]\nresolution = -1": r"grid\.resolution: .*above 0, not -1",
    'name = "x"' + DEM + "[grid]\nresoluton = 1": r"unknown key 'grid.resoluton' \(did you mean 'resolution'\?\)",
    'name = "x"' + DEM + "[rivers]": r"rivers: give either `path` or `from_dem_km2`",
    'name = "x"' + DEM + '[landslides]\npath = "l.gpkg"\nburn = "all"': r"burn: .*'majority'.*not 'all'",
    'name = "x"\n[[image]]\npath = "image.tif"\nbands = ["red"]': r"1 bands: it should be a table of names .*\['red'\]",
    'name = "x"\n[[image]]\npath = "image.tif"\nbands = {red = 1.5}': r"\]\] 1 bands\.red: .*whole number, not 1\.5",
    'name = "x"\n[[image]]\npath = "image.tif"\nbands = {rde = 1, red = 0}': r"bands are counted from 1",
    'name = "x"\n[[image]]\npath = "image.tif"\nbands = {gren = 1}': r"'gren': did you mean 'green'\?",
    'name = "x"\n[[factor]]\nname = "../f"\npath = "dem.tif"': r"factor name '\.\./f' must be",
    "name = [": r"site\.toml is not a TOML file",
}
WRONG_RUNS = {
    "blocks = 3": r"blocks: .*not 3",
    "training = []": r"training: .*not \[\]",
    '[blocks]\nwindow = "x"': r"blocks\.window: .*not 'x'",
    "[blocks]\nstep = 0": r"blocks\.step: .*not 0",
    "[blocks]\nwindow = 32\nstep = 64": r"leave gaps. Give a step from 1 to 32",
    "[blocks]\nseeds = -1": r"blocks\.seeds.*not -1",
    "[blocks]\nbackground = inf": r"blocks\.background: .*finite number, not inf",
    "[split]\nkind = 3": r"split\.kind: .*'apart', 'paper', 'given' or 'all', not 3",
    "[split]\ntrain = 0.9\nvalidation = 0.2": r"leave nothing to test on",
    "[network]\noptions = []": r"network\.options: .*not \[\]",
    '[network]\nname = "unett"': r"'unett' is no network: did you mean unet\?",
    '[network]\nname = "unet"\noptions = { depth = 3 }': r"'depth' is no option of network unet",
    '[network]\noptions = { layers = "deep" }': r"layers is 'deep'",
    "[training]\nepochs = 0": r"training\.epochs: .*not 0",
    "[training]\nepoch = 1": r"unknown key 'training\.epoch' \(did you mean 'epochs'\?\)",
    "[training]\nlearning_rate = inf": r"training\.learning_rate: .*not inf",
    "[training]\nthreshold = 2.0": r"training\.threshold: it should be 'f1' or 'kappa', or at most 1, not 2\.0\.$",
    "[training]\nseed = 100000000000000000000": r"training\.seed: .*",
    '[channels]\nbands = ["gren"]': r"has no band gren; its bands are coastal, blue",
    "[channels]\nbands = []\nfactors = []": r"chooses none of the channels",
    "[channels]\nbands = 3": r"channels\.bands: it should be 'all' or 'none', or a list, not 3\.",
    "[channels]\nbands = [3]": r"run\.toml: channels\.bands, item 1: it should be a text in quotes, not 3",
    "[trainin]\nepochs = 1": r"unknown key 'trainin' \(did you mean 'training'\?\)",
}


@pytest.mark.parametrize("text, says", WRONG_SITES.items())
def test_site_files(tiny: TinySite, monkeypatch: pytest.MonkeyPatch, text: str, says: str) -> None:
    monkeypatch.chdir(tiny.folder)
    tiny.site.write_text(text)
    refused(PREPARE, says)


@pytest.mark.parametrize("text, says", WRONG_RUNS.items())
def test_run_files(here: Path, text: str, says: str) -> None:
    holding("run.toml", text)(here)
    refused(TRAIN, says)


def test_a_byte_order_mark_and_foreign_line_ends_do_no_harm(here: Path) -> None:
    text = (here / "site.toml").read_text()
    (here / "site.toml").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert command(*PREPARE.split()).code == 0


# ---- a model that is not what it was ----


def facts(change: Callable[[dict[str, Any]], object]) -> Change:
    def apply(at: Path) -> None:
        path = at / "model" / "model.json"
        value = json.loads(path.read_text())
        change(value)
        path.write_text(json.dumps(value))

    return apply


def weights(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Change:
    """Weights that were changed together with their hash."""

    def apply(at: Path) -> None:
        path = at / "model" / "model.safetensors"
        content = save(change(load(path.read_bytes())))
        path.write_bytes(content)
        facts(lambda f: f.update(weights_sha256=hashlib.sha256(content).hexdigest()))(at)

    return apply


def network(**changes: object) -> Change:
    return facts(lambda f: f["run"]["network"].update(changes))


MODELS: dict[str, tuple[Change, str]] = {
    "a list": (holding("model/model.json", "[1]"), r"model\.json is not a model description"),
    "a number": (holding("model/model.json", "7"), r"model\.json is not a model description"),
    "format": (facts(lambda f: f.update(format="1")), r"has format '1'; this version of landslip reads 1"),
    "no channels": (facts(lambda f: f.update(channels=[])), r"0 channels"),
    "channels as text": (facts(lambda f: f.update(channels="red")), r"model does not hold a model"),
    "a channel's name": (facts(lambda f: f["channels"][0].update(name=5)), r"channel 5"),
    "a channel's kind": (facts(lambda f: f["channels"][0].update(kind="odd")), r"kind 'odd'"),
    "a channel's key": (facts(lambda f: f["channels"][0].update(colour="red")), r"colour"),
    "a channel twice": (facts(lambda f: f["channels"][1].update(name="coastal")), r"two of its channels have one name"),
    "one mean": (facts(lambda f: f.update(mean=[1])), r"18 channels, 1 means and 18 deviations"),
    "mean as text": (facts(lambda f: f.update(mean="x")), r"could not convert"),
    "mean of NaN": (facts(lambda f: f["mean"].__setitem__(0, float("nan"))), r"are not all numbers"),
    "mean of null": (facts(lambda f: f["mean"].__setitem__(0, None)), r"are not all numbers"),
    "deviation of 0": (facts(lambda f: f["std"].__setitem__(0, 0)), r"a deviation is not above 0"),
    "deviation of 1e300": (facts(lambda f: f["std"].__setitem__(0, 1e300)), r"are not all numbers"),
    "threshold of 7": (facts(lambda f: f.update(threshold=7)), r"threshold 7\.0 is not between 0 and 1"),
    "threshold of null": (facts(lambda f: f.update(threshold=None)), r"NoneType"),
    "no run": (facts(lambda f: f.update(run=None)), r"model\.json is not a model description"),
    "window of 10^9": (facts(lambda f: f["run"]["blocks"].update(window=10**9)), r"blocks\.window"),
    "network unknown": (network(name="nett"), r"'nett' is no network"),
    "network a list": (network(name=["unet"]), r"network\.name"),
    "no options": (network(options=None), r"network\.options"),
    "another width": (network(options={"layers": [1, 1, 1], "first_width": 16, "growth_rate": 4}), r"size mismatch"),
    "10^9 wide": (
        network(options={"layers": [1, 1, 1], "first_width": 10**9, "growth_rate": 4}),
        r"no network is built of more than 4096",
    ),
    "width as text": (network(options={"first_width": "8"}), r"first_width is '8'"),
    "another's weights": (weights(lambda w: build_model("unet", 18).state_dict()), r"Missing key"),
    "weights of NaN": (weights(lambda w: {k: v * float("nan") if v.ndim else v for k, v in w.items()}), r"finite"),
}


@pytest.mark.parametrize("change, says", MODELS.values(), ids=MODELS.keys())
def test_models_changed_by_hand(here: Path, change: Change, says: str) -> None:
    change(here)
    message = refused(MAP_PAPER, says)
    assert message.startswith("landslip: model") and re.search(r"again\.$", message)
    assert command("info", "model").code == 2


def test_a_model_of_another_version_maps_and_is_not_trained_on(here: Path) -> None:
    def later(f: dict[str, Any]) -> None:
        f["run"]["training"]["mixup"] = 0.2
        f["run"]["sampling"] = {"hard": True}

    facts(later)(here)
    assert command(*MAP.split()).code == 0 and command("info", "model").code == 0
    refused(f"{MAP} --overwrite --uncertainty --training prepared", r"model\.json holds a run that this version cannot")


# ---- rasters that do not belong together ----

LABEL_7 = np.full((1, *SHAPE), 7, np.uint8)
PARTS = np.ones((1, *SHAPE), np.uint8)
ELSEWHERE = Grid(CRS_UTM, Affine(15, 0, 470_000, 0, -15, 3_430_000), *SHAPE)


def named(name: str, change: Callable[[np.ndarray, list[str]], tuple[np.ndarray, list[str]]]) -> Change:
    def apply(at: Path) -> None:
        names = [str(n) for n in read_info(at / name).names]
        values, names = change(read(at / name), names)
        write_raster(at / name, values, GRID, names, float("nan"), overwrite=True)

    return apply


TOGETHER: dict[str, tuple[str, Change, str]] = {
    "stack lacks channels": (
        MAP,
        named("prepared/stack.tif", lambda v, n: (v[:2], n[:2])),
        r"stack\.tif lacks green, .*trained on coastal, blue, green.*has coastal, blue\. Prepare",
    ),
    "stack with a name twice": (
        TRAIN,
        named("prepared/stack.tif", lambda v, n: (v, ["red", *n[1:]])),
        r"stack\.tif has two channels called red",
    ),
    "stack without names": (MAP, stored("prepared/stack.tif", SEVEN), r"stack\.tif lacks coastal"),
    "stack of the DEM": ("map model dem.tif new.tif", removed("run.toml"), r"dem\.tif lacks coastal"),
    "stack a folder": ("map model prepared new.tif", removed("run.toml"), r"prepared is a folder: did you mean"),
    "stack a vector": ("map model rocks.gpkg new.tif", removed("run.toml"), r"rocks\.gpkg cannot be read as a raster"),
    "stack a renamed vector": ("map model r.tif new.tif", copied("rocks.gpkg", "r.tif"), r"r\.tif cannot be read as a"),
    "valid of another grid": (MAP, stored("prepared/valid.tif", PARTS, ELSEWHERE), r"stack\.tif and .*valid\.tif do"),
    "label of another grid": (TRAIN, stored("prepared/label.tif", PARTS, ELSEWHERE), r"stack\.tif and .*label\.tif do"),
    "label of 7": (TRAIN, stored("prepared/label.tif", LABEL_7), r"label\.tif holds 7; a label holds 1 \(landslide\)"),
    "label of 7, to score": (EVALUATE, stored("prepared/label.tif", LABEL_7), r"label\.tif holds 7.*0, 1, 255"),
    "label of 0": (TRAIN, stored("prepared/label.tif", LABEL_7 * 0), r"label\.tif holds no landslide on valid"),
    "label of three bands": (TRAIN, stored("prepared/label.tif", SEVEN[:3]), r"label\.tif has 3 bands"),
    "label is the map": ("evaluate p.tif p.tif", removed("run.toml"), r"p\.tif holds 0\.\d+, and only 0, 1, 255"),
    "nothing valid": (TRAIN, stored("prepared/valid.tif", PARTS * 0), r"label\.tif holds no landslide on valid"),
    "split of another grid": (EVALUATE, stored("model/split.tif", PARTS, ELSEWHERE), r"p\.tif and .*split\.tif do not"),
    "split of 9": (EVALUATE, stored("model/split.tif", PARTS * 9), r"split\.tif holds 9, and only 0, 1, 2, 3"),
    "paper split's test": (
        EVALUATE,
        stored("model/split.tif", PARTS, split="paper", leaky="yes"),
        r"split\.tif: a paper split has no test part.*--part all",
    ),
    "test without split": (
        "evaluate p.tif prepared/label.tif --part test", removed("run.toml"), r"without a split.*--split"
    ),
    "inventory of a stack": ("inventory prepared/stack.tif new.gpkg", removed("run.toml"), r"stack\.tif has 18 bands"),
    "inventory of the DEM": ("inventory dem.tif new.gpkg", removed("run.toml"), r"dem\.tif holds values from 5\d\d"),
    "threshold 2": (INVENTORY + " --threshold 2", removed("run.toml"), r"threshold 2\.0 \(as given\).*between 0 and 1"),
    "threshold 2, to score": (EVALUATE + " --threshold 2", removed("run.toml"), r"threshold 2\.0 \(as given\)"),
    "threshold NaN": (INVENTORY + " --threshold nan", removed("run.toml"), r"threshold nan \(as given\)"),
    "tag of NaN": (INVENTORY, stored("p.tif", PARTS * np.float32(0.5), threshold="nan"), r"threshold nan \(tag of"),
    "area of -2": (INVENTORY + " --min-area -2", removed("run.toml"), r"-2\.0, is not an area"),
    "model a file": ("map p.tif prepared/stack.tif new.tif", removed("run.toml"), r"p\.tif is not a model folder"),
    "map over the stack": (
        "map model prepared/stack.tif prepared/stack.tif --overwrite", removed("run.toml"), r"stack\.tif is read"
    ),
    "map over valid": (
        "map model prepared/stack.tif prepared/valid.tif --overwrite", removed("run.toml"), r"valid\.tif is read"
    ),
    "scores over the label": (
        "evaluate p.tif prepared/label.tif --json prepared/label.tif --overwrite",
        removed("run.toml"),
        r"label\.tif is read",
    ),
    "inventory over the map": ("inventory p.tif p.tif --overwrite", removed("run.toml"), r"must be three files"),
    "inventory's map over the map": (
        "inventory p.tif new.gpkg --map p.tif --overwrite", removed("run.toml"), r"must be three files"
    ),
    "map as PNG": ("map model prepared/stack.tif new.png", removed("run.toml"), r"new\.png would hold a GeoTIFF"),
    "inventory as shapefile": ("inventory p.tif new.shp", removed("run.toml"), r"new\.shp would hold a GeoP"),
    "map into a file": ("map model prepared/stack.tif p.tif/a.tif", removed("run.toml"), r"p\.tif is not a folder"),
    "map as a folder": ("map model prepared/stack.tif sub --overwrite", lambda f: (f / "sub").mkdir(), r"sub"),
    "prepare over inputs": ("prepare site.toml . --overwrite", removed("run.toml"), r"\. is a folder, and no name"),
    "map of a long name": (f"map model prepared/stack.tif {'n' * 251}.tif", removed("run.toml"), r"no name so l"),
    "map of too long a name": (f"map model prepared/stack.tif {'n' * 300}.tif", removed("run.toml"), r"no name so l"),
    "map in too long a name": (f"map model prepared/stack.tif {'n' * 300}/a.tif", removed("run.toml"), r"no name so l"),
    "folder of a long name": (f"prepare site.toml {'n' * 300}", removed("run.toml"), r"no name so l"),
    "map without a name": ("map model prepared/stack.tif .", removed("run.toml"), r"\. is a folder, and no name"),
    "inventory without a name": ("inventory p.tif .", removed("run.toml"), r"\. is a folder, and no name"),
    "its map without a name": ("inventory p.tif new.gpkg --map .", removed("run.toml"), r"\. would hold a GeoTIFF"),
    "demo among files": ("demo . --overwrite", removed("run.toml"), r"holds other files.*a folder of its own"),
    "demo with a strange note": ("demo .", holding("demo.json", "{"), r"holds other files"),
    "demo with another note": ("demo . --overwrite", holding("demo.json", "[]"), r"holds other files"),
    "demo in a file": ("demo p.tif", removed("run.toml"), r"p\.tif is a file"),
    "info on nothing": ("info nothing", removed("run.toml"), r"nothing does not exist"),
    "info on a text": ("info site.toml", removed("run.toml"), r"site\.toml is text, to be read as it is"),
    "info on a half prepared folder": ("info prepared", holding("prepared/channels.json", "[]"), r"channels\.json"),
}  # fmt: skip


@pytest.mark.parametrize("line, change, says", TOGETHER.values(), ids=TOGETHER.keys())
def test_rasters_and_outputs(here: Path, line: str, change: Change, says: str) -> None:
    change(here)
    refused(line, says)


# ---- a state that belongs to something else ----


def test_a_state_of_other_inputs_is_not_resumed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from landslip.training import train

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train, "write_text", killed)  # after the first epoch's state
        assert command(*TRAIN.split()).code == 130
    assert (here / "new" / "state.safetensors").exists()
    edit("site.toml", "scale = 0.0001", "scale = 0.0002")(here)
    assert command("prepare", "site.toml", "prepared", "--overwrite").code == 0
    refused(TRAIN, r"state\.safetensors belongs to other inputs: stack\.tif changed since\. Start anew.*--overw")
    refused(TRAIN + " --set training.seed=5", r"belongs to other inputs")
    halved("new/state.safetensors")(here)
    refused(TRAIN, r"state\.safetensors cannot be read.*--overwrite")
    done = command(*TRAIN.split(), "--overwrite", "--set", "training.epochs=1")
    assert done.code == 0 and "going on" not in done.err
    assert not (here / "new" / "state.safetensors").exists()


def test_a_refused_training_keeps_the_earlier_model(here: Path) -> None:
    refused("train run.toml prepared model --overwrite --set blocks.window=33", r"window = 33 must be a multiple of 2")
    refused("train run.toml prepared model --overwrite --set split.guard=9999", r"too small or too unevenly mapped")


def test_somebody_elses_history_is_not_replaced(here: Path) -> None:
    (here / "new").mkdir()
    holding("new/history.csv", "of another trade")(here)
    refused(TRAIN, r"new/history\.csv exists already")


def test_a_run_killed_between_two_names_loses_no_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(here / "prepared")
    (here / "prepared").rename(here / ".prepared.replaced")  # as `--overwrite` leaves it for a moment
    outcome = command("prepare", "site.toml", "prepared")
    assert outcome.code == 2 and "prepared exists already" in outcome.err
    assert contents(here / "prepared") == before and not (here / ".prepared.replaced").exists()

    rename = Path.rename

    def stopped(self: Path, target: Path) -> Path:
        if self.name == ".prepared.part":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stopped)
    assert command("prepare", "site.toml", "prepared", "--overwrite").code == 130
    assert contents(here / "prepared") == before and not list(here.glob(".prepared*"))


def test_a_disk_that_is_full_only_when_it_settles(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for line in (PREPARE, MAP, INVENTORY, EVALUATE):
        before = contents(here)
        outcome = command(*line.split())
        assert outcome.code == 2 and re.search(r"landslip: new\S*: the disk is full .*Free some", outcome.err)
        assert contents(here) == before


def test_gdals_own_errors_while_a_map_is_copied_are_one_of_ours(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class AppDefinedError(Exception):
        """As rasterio raises what GDAL says, in no class that it names."""

    def failing(*_: object, **__: object) -> None:
        raise AppDefinedError("TIFFReadDirectory:Failed to read directory at offset 192")

    monkeypatch.setattr("rasterio.shutil.copy", failing)
    before = contents(here)
    outcome = command(*INVENTORY.split())
    assert outcome.code == 2 and "cannot be written (TIFFReadDirectory" in outcome.err and contents(here) == before


def test_only_the_layer_that_is_asked_for_is_judged(here: Path) -> None:
    path, rivers = here / "rivers.gpkg", read_vector(here / "rivers.gpkg")
    path.unlink()
    bow = Polygon([(0, 0), (9, 9), (9, 0), (0, 9)])
    pyogrio.write_dataframe(frame([bow]), path, layer="drafts")
    pyogrio.write_dataframe(rivers, path, layer="rivers", append=True)
    edit("site.toml", '"rivers.gpkg"', '"rivers.gpkg"\nlayer = "rivers"')(here)
    assert command("check", "site.toml").out.endswith("\n0 faults, 0 warnings\n")
    edit("site.toml", 'layer = "rivers"', 'layer = "drafts"')(here)
    assert "rivers.gpkg: 1 of 1 geometries are invalid" in command("check", "site.toml").out


# ---- claims of size ----

CLAIMS = {
    "image": ("image.tif", 7, "uint16", (PREPARE, "check site.toml")),
    "DEM": ("dem.tif", 1, "float32", (PREPARE, "check site.toml")),
    "stack": ("prepared/stack.tif", 18, "float32", (MAP, TRAIN, "info prepared")),
    "probability": ("p.tif", 1, "float32", (INVENTORY, EVALUATE)),
}


@pytest.mark.parametrize("name, bands, dtype, lines", CLAIMS.values(), ids=CLAIMS.keys())
def test_a_small_file_that_claims_a_million_times_a_million_pixels(
    here: Path, name: str, bands: int, dtype: str, lines: tuple[str, ...]
) -> None:
    NO_OUTLINE(here)
    names = read_info(here / name).names
    corner = Affine(15, 0, GRID.transform.c, 0, -15, GRID.transform.f)
    for block in (2**16, 2**13):  # blocks that no memory holds, and blocks that would take a year
        profile = {"driver": "GTiff", "crs": CRS_UTM, "transform": corner, "bigtiff": "yes", "sparse_ok": True}
        profile |= {"tiled": True, "blockxsize": block, "blockysize": block, "compress": "deflate"}
        (here / name).unlink()
        with rasterio.open(here / name, "w", height=10**6, width=10**6, count=bands, dtype=dtype, **profile) as dataset:
            dataset.descriptions = names
        assert (here / name).stat().st_size < 5e6
        began, says = time.monotonic(), rf"{name} claims .*1000000 x 1000000 pixels"
        for line in lines:
            if line.startswith("check"):
                outcome = command(*line.split())
                assert outcome.code == 1 and re.search(says, outcome.out)
            else:
                refused(line, says)
        assert time.monotonic() - began < 5


def test_a_raster_of_more_bands_than_are_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "many.tif"
    profile = {"driver": "GTiff", "sparse_ok": True, "transform": Affine(15, 0, 0, 0, -15, 0), "interleave": "band"}
    with rasterio.open(path, "w", height=8, width=8, count=4097, dtype="uint8", crs=CRS_UTM, **profile):
        pass
    with pytest.raises(RasterError, match=r"many\.tif has 4,097 bands, more than the 4,096 .*rio stack FILE --bidx"):
        read_info(path)


def empty_raster(path: Path, side: int, block: int, dtype: str) -> Path:
    with rasterio.open(
        path, "w", driver="GTiff", height=side, width=side, count=1, dtype=dtype, crs=CRS_UTM, sparse_ok=True,
        transform=Affine(15, 0, 0, 0, -15, 0), tiled=True, blockxsize=block, blockysize=block,
    ):  # fmt: skip
        pass
    return path


def test_a_large_raster_that_is_empty_is_read(tmp_path: Path) -> None:
    path = empty_raster(tmp_path / "wide.tif", 30_000, 4096, "uint8")
    assert path.stat().st_size < 2000
    assert not read(path, window=Window(0, 0, 9, 9)).any()
    with pytest.raises(RasterError, match=r"wide\.tif has 1 band, so no band 2"):
        read(path, [2])


def test_a_block_that_no_memory_holds_is_refused(tmp_path: Path) -> None:
    path = empty_raster(tmp_path / "one.tif", 30_000, 30_000, "float32")  # 3.6 GB
    with pytest.raises(RasterError, match=r"one\.tif claims.*blocks of 30000 x 30000.*tiled=true"):
        read_info(path)
    profile = {"driver": "GTiff", "dtype": "float32", "height": 128, "width": 192, "count": 18, "interleave": "pixel"}
    with rasterio.open(
        tmp_path / "all.tif", "w", **profile, tiled=True, blockxsize=256, blockysize=65520, sparse_ok=True
    ):
        pass
    with pytest.raises(RasterError, match=r"all\.tif claims 128 x 192 pixels stored in blocks of 65520 x 256"):
        read_info(tmp_path / "all.tif")  # 1.2 GB: of all bands
    path = empty_raster(tmp_path / "small.tif", 90, 4096, "uint8")  # a tile may be larger than its raster
    assert not read(path).any()
    path = empty_raster(tmp_path / "small.tif", 90, 8192, "uint8")
    with pytest.raises(RasterError, match=r"small\.tif claims 90 x 90 pixels stored in blocks of 8192 x 8192"):
        read_info(path)


# ---- disks ----


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB."""
    where = tmp_path / "disk"
    where.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", where], capture_output=True, check=False) \
        if os.name == "posix" else None  # fmt: skip
    if made is None or made.returncode:
        pytest.skip("needs the right to mount a small disk")
    yield where
    subprocess.run(["umount", "-l", where], check=True)


def leave(disk: Path, free: int) -> None:
    for path in disk.iterdir():
        path.unlink()
    (disk / "fill").write_bytes(bytes(2 * 2**20 - free // 4096 * 4096))


@pytest.mark.parametrize(
    "line, free",
    [
        ("prepare site.toml DISK/new", 1_500_000),
        ("train run.toml prepared DISK/new", 20_000),
        ("train run.toml prepared DISK/new", 300_000),
        ("map model prepared/stack.tif DISK/new.tif", 40_000),
        ("inventory p.tif DISK/new.gpkg", 60_000),
        ("inventory p.tif DISK/new.gpkg --map i.tif --overwrite", 60_000),
        ("inventory p.tif i.gpkg --map DISK/new.tif --overwrite", 60_000),
        ("evaluate p.tif prepared/label.tif --json DISK/new.json", 0),
    ],
)  # fmt: skip
def test_a_full_disk(here: Path, disk: Path, line: str, free: int) -> None:
    leave(disk, free)
    before = contents(here)
    outcome = command(*line.replace("DISK", str(disk)).split())
    error = outcome.err.splitlines()[-1]
    assert outcome.code == 2 and "Traceback" not in outcome.err
    assert error.startswith(f"landslip: {disk}/new") and "Free some space" in error, error
    assert contents(here) == before
    left = {name.removeprefix("new/") for name in contents(disk)}
    assert left <= {"fill", "split.tif", "state.safetensors", "history.csv"}  # what a training goes on from
    if "history.csv" in left:
        assert (disk / "new" / "history.csv").read_text().startswith("epoch,")


def test_whatever_fits_a_raster_is_whole_or_refused(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geotiff, "require_space", lambda *_: None)  # as where another program fills the disk meanwhile
    rng, grid = np.random.default_rng(0), Grid(CRS_UTM, Affine(15, 0, 0, 0, -15, 0), 512, 512)
    noise = rng.random((2, 512, 512)).astype(np.float32)
    whole = 0
    # raw: 2 MiB of pixels and about 5 kB of header, whose end (tags set at last) is the last to be written
    for free in [2**21, *(2**20 + 4096 * i for i in range(8)), *rng.integers(4096, 2**21, 12).tolist()]:
        compress, values = bool(free % 3), noise if free % 2 or free == 2**21 else noise[:1]
        leave(disk, free)
        (disk / "fill").unlink(missing_ok=free == 2**21)
        names = [f"channel_{i}" for i in range(len(values))]
        try:
            with create_raster(disk / "a.tif", grid, "float32", names, float("nan"), compress=compress) as dataset:
                for band in range(1, len(values) + 1):
                    write_window(dataset, values[band - 1 : band], Window(0, 0, 512, 512), [band])
                    dataset.update_tags(band, note="n" * 3000)
        except OutputError as error:
            assert "a.tif" in str(error) and "Free some space" in str(error)
            assert [p.name for p in disk.iterdir() if p.name != "fill"] == []
            continue
        whole += 1
        assert np.array_equal(read(disk / "a.tif"), values)
        with rasterio.open(disk / "a.tif") as dataset:
            assert all(len(dataset.tags(band)["note"]) == 3000 for band in dataset.indexes)
    assert 2 < whole < 20


def test_a_block_that_was_lost_is_seen(tmp_path: Path) -> None:
    path, grid = tmp_path / "a.tif", Grid(CRS_UTM, Affine(15, 0, 0, 0, -15, 0), 512, 512)
    with create_raster(path, grid, "float32", ["p"], None, compress=False) as dataset:
        write_window(dataset, np.random.default_rng(0).random((1, 512, 512)).astype(np.float32), Window(0, 0, 512, 512))
    with rasterio.open(path) as dataset:
        header = geotiff._header(dataset)
    assert geotiff._is_whole(path, header)
    assert not geotiff._is_whole(path, [("q",), *header[1:]])
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert not geotiff._is_whole(path, header)


def test_whatever_fits_a_geopackage_is_whole_or_refused(disk: Path) -> None:
    shapes = frame([box(i, 0, i + 1, 1) for i in range(2000)], id=list(range(2000)))
    outcomes = []
    for free in range(100_000, 700_000, 50_000):
        leave(disk, free)
        try:
            write_vector(disk / "a.gpkg", shapes)
        except OutputError as error:
            assert "a.gpkg" in str(error) and "Free some space" in str(error)
            assert [p.name for p in disk.iterdir()] == ["fill"]
            outcomes.append(False)
            continue
        assert len(read_vector(disk / "a.gpkg")) == 2000
        # 20 kB for the index that GDAL stores while it closes the file, and is silent about where it fails
        assert (disk / "a.gpkg").stat().st_size > 500_000
        outcomes.append(True)
    assert outcomes == sorted(outcomes) and 0 < sum(outcomes) < len(outcomes)


WRITING = [
    PREPARE.replace("new", "RO/new"),
    TRAIN.replace("new", "RO/new"),
    MAP.replace("new", "RO/new"),
    INVENTORY.replace("new", "RO/new"),
    INVENTORY + " --map RO/new.tif",
    EVALUATE.replace("new", "RO/deep/er/new"),
    "demo RO/new",
]


@pytest.mark.parametrize("line", WRITING)
def test_a_read_only_folder(here: Path, disk: Path, line: str) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    began = time.monotonic()
    refused(line.replace("RO", str(disk)), rf"{disk}/\S* cannot be written: {disk} is read-only\. Write elsewhere")
    assert time.monotonic() - began < 2  # before any work


# ---- what is no file, no number, and not alone ----


@pytest.mark.parametrize(
    "name, line",
    [
        ("p.tif", INVENTORY),
        ("prepared/stack.tif", MAP),
        ("dem.tif", PREPARE),
        ("landslides.gpkg", PREPARE),
        ("site.toml", PREPARE),
        ("run.toml", TRAIN),
        ("model/model.json", MAP),
        ("model/model.safetensors", MAP),
    ],
)
def test_a_pipe_is_not_waited_for(here: Path, name: str, line: str) -> None:
    (here / name).unlink()
    os.mkfifo(here / name)
    outcome = command(*line.split())
    assert outcome.code == 2 and f"{Path(name).name}" in outcome.err and re.search("pipe|no file", outcome.err), outcome


@pytest.mark.parametrize("line", [INVENTORY, EVALUATE, f"{INVENTORY} --previous p.tif"])
def test_a_link_to_itself_is_no_raster(here: Path, line: str) -> None:
    (here / "p.tif").unlink()
    (here / "p.tif").symlink_to("p.tif")
    refused(line, r"p\.tif does not exist")


def test_complex_numbers_are_refused(here: Path) -> None:
    values, grid = read(here / "p.tif"), read_info(here / "p.tif").grid
    (here / "p.tif").unlink()
    profile = {"driver": "GTiff", "crs": grid.crs, "transform": grid.transform, "dtype": "complex64"}
    with rasterio.open(here / "p.tif", "w", height=grid.height, width=grid.width, count=1, **profile) as dataset:
        dataset.write(values[0].astype(np.complex64), 1)
    refused(INVENTORY, r"p\.tif holds complex numbers")


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_a_channel_does_not_say_is_not_mapped(here: Path, value: float) -> None:
    """valid.tif promises a number in every channel; where there is none the map has none."""
    with (
        rasterio.open(here / "prepared" / "stack.tif", "r+") as dataset,
        open_raster(here / "prepared" / "valid.tif") as v,
    ):
        rows, columns = np.nonzero(v.read(1))
        channel = dataset.read(3)
        channel[rows[:100], columns[:100]] = value
        dataset.write(channel, 3)
    assert command(*MAP.split()).code == 0
    found = read(here / "new.tif")[0]
    assert np.isnan(found[rows[:100], columns[:100]]).all()
    assert not np.isnan(found[rows[100:], columns[100:]]).any()


@pytest.mark.parametrize("line", [f"{PREPARE} --no-figures", INVENTORY, "train run.toml prepared new"])
def test_of_two_commands_at_once_one_makes_the_output(here: Path, line: str) -> None:
    words = [sys.executable, "-m", "landslip", *line.split()]
    both = [subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    ended = [(process.communicate()[1], process.returncode) for process in both]
    assert sorted(code for _, code in ended) in ([0, 2], [0, 0]), ended
    for said, code in ended:
        assert code == 0 or "is being written by another run" in said or "exists already" in said, said
    assert not [path.name for path in here.iterdir() if path.name.startswith(".new")]
