"""Every command of the README's table, in its order, on one run folder; its outputs opened by other programs.

Commands with a road of their own are walked there: import in test_patches.py, serve and correct in test_review.py,
transfer in test_second_site.py.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from safetensors.numpy import load_file

from journeys.walk import ROOT, SHORT, SMALL, landslip

HERE = Path(__file__).parent
CALL = re.compile(r'(?:landslip\(\s*|words = )"(\w+)"')


def values(path: Path, band: int = 1) -> np.ndarray:
    with rasterio.open(path) as raster:
        return raster.read(band)


def cloud_optimized(path: Path) -> bool:
    """Whether rio-cogeo finds a raster to be a valid cloud-optimized GeoTIFF."""
    cogeo = pytest.importorskip("rio_cogeo", reason="rio-cogeo is not installed")
    return bool(cogeo.cog_validate(path)[0])


def test_no_command_is_without_a_journey(tmp_path: Path) -> None:
    table = re.findall(r"^\| `landslip ([a-z]+)", (ROOT / "README.md").read_text(), re.M)
    walked = {word for file in HERE.glob("test_*.py") for word in CALL.findall(file.read_text())}
    walked |= {"demo", "serve"}  # the fixture `run`; a process that goes on until it is stopped
    assert table and set(table) == walked
    listed = landslip("--help", at=tmp_path).out
    assert all(re.search(rf"^\W*{command}\s", listed, re.M) for command in table)


def test_check(run: Path) -> None:
    said = landslip("check", "site.toml", at=run)
    assert not re.findall(r"^(fault|warning):", said.out, re.M)


def test_prepare(run: Path) -> None:
    landslip("prepare", "site.toml", "prepared_again/", at=run)
    again, first = run / "prepared_again", run / "prepared"
    for name in ("stack.tif", "valid.tif", "label.tif"):
        with rasterio.open(again / name) as one, rasterio.open(first / name) as other:
            assert (one.transform, one.crs, one.descriptions) == (other.transform, other.crs, other.descriptions)
            assert np.array_equal(one.read(), other.read(), equal_nan=one.dtypes[0] == "float32")
    with rasterio.open(again / "stack.tif") as stack:
        red, nir, ndvi = (stack.read(stack.descriptions.index(name) + 1) for name in ("red", "nir", "ndvi"))
    inside = values(again / "valid.tif") == 1
    np.testing.assert_allclose(ndvi[inside], ((nir - red) / (nir + red))[inside], atol=0.2)
    assert (again / "figures" / "study_area.png").read_bytes().startswith(b"\x89PNG")


def test_train(run: Path) -> None:
    landslip("train", "run.toml", "prepared/", "short/", *SHORT, at=run)
    weights = load_file(run / "short" / "model.safetensors")
    assert all(np.isfinite(array).all() for array in weights.values())
    assert len(list(csv.DictReader((run / "short" / "history.csv").open()))) == 1
    with rasterio.open(run / "model" / "split.tif") as split:
        assert set(np.unique(split.read(1))) == {0, 1, 2, 3}


def test_calibrate(run: Path) -> None:
    words = "calibrate", "model/", "prepared/", "calibrated/", "--threshold", "f1", "--picture", "calibrated.png"
    landslip(*words, at=run)
    before, after = (json.loads((run / name / "model.json").read_text()) for name in ("model", "calibrated"))
    assert before["channels"] == after["channels"] and before != after
    assert (run / "calibrated.png").read_bytes().startswith(b"\x89PNG")


def test_ensemble(run: Path) -> None:
    landslip("train", "run.toml", "prepared/", "second/", *SHORT, "--set", "training.seed=1", at=run)
    landslip("ensemble", "model/", "second/", "both/", at=run)
    weights = load_file(run / "both" / "model.safetensors")
    for i, member in enumerate(("model", "second")):
        for name, tensor in load_file(run / member / "model.safetensors").items():
            assert np.array_equal(weights[f"members.{i}.network.{name}"], tensor)
    landslip("map", "both/", "prepared/stack.tif", "map/both.tif", "--uncertainty", at=run)
    landslip("inventory", "map/both.tif", "inventory_both/landslides.gpkg", at=run)
    assert gpd.read_file(run / "inventory_both" / "landslides.gpkg", layer="inventory").crs is not None
    probability, disagreement = (values(run / "map" / "both.tif", band) for band in (1, 4))
    assert np.nanmax(disagreement) > 0 and np.array_equal(np.isnan(disagreement), np.isnan(probability))
    assert "member      FC-DenseNet, seed 1" in landslip("info", "both/", at=run).out


def test_quantize(run: Path) -> None:
    pytest.importorskip("nncf", reason="int8 needs landslip[int8]")
    landslip("quantize", "calibrated/", "prepared/", "--tolerance", 0.1, at=run)
    landslip("map", "calibrated/", "prepared/stack.tif", "map/int8.tif", "--precision", "int8", at=run)
    eight, full = values(run / "map" / "int8.tif"), values(run / "map" / "probability.tif")
    assert np.array_equal(np.isnan(eight), np.isnan(full))
    # the calibrated model has another temperature, which changes no pixel's rank
    inside = np.isfinite(full)
    assert np.corrcoef(np.argsort(np.argsort(eight[inside])), np.argsort(np.argsort(full[inside])))[0, 1] > 0.9


def test_map(run: Path) -> None:
    words = "map", "calibrated/", "prepared/stack.tif", "map/uncertain.tif", "--uncertainty", "--samples", 2
    landslip(*words, "--picture", "map/uncertain.png", at=run)
    assert cloud_optimized(run / "map" / "uncertain.tif") and cloud_optimized(run / "map" / "probability.tif")
    with rasterio.open(run / "map" / "uncertain.tif") as raster:
        assert raster.count == 4 and float(raster.tags()["threshold"]) > 0
        probability = raster.read(1)
    assert np.array_equal(np.isfinite(probability), values(run / "prepared" / "valid.tif") == 1)
    assert np.nanmin(probability) >= 0 and np.nanmax(probability) <= 1


def test_inventory(run: Path) -> None:
    landslip("inventory", "map/probability.tif", "inventory_again/landslides.gpkg", at=run)
    folder = run / "inventory_again"
    package = gpd.read_file(folder / "landslides.gpkg", layer="inventory")
    parquet = gpd.read_parquet(folder / "landslides.parquet")
    assert len(package) and list(package["id"]) == list(parquet["id"])
    assert package.geometry.reset_index(drop=True).geom_equals(parquet.geometry.reset_index(drop=True)).all()
    # on the ellipsoid an area differs from the grid's by less than a thousandth
    np.testing.assert_allclose(package["area_m2"], package["pixels"] * 225.0, rtol=1e-3)
    assert cloud_optimized(folder / "landslides.tif")
    assert (values(folder / "landslides.tif") == 1).sum() == package["pixels"].sum()


def test_evaluate(run: Path) -> None:
    words = "evaluate", "map/probability.tif", "prepared/label.tif", "--split", "model/split.tif", "--part", "test"
    vectors = "--inventory", "inventory/landslides.gpkg", "--reference", "inputs/landslides.gpkg"
    files = "--json", "scores/landslides.json", "--reliability", "reliability.png", "--picture", "areas.png"
    said = landslip(*words, *vectors, *files, at=run)
    scores = json.loads((run / "scores" / "landslides.json").read_text())
    part = values(run / "model" / "split.tif") == 3
    probability, label = values(run / "map" / "probability.tif"), values(run / "prepared" / "label.tif")
    with rasterio.open(run / "map" / "probability.tif") as raster:
        mapped = probability >= float(raster.tags()["threshold"])
    scored = part & np.isfinite(probability) & (label < 2)
    hits = (mapped & (label == 1) & scored).sum()
    f1 = 2 * hits / ((mapped & scored).sum() + ((label == 1) & scored).sum())
    assert scores["f1"] == pytest.approx(f1, abs=1e-9)
    assert "Found" in said.out
    parquet = landslip(*words, "--inventory", "inventory/landslides.parquet", *vectors[2:], at=run)
    assert parquet.out.split("Found")[1] == said.out.split("Found")[1]


def test_intervals(run: Path) -> None:
    landslip("intervals", "prepared/", "intervals/", at=run)
    rows = json.loads((run / "intervals" / "intervals.json").read_text())
    assert rows


def test_importance(run: Path) -> None:
    words = "importance", "prepared/", "importance/", "--model", "model/", "--repeats", 2, "--sample", 1000
    landslip(*words, at=run)
    assert json.loads((run / "importance" / "importance.json").read_text())


def test_compare(run: Path) -> None:
    chosen = ["networks=['fc_densenet']", "baselines=['random_forest']", "splits=['apart']"]
    chosen += ["channels=['bands + factors']", f"options={{fc_densenet={SMALL}}}"]
    changes = [word for change in chosen for word in ("--set", f"compare.{change}")]
    landslip("compare", "run.toml", "prepared/", "compare/", *changes, *SHORT, at=run)
    with (run / "compare" / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 and all(0 < float(row["accuracy"]) <= 1 for row in rows)


def test_ladder(run: Path) -> None:
    said = landslip("ladder", "run.toml", "prepared/", "ladder/", *SHORT, at=run)
    assert "leaky" in said.out.lower()


def test_report(run: Path) -> None:
    landslip("report", ".", "report.html", at=run)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", page)  # nothing is fetched
    for what in ("random forest", "FC-DenseNet", "Gini"):  # the comparison and the importance, made as README says
        assert what in page, what


def test_qgis(run: Path) -> None:
    landslip("qgis", ".", at=run)
    project = ElementTree.parse(run / "landslip.qgs")
    sources = [element.text or "" for element in project.iter("datasource")]
    files = [run / source.split("|")[0] for source in sources]
    assert len(files) > 5 and all(file.exists() for file in files)
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    program = (
        "import sys; from qgis.core import QgsApplication, QgsProject; application = QgsApplication([], False); "
        "application.initQgis(); assert QgsProject.instance().read(sys.argv[1]); "
        "print(*[layer.name() for layer in QgsProject.instance().mapLayers().values() if not layer.isValid()])"
    )
    if python is None or subprocess.run([python, "-c", "import qgis.core"], capture_output=True).returncode:
        return  # the files are there; whether QGIS draws them is seen where it is installed
    line = [python, "-c", program, str(run / "landslip.qgs")]
    found = subprocess.run(line, capture_output=True, text=True, env={"QT_QPA_PLATFORM": "offscreen"}, timeout=120)
    assert found.stdout.strip() == "", found.stdout + found.stderr


def test_export(run: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX needs landslip[export]")
    landslip("export", "model/", "onnx/", "--window", 128, at=run)
    path = next(file for file in sorted((run / "onnx").glob("*.onnx")) if "deepness" not in file.name)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [channel["name"] for channel in json.loads((run / "model" / "model.json").read_text())["channels"]]
    with rasterio.open(run / "prepared" / "stack.tif") as stack:
        block = np.stack([stack.read(stack.descriptions.index(name) + 1) for name in names])
    block = block[:, : block.shape[1] // 32 * 32, : block.shape[2] // 32 * 32]
    made = session.run(None, {session.get_inputs()[0].name: block[None]})[0][0, 0]
    mapped = values(run / "map" / "probability.tif")[: block.shape[1], : block.shape[2]]
    both = np.isfinite(made) & np.isfinite(mapped)
    assert both.sum() > 0.9 * np.isfinite(mapped).sum()
    # the map was cut at valid ground, the block here at the raster: only pixels near the rim may differ
    assert np.median(np.abs(made - mapped)[both]) < 1e-3


def test_stac(run: Path) -> None:
    pystac = pytest.importorskip("pystac", reason="STAC needs landslip[export]")
    validation = pytest.importorskip("pystac.validation.stac_validator", reason="validated by jsonschema")
    landslip("stac", ".", "catalogue/", at=run)
    catalogue = pystac.Catalog.from_file(str(run / "catalogue" / "catalog.json"))
    items = list(catalogue.get_items(recursive=True))
    assert items
    for item in items:
        found = item.to_dict()
        validator = validation.JsonSchemaSTACValidator()
        validator.validate_core(found, pystac.STACObjectType.ITEM, found["stac_version"], item.self_href)
        assert all(Path(asset.get_absolute_href()).exists() for asset in item.assets.values())


def test_info(run: Path) -> None:
    for product in ("prepared/stack.tif", "model/", "map/probability.tif"):
        assert landslip("info", product, at=run).out.strip()
    assert "2,961,676" in landslip("info", "--network", "fc_densenet", at=run).out.replace(" ", "")
