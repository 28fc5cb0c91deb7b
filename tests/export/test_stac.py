"""STAC items and catalogues: their place against closed forms, their rules against the specification's own schemas."""

import hashlib
import json
import math
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from conftest import CRS_UTM
from rasterio.crs import CRS

pystac = pytest.importorskip("pystac", reason="needs landslip[export]")

from command import command

from landslip.dataset.channels import Channel
from landslip.dataset.zscore import ZScore
from landslip.errors import GridError, OutputError, RasterError
from landslip.export import stac
from landslip.export.stac_footprint import footprint
from landslip.export.stac_items import CLASSIFICATION, FILE, PROCESSING, PROJECTION, SSYS, write_item
from landslip.geo.geopackage import write_vector
from landslip.geo.geotiff import write_raster
from landslip.geo.grid import Grid
from landslip.geo.raster import PROBABILITY
from landslip.geo.vector import read_vector
from landslip.inventory.inventory import make_inventory
from landslip.models import build_model
from landslip.runtime.disk import file_hash
from landslip.training.checkpoint import save_model

SMALL = {"layers": [1, 1, 1], "first_width": 8, "growth_rate": 4}
GRID = Grid(CRS_UTM, Affine(15, 0, 460_000, 0, -15, 3_430_000), 40, 60)
CHANNELS = (Channel("red", "red", "band", "reflectance"), Channel("elevation", "elevation", "factor", "m"))


def sphere(radius: float, name: str) -> CRS:
    """Equirectangular metres on a sphere: x = R lon, y = R lat."""
    return CRS.from_wkt(
        f'PROJCS["plane",GEOGCS["{name}",DATUM["D_{name}",SPHEROID["{name}",{radius},0]],PRIMEM["Reference",0],'
        'UNIT["degree",0.0174532925199433]],PROJECTION["Equirectangular"],PARAMETER["standard_parallel_1",0],'
        'PARAMETER["central_meridian",0],PARAMETER["false_easting",0],PARAMETER["false_northing",0],UNIT["metre",1]]'
    )


def write_run(root: Path) -> Path:
    """A run folder with a map, an inventory and a model, each as its stage writes it."""
    values = np.full(GRID.shape, 0.1, np.float32)
    values[5:15, 10:20] = 0.9
    values[25:30, 30:50] = 0.7
    values[:, :3] = np.nan
    torch_model = build_model("fc_densenet", len(CHANNELS), **SMALL)
    facts = {
        "run": {"network": {"name": "fc_densenet", "options": SMALL}, "blocks": {}},
        "site_inputs": {"stack.tif": "ab" * 32},
        "split": {"kind": "apart"},
        "software": {"torch": "2.13.0+cpu"},
    }
    zscore = ZScore(np.array([0.1, 900.0]), np.array([0.03, 150.0]))
    save_model(root / "model", torch_model.state_dict(), CHANNELS, zscore, 0.3, facts=facts)
    write_raster(root / "model" / "split.tif", np.ones((1, *GRID.shape), np.uint8), GRID, ["part"])
    tags = {
        "threshold": "0.3",
        "model_sha256": file_hash(root / "model" / "model.safetensors"),
        "method": "halo",
        "precision": "fp32",
    }
    path = root / "map" / "probability.tif"
    write_raster(path, values[None], GRID, [PROBABILITY], math.nan, tags=tags)
    make_inventory(path, root / "inventory" / "landslides.gpkg")
    (root / "site.toml").write_text('name = "Tiny site"\n')
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("stac") / "run")


def require_valid(path: Path) -> dict[str, Any]:
    """Hold a document against the schemas of STAC 1.1.0 that pystac carries, without network; return it."""
    pytest.importorskip("jsonschema", reason="the schemas are checked with jsonschema")
    from pystac.validation.stac_validator import JsonSchemaSTACValidator

    content: dict[str, Any] = json.loads(path.read_text())
    kind = pystac.STACObjectType.ITEM if content["type"] == "Feature" else pystac.STACObjectType.CATALOG
    JsonSchemaSTACValidator().validate_core(content, kind, "1.1.0", str(path))
    return content


