"""The QGIS project names every layer of a run by a path that holds when the folder is moved, and QGIS opens it."""

import json
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from landslip.errors import OutputError
from landslip.geotiff import creating, put, write_raster
from landslip.grid import Grid, Window
from landslip.inventory import make_inventory
from landslip.qgis import write_project
from landslip.stack import Channel

GRID = Grid(CRS.from_epsg(32648), Affine(15, 0, 500_000, 0, -15, 3_400_000), 40, 60)
CHANNELS = [
    Channel("green", "green", "band", "reflectance"),
    Channel("red", "red", "band", "reflectance"),
    Channel("nir", "nir", "band", "reflectance"),
    Channel("slope", "slope", "factor", "degree"),
    Channel("aspect_sin", "aspect", "factor", "", "sine"),
    Channel("lithology_hard", "lithology", "factor", "", "class"),
]
PYTHON = "/usr/bin/python3"  # the one that Debian's QGIS comes with
OPEN = """
import json, sys
from qgis.core import QgsApplication, QgsProject
QgsApplication.setPrefixPath("/usr", True)
app = QgsApplication([], False)
app.initQgis()
project = QgsProject.instance()
read = project.read(sys.argv[1])
found = [l.layer() for l in project.layerTreeRoot().findLayers()]
print(json.dumps({
    "read": read, "crs": project.crs().authid(),
    "layers": [[l.name(), l.isValid(), type(l.renderer()).__name__] for l in found if l],
    "unresolved": sum(l is None for l in found),
    "inventory": [l.featureCount() for l in found if l and l.name() == "inventory"],
}))
app.exitQgis()
"""


def run_folder(folder: Path, name: str = "run") -> Path:
    root = folder / name
    values = np.random.default_rng(0).random((len(CHANNELS), *GRID.shape)).astype(np.float32)
    names = [channel.name for channel in CHANNELS]
    with creating(root / "prepared" / "stack.tif", GRID, "float32", names, float("nan")) as dataset:
        for band, channel in enumerate(CHANNELS, start=1):
            dataset.update_tags(band, **channel.tags())
        put(dataset, values, Window(0, 0, *GRID.shape))
    label = (values[0] > 0.9).astype(np.uint8)
    write_raster(root / "prepared" / "label.tif", label[None], GRID, ["label"], 255)
    probability = np.zeros((1, *GRID.shape), np.float32)
    probability[0, 5:15, 5:25] = 0.8
    write_raster(root / "map" / "probability.tif", probability, GRID, ["landslide probability"], np.nan)
    make_inventory(root / "map" / "probability.tif", root / "inventory" / "landslides.gpkg")
    return root


def test_every_layer_of_a_run_is_in_the_project(tmp_path: Path) -> None:
    root = run_folder(tmp_path, 'a <run> & "its" project')
    out = write_project(root)
    project = ElementTree.fromstring(out.read_text(encoding="utf-8").partition("\n")[2])
    layers = project.findall(".//maplayer")
    assert [layer.findtext("layername") for layer in layers] == [
        "inventory",
        "landslide map",
        "landslide probability",
        "label",
        "false colour",
        "slope (degree)",
        "aspect sin",
        "lithology hard",
    ]
    ids = [layer.findtext("id") for layer in layers]
    assert ids == [node.get("id") for node in project.findall(".//layer-tree-layer")] and len(set(ids)) == len(ids)
    for layer in layers:
        source = str(layer.findtext("datasource")).partition("|")[0]
        assert not Path(source).is_absolute() and (root / source).exists()
    assert project.findtext("title") == root.name
    shown = [
        node.get("name") for node in project.findall(".//layer-tree-layer") if node.get("checked") == "Qt::Checked"
    ]
    assert shown == ["inventory", "false colour"]
    first = out.read_bytes()
    assert write_project(root, overwrite=True).read_bytes() == first
    with pytest.raises(OutputError, match=r"landslip\.qgs exists already"):
        write_project(root)


def test_a_project_elsewhere_points_back(tmp_path: Path) -> None:
    root = run_folder(tmp_path)
    out = write_project(root, tmp_path / "projects" / "p.qgs")
    sources = [node.text for node in ElementTree.parse(out).findall(".//datasource")]
    assert all((out.parent / str(source).partition("|")[0]).exists() for source in sources)


def test_a_folder_with_nothing_to_show_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("")
    with pytest.raises(OutputError, match="holds no raster to show yet"):
        write_project(tmp_path)
    with pytest.raises(OutputError, match=r"ends in \.qgs"):
        write_project(run_folder(tmp_path), tmp_path / "p.qgz")


def test_qgis_opens_it(tmp_path: Path) -> None:
    has = (
        Path(PYTHON).exists()
        and subprocess.run([PYTHON, "-c", "import qgis.core"], capture_output=True).returncode == 0
    )
    if not has or shutil.which("env") is None:
        pytest.skip("no QGIS with its Python (Debian: apt-get install python3-qgis qgis-providers)")
    out = write_project(run_folder(tmp_path))
    done = subprocess.run(
        ["env", "-u", "PYTHONPATH", "QT_QPA_PLATFORM=offscreen", PYTHON, "-c", OPEN, str(out)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    seen = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    assert (seen["read"], seen["crs"], seen["unresolved"], seen["inventory"]) == (True, "EPSG:32648", 0, [1])
    assert all(valid for _, valid, _ in seen["layers"])
    assert {name: kind for name, _, kind in seen["layers"]} == {
        "inventory": "QgsCategorizedSymbolRenderer",
        "landslide map": "QgsPalettedRasterRenderer",
        "landslide probability": "QgsSingleBandPseudoColorRenderer",
        "label": "QgsPalettedRasterRenderer",
        "false colour": "QgsMultiBandColorRenderer",
        "slope (degree)": "QgsSingleBandPseudoColorRenderer",
        "aspect sin": "QgsSingleBandPseudoColorRenderer",
        "lithology hard": "QgsSingleBandPseudoColorRenderer",
    }
