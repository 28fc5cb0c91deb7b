"""The QGIS project names every layer of a run by a path that holds when the folder is moved, and QGIS opens it."""

import json
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine
from conftest import GRID as TINY_GRID
from conftest import TinySite
from rasterio.crs import CRS

from landslip.dataset.channels import Channel, read_stack_info
from landslip.errors import OutputError
from landslip.export.qgis import write_project
from landslip.geo.geopackage import write_vector
from landslip.geo.geotiff import create_raster, write_raster, write_window
from landslip.geo.grid import Grid, Window
from landslip.geo.raster import PROBABILITY, read, read_stored
from landslip.inventory.inventory import make_inventory

GRID = Grid(CRS.from_epsg(32648), Affine(15, 0, 500_000, 0, -15, 3_400_000), 40, 60)
CHANNELS = [
    Channel("green", "green", "band", "reflectance"),
    Channel("red", "red", "band", "reflectance"),
    Channel("nir", "nir", "band", "reflectance"),
    Channel("slope", "slope", "factor", "degree"),
    Channel("aspect_sin", "aspect", "factor", "", "sine"),
    Channel("aspect_cos", "aspect", "factor", "", "cosine"),
    Channel("lithology_soft", "lithology", "factor", "", "class"),
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
    with create_raster(root / "prepared" / "stack.tif", GRID, "float32", names, float("nan")) as dataset:
        for band, channel in enumerate(CHANNELS, start=1):
            dataset.update_tags(band, **channel.tags())
        write_window(dataset, values, Window(0, 0, *GRID.shape))
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
        "hits and misses at 0.5",
        "landslide map",
        "landslide probability",
        "label",
        "false colour",
        "slope (degree)",
        "aspect",
        "lithology",
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


def opened_by_qgis(project: Path) -> dict[str, Any]:
    """What QGIS itself makes of a project; the test is skipped where there is none."""
    has = (
        Path(PYTHON).exists()
        and subprocess.run([PYTHON, "-c", "import qgis.core"], capture_output=True).returncode == 0
    )
    if not has or shutil.which("env") is None:
        pytest.skip("no QGIS with its Python (Debian: apt-get install python3-qgis qgis-providers)")
    done = subprocess.run(
        ["env", "-u", "PYTHONPATH", "QT_QPA_PLATFORM=offscreen", PYTHON, "-c", OPEN, str(project)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    found: dict[str, Any] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    return found


def test_qgis_opens_it(tmp_path: Path) -> None:
    seen = opened_by_qgis(write_project(run_folder(tmp_path)))
    assert (seen["read"], seen["crs"], seen["unresolved"], seen["inventory"]) == (True, "EPSG:32648", 0, [1])
    assert all(valid for _, valid, _ in seen["layers"])
    assert {name: kind for name, _, kind in seen["layers"]} == {
        "inventory": "QgsCategorizedSymbolRenderer",
        "hits and misses at 0.5": "QgsPalettedRasterRenderer",
        "landslide map": "QgsPalettedRasterRenderer",
        "landslide probability": "QgsSingleBandPseudoColorRenderer",
        "label": "QgsPalettedRasterRenderer",
        "false colour": "QgsMultiBandColorRenderer",
        "slope (degree)": "QgsSingleBandPseudoColorRenderer",
        "aspect": "QgsPalettedRasterRenderer",
        "lithology": "QgsPalettedRasterRenderer",
    }


@pytest.fixture
def site_run(made: TinySite, tmp_path: Path) -> Path:
    """A run of the tiny site as the commands leave it, with its site file and vectors; the map is made up."""
    root = Path(shutil.copytree(made.folder, tmp_path / "run"))
    label = read_stored(root / "prepared" / "label.tif")
    p = np.random.default_rng(5).random(label.shape).astype(np.float32)
    p[:3] = np.nan
    tags = {"threshold": "0.6"}
    write_raster(root / "map" / "probability.tif", p[None], TINY_GRID, [PROBABILITY], np.nan, tags=tags)
    make_inventory(root / "map" / "probability.tif", root / "inventory" / "landslides.gpkg")
    return root


def test_maps_of_classes_are_numpys_over_the_same_files(site_run: Path) -> None:
    write_project(site_run)
    folder = site_run / "landslip_layers"
    stack = read_stack_info(site_run / "prepared" / "stack.tif")
    planes = {c.name: read(stack.path, [i])[0] for i, c in enumerate(stack.channels, start=1)}
    undefined = np.isnan(planes["aspect_sin"]) | np.isnan(planes["aspect_cos"])
    bearing = np.degrees(np.arctan2(planes["aspect_sin"], planes["aspect_cos"])) % 360
    expected = np.rint(bearing / 45) % 8 + 1
    expected[(planes["aspect_sin"] == 0) & (planes["aspect_cos"] == 0)] = 0
    assert np.array_equal(read_stored(folder / "aspect.tif"), np.where(undefined, 255, expected).astype(np.uint8))
    rocks = read_stored(folder / "lithology.tif")
    assert np.array_equal(rocks == 0, planes["lithology_soft"] == 1)
    assert np.array_equal(rocks == 1, planes["lithology_hard"] == 1) and {0, 1} <= set(np.unique(rocks))
    p, label = read(site_run / "map" / "probability.tif")[0], read_stored(site_run / "prepared" / "label.tif")
    judged = read_stored(folder / "hits_and_misses.tif")
    known = ~np.isnan(p) & (label <= 1)
    assert np.array_equal(judged == 1, known & (p >= np.float32(0.6)) & (label == 1))
    assert np.array_equal(judged == 2, known & (p < np.float32(0.6)) & (label == 1))
    assert np.array_equal(judged == 3, known & (p >= np.float32(0.6)) & (label == 0)) and (judged == 3).any()
    assert (judged[~known] == 255).all()


def test_vectors_of_the_site_are_layers_as_long_as_they_are_there(site_run: Path) -> None:
    def layers_of(project: Path) -> dict[str, str]:
        found = ElementTree.parse(project).findall(".//maplayer[@type='vector']")
        return {str(one.findtext("layername")): str(one.findtext("datasource")) for one in found}

    project = write_project(site_run)
    assert layers_of(project) == {
        "inventory": "inventory/landslides.gpkg|layername=inventory",
        "reference": "landslides.gpkg|layername=landslides",
        "outline": "outline.gpkg|layername=outline",
        "rivers": "rivers.gpkg|layername=rivers",
        "faults": "faults.gpkg|layername=faults",
    }
    seen = opened_by_qgis(project)
    kinds = {name: kind for name, valid, kind in seen["layers"] if valid}
    assert len(kinds) == len(seen["layers"]) and seen["unresolved"] == 0
    assert {kinds[name] for name in ("reference", "outline", "rivers", "faults")} == {"QgsSingleSymbolRenderer"}
    assert {kinds[name] for name in ("aspect", "lithology", "hits and misses at 0.6")} == {"QgsPalettedRasterRenderer"}


def test_a_vector_that_is_gone_is_left_out_and_one_that_changed_says_so(site_run: Path, made: TinySite) -> None:
    manifest = site_run / "prepared" / "manifest.json"
    manifest.write_text(manifest.read_text().replace(str(made.folder), str(site_run)))  # as if prepared where it lies
    (site_run / "rivers.gpkg").unlink()
    (site_run / "faults.gpkg").write_bytes(b"no GeoPackage")
    (site_run / "outline.gpkg").unlink()
    write_vector(site_run / "outline.gpkg", gpd.read_file(site_run / "landslides.gpkg"))
    manifest.rename(site_run / "kept.json")
    (site_run / "site.toml").rename(site_run / "prepared" / "site.txt")
    write_project(site_run)  # nothing says where the vectors lay
    assert "reference" not in (site_run / "landslip.qgs").read_text()
    (site_run / "kept.json").rename(manifest)
    (site_run / "prepared" / "site.txt").rename(site_run / "site.toml")
    text = write_project(site_run, overwrite=True).read_text()
    found = [str(one.text) for one in ElementTree.fromstring(text.partition("\n")[2]).findall(".//layername")]
    assert found[:3] == ["inventory", "reference", "outline (changed since prepare)"]
    assert not {"rivers", "faults"} & set(found)


def test_a_folder_of_layers_that_is_not_ours_is_kept(site_run: Path) -> None:
    (site_run / "landslip_layers").mkdir()
    (site_run / "landslip_layers" / "mine.tif").touch()
    with pytest.raises(OutputError, match="is a folder that landslip did not write"):
        write_project(site_run)
    (site_run / "landslip_layers" / "mine.tif").unlink()
    write_project(site_run)
    (site_run / "landslip.qgs").unlink()  # as a run that was stopped in between leaves it
    write_project(site_run)


def test_a_reviewed_reference_shows_what_was_decided_and_archives_are_opened(reviewed: Path) -> None:
    text = (reviewed / "site.toml").read_text().replace('"landslides.gpkg"', '"inventory/landslides.gpkg"')
    (reviewed / "site.toml").write_text(text.replace('"rivers.gpkg"', '"rivers.zip/rivers.gpkg"'))
    with zipfile.ZipFile(reviewed / "rivers.zip", "w") as zipped:
        zipped.write(reviewed / "rivers.gpkg", "rivers.gpkg")
    found = ElementTree.parse(write_project(reviewed)).findall(".//maplayer[@type='vector']")
    shown = {str(one.findtext("layername")): str(one.findtext("datasource")) for one in found}
    reference = next(name for name in shown if name.startswith("reference"))
    assert reference.startswith("reference, as reviewed")
    assert shown[reference] == "inventory/landslides.gpkg|layername=review"
    rivers = next(source for name, source in shown.items() if name.startswith("rivers"))
    assert rivers.startswith("/vsizip/") and rivers.endswith("rivers.gpkg|layername=rivers")
    assert len(gpd.read_file(rivers.split("|")[0])) == 1