def test_the_validator_finds_faults(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "item.json"
    write_item(out, stac.map_item(run / "map" / "probability.tif"))
    whole = require_valid(out)
    for fault in ({"bbox": None}, {"stac_version": "1.0"}, {"properties": {}}, {"geometry": {"type": "Polygon"}}):
        out.write_text(json.dumps(whole | fault))
        with pytest.raises(Exception, match=r"[Vv]alid"):
            require_valid(out)


def test_earth_is_in_wgs84() -> None:
    # spherical Mercator in closed form: lon = x / R, lat = atan(sinh(y / R))
    grid = Grid(CRS.from_epsg(3857), Affine(1000, 0, 1_000_000, 0, -1000, 5_000_000), 300, 500)
    place = footprint(grid)
    radius = 6_378_137
    lon = [math.degrees(x / radius) for x in (1_000_000, 1_500_000)]
    lat = [math.degrees(math.atan(math.sinh(y / radius))) for y in (4_700_000, 5_000_000)]
    assert place.body == "Earth" and place.bbox == pytest.approx([lon[0], lat[0], lon[1], lat[1]], abs=1e-6)
    shape = shapely.geometry.shape(place.geometry)
    assert shape.is_valid and shape.exterior.is_ccw  # RFC 7946, 3.1.6
    assert shape.symmetric_difference(shapely.box(lon[0], lat[0], lon[1], lat[1])).area < 1e-4 * shape.area


def test_a_curved_edge_is_followed() -> None:
    # along a northing of UTM the latitude is highest on the central meridian, 111 E at x = 500 km, not at the corners
    place = footprint(Grid(CRS_UTM, Affine(1000, 0, 300_000, 0, -1000, 6_600_000), 100, 400))
    points = shapely.geometry.shape(place.geometry).exterior.coords
    lon, lat = max(points, key=lambda point: point[1])
    corner = max((point for point in points if point[0] < 107.6), key=lambda point: point[1])
    assert lon == pytest.approx(111, abs=1e-6) and lat > corner[1] + 0.04
    assert place.bbox is not None and place.bbox[3] == lat


def test_the_antimeridian_splits_the_outline() -> None:
    # UTM zone 1, central meridian 177 W; its western rim at the equator is 180 degrees at x = 166,021 m
    grid = Grid(CRS.from_epsg(32601), Affine(1000, 0, 116_021, 0, -1000, 200_000), 100, 150)
    place = footprint(grid)
    assert place.geometry is not None and place.bbox is not None
    west, _, east, _ = place.bbox
    assert place.geometry["type"] == "MultiPolygon" and 179 < west < 180 and -180 < east < -178
    shape = shapely.geometry.shape(place.geometry)
    assert shape.is_valid and shape.bounds[0] == -180 and shape.bounds[2] == 180
    assert all(piece.exterior.is_ccw for piece in shape.geoms)
    widths = sorted(piece.bounds[2] - piece.bounds[0] for piece in shape.geoms)
    assert widths == pytest.approx([50 / 111.3, 100 / 111.3], rel=0.02)  # 50 km and 100 km at the equator


def test_another_body_is_in_its_own_longitude_and_latitude(tmp_path: Path) -> None:
    radius = 3_396_190.0
    grid = Grid(sphere(radius, "Mars"), Affine(500, 0, -5_500_000, 0, -500, -160_000), 40, 60)
    place = footprint(grid)
    lon = [math.degrees(x / radius) for x in (-5_500_000, -5_470_000)]
    lat = [math.degrees(y / radius) for y in (-180_000, -160_000)]
    assert place.body == "Mars" and place.bbox == pytest.approx([lon[0], lat[0], lon[1], lat[1]], abs=1e-6)
    write_raster(tmp_path / "p.tif", np.full((1, *grid.shape), 0.2, np.float32), grid, [PROBABILITY], math.nan)
    write_item(tmp_path / "p.json", stac.map_item(tmp_path / "p.tif"))
    item = require_valid(tmp_path / "p.json")
    assert item["properties"]["ssys:targets"] == ["Mars"] and item["properties"]["ssys:target_class"] == "planet"
    assert SSYS in item["stac_extensions"]
    assert item["properties"]["proj:code"] is None
    assert item["properties"]["proj:wkt2"].startswith("PROJCRS[") and "3396190" in item["properties"]["proj:wkt2"]


@pytest.mark.parametrize(
    "crs",
    [sphere(500_000, "Pebble"), CRS.from_wkt('LOCAL_CS["here",UNIT["metre",1],AXIS["X",EAST],AXIS["Y",NORTH]]')],
    ids=["unknown body", "local"],
)
def test_nobody_knows_where_this_is(crs: CRS, tmp_path: Path) -> None:
    grid = Grid(crs, Affine(10, 0, 0, 0, -10, 1000), 20, 30)
    assert footprint(grid).geometry is None
    write_raster(tmp_path / "p.tif", np.full((1, 20, 30), 0.2, np.float32), grid, [PROBABILITY], math.nan)
    write_item(tmp_path / "p.json", stac.map_item(tmp_path / "p.tif"))
    item = require_valid(tmp_path / "p.json")
    assert item["geometry"] is None and "bbox" not in item and "ssys:targets" not in item["properties"]


def test_the_map_of_a_run(run: Path, tmp_path: Path) -> None:
    out = run / "map" / "probability.json"
    files = [
        run / "map" / "probability.tif",
        run / "inventory" / "landslides.tif",
        run / "inventory" / "landslides.gpkg",
    ]
    write_item(out, stac.map_item(*files))
    item = require_valid(out)
    out.unlink()
    properties, assets = item["properties"], item["assets"]
    assert properties["proj:code"] == "EPSG:32649" and "proj:wkt2" not in properties
    assert properties["proj:shape"] == [40, 60]
    assert properties["proj:transform"] == [15.0, 0.0, 460_000.0, 0.0, -15.0, 3_430_000.0]
    assert properties["proj:bbox"] == [460_000.0, 3_429_400.0, 460_900.0, 3_430_000.0]
    assert properties["gsd"] == 15
    assert properties["landslip:threshold"] == 0.3 and properties["landslip:min_area"] == 900
    assert [assets[k]["href"] for k in ("probability", "landslide_map", "inventory")] == [
        "./probability.tif",
        "../inventory/landslides.tif",
        "../inventory/landslides.gpkg",
    ]
    files.append(run / "inventory" / "landslides.parquet")
    assert len(assets) == len(files)
    for asset, path in zip(assets.values(), files, strict=True):
        content = path.read_bytes()
        assert asset["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()  # multihash of SHA-256
        assert asset["file:size"] == len(content) and asset["roles"] == ["data"] and asset["type"]
    assert assets["probability"]["bands"] == [
        {"name": "landslide_probability", "description": PROBABILITY, "data_type": "float32", "nodata": "nan"}
    ]
    (band,) = assets["landslide_map"]["bands"]
    assert band["nodata"] == 255 and [c["value"] for c in band["classification:classes"]] == [0, 1, 255]
    assert assets["inventory"]["landslip:landslides"] == 2
    assert item["stac_extensions"] == [PROJECTION, FILE, PROCESSING, CLASSIFICATION]


def test_the_time_of_a_map(run: Path, tmp_path: Path) -> None:
    map_, polygons = tmp_path / "p.tif", tmp_path / "l.gpkg"
    shutil.copyfile(run / "map" / "probability.tif", map_)
    os.utime(map_, (1_700_000_000, 1_700_000_000))
    item = stac.map_item(map_)
    assert item.datetime == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert item.properties["landslip:datetime_from"] == "last change of p.tif"
    frame = read_vector(run / "inventory" / "landslides.gpkg")
    cases = [
        (["2021-07-01"] * 2, "2021-07-01"),
        (["2021-09-03", "2021-07-01"], None),
        (["unknown", None], "2023-11-14"),
    ]
    for dates, day in cases:
        write_vector(polygons, gpd.GeoDataFrame(frame.assign(date=dates)), "inventory", overwrite=True)
        item = stac.map_item(map_, inventory=polygons)
        if day is None:
            assert item.datetime is None
            assert item.properties["start_datetime"] == "2021-07-01T00:00:00Z"
            assert item.properties["end_datetime"] == "2021-09-03T00:00:00Z"
        else:
            assert item.datetime.strftime("%Y-%m-%d") == day
    values = np.full((1, *GRID.shape), 0.2, np.float32)
    write_raster(tmp_path / "t.tif", values, GRID, [PROBABILITY], math.nan, tags={"date": "2020-02-29T10:30:00+02:00"})
    assert stac.map_item(tmp_path / "t.tif").datetime == datetime(2020, 2, 29, 8, 30, tzinfo=UTC)


def test_files_that_are_no_map_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RasterError, match="does not exist"):
        stac.map_item(tmp_path / "no.tif")
    other = Grid(CRS_UTM, Affine(15, 0, 0, 0, -15, 0), 40, 60)
    write_raster(tmp_path / "m.tif", np.zeros((1, 40, 60), np.uint8), other, ["landslide"], 255)
    with pytest.raises(GridError, match="do not lie on one grid"):
        stac.map_item(run / "map" / "probability.tif", tmp_path / "m.tif")


def test_a_catalogue_is_whole_and_can_be_moved(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "work" / "stac"
    done = command("stac", run, out, "--copy")
    assert done.code == 0 and "tiny-site-map" in done.out, done
    (tmp_path / "work").rename(tmp_path / "moved")
    root = tmp_path / "moved" / "stac"
    assert require_valid(root / "catalog.json")["id"] == "tiny-site"
    texts = [path.read_text() for path in root.rglob("*.json")]
    assert not any(str(tmp_path) in text or str(run) in text for text in texts)
    items = {item.id: item for item in pystac.Catalog.from_file(str(root / "catalog.json")).get_items(recursive=True)}
    assert len(items) == 2 and "tiny-site-map" in items
    for item in items.values():
        content = require_valid(Path(item.get_self_href()))
        assert content["id"] == item.id
        for asset in item.assets.values():
            path = Path(asset.get_absolute_href())
            assert root in path.parents
            assert asset.extra_fields["file:checksum"] == "1220" + file_hash(path)
    (link,) = items["tiny-site-map"].get_links("derived_from")
    model = next(item for name, item in items.items() if name != "tiny-site-map")
    assert Path(link.get_absolute_href()) == Path(model.get_self_href())


def test_a_catalogue_points_at_the_run_where_it_lies(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    stac.catalogue(tmp_path / "run", tmp_path / "run" / "stac")
    catalog = pystac.Catalog.from_file(str(tmp_path / "run" / "stac" / "catalog.json"))
    hrefs = {a.href for item in catalog.get_items(recursive=True) for a in item.assets.values()}
    assert "../../map/probability.tif" in hrefs and "../../model/model.safetensors" in hrefs
    with pytest.raises(OutputError, match="exists already"):
        stac.catalogue(tmp_path / "run", tmp_path / "run" / "stac")
    stac.catalogue(tmp_path / "run", tmp_path / "run" / "stac", overwrite=True)
    with pytest.raises(OutputError):
        stac.catalogue(tmp_path / "run", tmp_path / "run" / "map", overwrite=True)
    shutil.rmtree(tmp_path / "run" / "map")
    shutil.rmtree(tmp_path / "run" / "model")
    with pytest.raises(RasterError, match=r"holds no map/probability.tif. Make it with `landslip map"):
        stac.catalogue(tmp_path / "run", tmp_path / "none")


def test_a_model_has_what_the_extension_requires(run: Path, tmp_path: Path) -> None:
    # github.com/stac-extensions/mlm: the fields marked REQUIRED of items, inputs and outputs, and of model assets
    stac.catalogue(run, tmp_path / "stac")
    (path,) = (tmp_path / "stac").glob("landslip-*/*.json")
    item = require_valid(path)
    properties = item["properties"]
    for key in ("name", "architecture", "tasks", "framework", "input", "output"):
        assert properties[f"mlm:{key}"]
    (given,), (result,) = properties["mlm:input"], properties["mlm:output"]
    assert given["bands"] == ["red", "elevation"] == [band["name"] for band in properties["bands"]]
    assert given["input"]["shape"] == [-1, 2, -1, -1] and given["input"]["data_type"] == "float32"
    assert given["value_scaling"][1] == {"type": "z-score", "mean": 900.0, "stddev": 150.0}  # weights: outside
    assert result["tasks"] == properties["mlm:tasks"] == ["semantic-segmentation"]
    assert [c["value"] for c in result["classification:classes"]] == [0, 1]
    (asset,) = item["assets"].values()
    assert "mlm:model" in asset["roles"] and asset["mlm:artifact_type"] == "safetensors"
    assert properties["mlm:architecture"] == "FC-DenseNet"
    assert properties["bands"][1]["unit"] == "m"
    assert properties["gsd"] == 15 and item["bbox"][0] == pytest.approx(110.58, abs=0.01)
    from pystac.extensions.mlm import MLMExtension

    assert MLMExtension.ext(pystac.Item.from_dict(item)).architecture == "FC-DenseNet"
