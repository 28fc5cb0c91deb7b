"""Files in archives are read as if they had been unpacked, and known by the archive's hash; networks are refused."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from command import command, contents
from conftest import GRID, SHAPE, TinySite, write_tiny_site
from real_data import need

from landslip.config.site import read_site
from landslip.errors import RasterError, SiteError, VectorError
from landslip.geo.archive import archive_of, plain
from landslip.geo.geotiff import write_raster
from landslip.geo.raster import exists, file_facts, read, read_info
from landslip.geo.vector import read_vector
from landslip.preparation.prepare import prepare
from landslip.runtime.disk import file_hash

FURTHER = """
[[before]]
path = "image.tif"
bands = { red = 4, nir = 5 }

[[factor]]
name = "rain"
path = "rain.tif"

[[factor]]
name = "cover"
path = "rocks.gpkg"
kind = "classes"
field = "rock"
"""
FILES = ["image.tif", "dem.tif", "rain.tif", "outline.gpkg", "rivers.gpkg", "faults.gpkg", "rocks.gpkg"]
FILES += ["landslides.gpkg"]


def packed(folder: Path, name: str) -> Path:
    """Every file of a site in an archive, in a folder `in`, written by Python's own zipfile or tarfile."""
    path = folder / name
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
            for file in FILES:
                zipped.write(folder / file, f"in/{file}")
    else:
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
            for file in FILES:
                tar.add(folder / file, f"in/{file}")
    return path


@pytest.fixture(scope="module")
def plain_site(tmp_path_factory: pytest.TempPathFactory) -> TinySite:
    """A site with every table that names a file, prepared from files of their own; read only."""
    made = write_tiny_site(tmp_path_factory.mktemp("plain"))
    rain = np.linspace(800, 900, SHAPE[0] * SHAPE[1], dtype=np.float32).reshape(1, *SHAPE)
    write_raster(made.folder / "rain.tif", rain, GRID, ["rain"])
    made.site.write_text(made.site.read_text() + FURTHER)
    prepare(read_site(made.site), made.folder / "prepared")
    return made


def moved(made: TinySite, to: Path, before: str, name: str = "site.toml", data: str = "") -> Path:
    """The site file again, with `before` before every path."""
    text = made.site.read_text().replace('path = "', f'path = "{before}')
    path = to / name
    path.write_text(text.replace('name = "tiny"\n', f'name = "tiny"\n{data}\n'))
    return path


@pytest.mark.parametrize(
    "name, before, data",
    [
        ("all.zip", "all.zip/in/", ""),
        ("all.tar", "/vsitar/all.tar/in/", ""),
        ("all.tar.gz", "in/", 'data = "/vsitar/{{all.tar.gz}}"'),
    ],
)
def test_a_site_in_an_archive_is_the_site_out_of_it(
    plain_site: TinySite, tmp_path: Path, name: str, before: str, data: str
) -> None:
    archive = packed(plain_site.folder, name).rename(tmp_path / name)
    site = moved(plain_site, tmp_path, before, data=data.format())
    checked = command("check", site)
    assert checked.code == 0 and "0 faults" in checked.out, checked
    done = command("prepare", site, tmp_path / "prepared", "--no-figures")
    assert done.code == 0, done
    made, expected = (contents(folder / "prepared") for folder in (tmp_path, plain_site.folder))
    for file in ("stack.tif", "valid.tif", "label.tif", "table.csv"):
        assert made[file] == expected[file], file
    rows = json.loads(made["manifest.json"])["inputs"]
    # every file that is read of it is named, and the hash is that of the archive as the system's own tool has it
    named = {(row["what"], row["member"]) for row in rows}
    assert named == {(row["what"], f"in/{row['file']}") for row in json.loads(expected["manifest.json"])["inputs"]}
    sha256 = subprocess.run(["sha256sum", archive], capture_output=True, text=True, check=True).stdout.split()[0]
    assert {(row["file"], row["sha256"]) for row in rows} == {(name, sha256)}


GDAL_NAMES = {
    "dem.zip/dem.tif": "dem.zip/dem.tif",
    "/vsizip/dem.zip/dem.tif": "dem.zip/dem.tif",
    "/vsizip//data/dem.ZIP/a/dem.tif": "/data/dem.ZIP/a/dem.tif",
    "/vsizip/{/data/dem.zip}/dem.tif": "/data/dem.zip/dem.tif",
    "/vsizip/{a{b}.zip}/dem.tif": "a{b}.zip/dem.tif",
    "/vsitar/dem.tar.gz/dem.tif": "dem.tar.gz/dem.tif",
    "/vsitar/dem.tgz/dem.tif": "dem.tgz/dem.tif",
    "/vsizip/faults.zip": "faults.zip",
    "C:/data/dem.tif": "C:/data/dem.tif",
}
ELSEWHERE = [
    "/vsicurl/https://host/dem.tif", "/vsis3/bucket/dem.tif", "/vsigs/bucket/dem.tif", "/vsiaz/box/dem.tif",
    "/vsicurl_streaming/http://host/dem.tif", "/vsizip//vsicurl/https://host/dem.zip/dem.tif",
    "/vsizip/{/vsis3/bucket/dem.zip}/dem.tif", "http://host/dem.tif", "HTTPS://host/dem.tif", "s3://bucket/dem.tif",
    "gs://bucket/dem.tif", "ftp://host/dem.tif",
]  # fmt: skip
OTHERS = {
    "/vsigzip/dem.tif.gz": "is a way of GDAL's",
    "/vsimem/dem.tif": "is a way of GDAL's",
    "/vsizip//vsitar/a.tar/b.zip/dem.tif": "an archive within an archive",
    "/vsizip/dem.kmz/dem.tif": "names no archive",
    "zip://dem.zip!dem.tif": "is a URL: give the path",
    "file:///data/dem.tif": "is a URL: give the path",
}


@pytest.mark.parametrize("text, path", GDAL_NAMES.items())
def test_gdals_names_are_paths(text: str, path: str) -> None:
    assert plain(text) == path == plain(path)


@pytest.mark.parametrize("text", ELSEWHERE)
def test_a_network_in_a_site_file_is_refused_with_the_remedy(plain_site: TinySite, tmp_path: Path, text: str) -> None:
    site = tmp_path / "site.toml"
    site.write_text(plain_site.site.read_text().replace('"dem.tif"', f'"{text}"'))
    for words in (("check", site), ("prepare", site, tmp_path / "p")):
        outcome = command(*words)
        assert outcome.code == 2 and outcome.out == ""
        assert f"site.toml: dem.path: {text} lies on a network" in outcome.err and "Download it first" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["site.toml"]


@pytest.mark.parametrize("key", ["path", "files", "bundle", "outline", "factor", "data", "--data"])
def test_a_network_is_refused_wherever_a_path_is_given(tmp_path: Path, key: str) -> None:
    far = "https://host/a.tif"
    tables = {
        "path": f'[[image]]\npath = "{far}"\nbands = {{ red = 1 }}',
        "files": f'[[image]]\nscale = 1\noffset = 0\nfiles = {{ red = "{far}" }}',
        "bundle": f'[[image]]\nbundle = "{far}"',
        "outline": f'[dem]\npath = "dem.tif"\n[outline]\npath = "{far}"',
        "factor": f'[[factor]]\nname = "x"\npath = "{far}"',
        "data": f'data = "{far}"\n[dem]\npath = "dem.tif"',
        "--data": '[dem]\npath = "dem.tif"',
    }
    site = tmp_path / "site.toml"
    site.write_text(f'name = "far"\n{tables[key]}\n')
    outcome = command("check", site, *(["--data", far] if key == "--data" else []))
    assert outcome.code == 2 and "lies on a network" in outcome.err and "Download it first" in outcome.err


@pytest.mark.parametrize("text, says", OTHERS.items())
def test_what_else_gdal_alone_knows_is_refused(plain_site: TinySite, tmp_path: Path, text: str, says: str) -> None:
    site = tmp_path / "site.toml"
    site.write_text(plain_site.site.read_text().replace('"dem.tif"', f'"{text}"'))
    with pytest.raises(SiteError, match=says):
        read_site(site)


def test_what_an_archive_lacks_is_said_with_what_it_holds(plain_site: TinySite, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        zipped.write(plain_site.folder / "dem.tif", "heights/dem.tif")
        zipped.write(plain_site.folder / "faults.gpkg", "faults.gpkg")
    holds = r"a\.zip holds no dem\.tif\. It holds faults\.gpkg, heights/dem\.tif\."
    with pytest.raises(RasterError, match=holds):
        read_info(tmp_path / "a.zip" / "dem.tif")
    with pytest.raises(VectorError, match=r"a\.zip holds no in/faults\.gpkg\. It holds faults\.gpkg"):
        read_vector(tmp_path / "a.zip" / "in" / "faults.gpkg")
    with pytest.raises(RasterError, match=r"a\.zip is an archive of .*Name the file in it, such as .*a\.zip/faults"):
        read_info(tmp_path / "a.zip")
    with pytest.raises(RasterError, match=r"none\.zip/dem\.tif does not exist\. Check the path"):
        read_info(tmp_path / "none.zip" / "dem.tif")
    whole = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RasterError, match=r"a\.zip cannot be read as an archive .*Fetch it again"):
        read_info(tmp_path / "a.zip" / "heights" / "dem.tif")


def test_a_damaged_raster_in_an_archive_is_named_as_the_site_file_has_it(plain_site: TinySite, tmp_path: Path) -> None:
    half = (plain_site.folder / "dem.tif").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        zipped.writestr("dem.tif", half[: len(half) * 2 // 3])
    with pytest.raises(RasterError, match=rf"^{tmp_path}/a\.zip/dem\.tif cannot be read as a raster"):
        read(tmp_path / "a.zip" / "dem.tif")


def test_a_zipped_shapefile_needs_no_name_inside(plain_site: TinySite, tmp_path: Path) -> None:
    frame = gpd.read_file(plain_site.folder / "landslides.gpkg")
    (tmp_path / "shape").mkdir()
    frame.to_file(tmp_path / "shape" / "slides.shp")
    with zipfile.ZipFile(tmp_path / "slides.zip", "w") as zipped:
        for file in (tmp_path / "shape").iterdir():
            zipped.write(file, file.name)
    for path in (tmp_path / "slides.zip", tmp_path / "slides.zip" / "slides.shp"):
        assert read_vector(path).geometry.geom_equals(frame.geometry).all()


def test_other_formats_of_elevation_are_read_in_archives_and_a_vrt_is_not(tmp_path: Path) -> None:
    z = np.arange(12, dtype=np.float32).reshape(3, 4)
    grid = "ncols 4\nnrows 3\nxllcorner 0\nyllcorner 0\ncellsize 30\n"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        zipped.writestr("dem.asc", grid + "\n".join(" ".join(map(str, row)) for row in z))
        source = f"<SourceFilename>{tmp_path / 'own.asc'}</SourceFilename><SourceBand>1</SourceBand>"
        band = f"<VRTRasterBand dataType='Float32' band='1'><SimpleSource>{source}</SimpleSource></VRTRasterBand>"
        zipped.writestr("dem.tif", f"<VRTDataset rasterXSize='4' rasterYSize='3'>{band}</VRTDataset>")
        (tmp_path / "own.asc").write_bytes(zipped.read("dem.asc"))
        (tmp_path / "own.vrt").write_bytes(zipped.read("dem.tif"))
    assert np.array_equal(read(tmp_path / "own.vrt")[0], z)  # on the disk it is read
    assert np.array_equal(read(tmp_path / "a.zip" / "dem.asc")[0], z)
    with pytest.raises(RasterError, match=r"dem\.tif cannot be read as a raster"):
        read_info(tmp_path / "a.zip" / "dem.tif")


def test_bands_and_metadata_of_files_may_lie_in_archives(tmp_path: Path) -> None:
    """The hash of every archive stands in the manifest, also where bands lie in several."""
    write_tiny_site(tmp_path)
    bands = read(tmp_path / "image.tif")
    for name, band, archive in (("B04", 4, "a.zip"), ("B08", 5, "b.zip")):
        stored = bands[band - 1 : band].astype(np.uint16)
        write_raster(tmp_path / f"T49_{name}_10m.tif", stored, GRID, [name], nodata=0)
        with zipfile.ZipFile(tmp_path / archive, "w") as zipped:
            zipped.write(tmp_path / f"T49_{name}_10m.tif", f"T49_{name}_10m.tif")
    text = (
        "<a><PRODUCT_URI>S2A.SAFE</PRODUCT_URI><PRODUCT_START_TIME>2015-07-01T</PRODUCT_START_TIME>"
        "<PROCESSING_BASELINE>02.09</PROCESSING_BASELINE><BOA_QUANTIFICATION_VALUE>10000</BOA_QUANTIFICATION_VALUE></a>"
    )
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as zipped:
        zipped.writestr("MTD_MSIL2A.xml", text)
    site = tmp_path / "files.toml"
    site.write_text(
        'name = "files"\n[[image]]\nfiles = { red = "a.zip/T49_B04_10m.tif", nir = "b.zip/T49_B08_10m.tif" }\n'
        'metadata = "m.zip/MTD_MSIL2A.xml"\n'
    )
    prepare(read_site(site), tmp_path / "p")
    stack = read(tmp_path / "p" / "stack.tif")
    np.testing.assert_allclose(stack[0], bands[3] * 1e-4, rtol=1e-6)
    rows = json.loads((tmp_path / "p" / "manifest.json").read_text())["inputs"]
    hashes = {name: file_hash(tmp_path / name) for name in ("a.zip", "b.zip", "m.zip")}
    assert {row["file"]: row["sha256"] for row in rows} == hashes


KILLED = """
import os, signal, sys
import landslip.preparation.prepare as module
from landslip.config.site import read_site
from pathlib import Path
put = module.put_tiles
def put_then_die(tiles, values, window, bands):
    put(tiles, values, window, bands)
    if 12 in bands:
        os.kill(os.getpid(), signal.SIGKILL)
module.put_tiles = put_then_die
module.prepare(read_site(Path(sys.argv[1])), Path(sys.argv[2]))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs kill -9")
def test_a_killed_run_goes_on_with_the_same_archive_and_begins_anew_with_another(
    plain_site: TinySite, tmp_path: Path
) -> None:
    archive = packed(plain_site.folder, "all.zip").rename(tmp_path / "all.zip")
    site, out, left = moved(plain_site, tmp_path, "all.zip/in/"), tmp_path / "p", tmp_path / ".p.part"
    killed = subprocess.run([sys.executable, "-c", KILLED, site, out], capture_output=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL and left.is_dir() and not out.exists()
    kept = contents(left)
    done = command("prepare", site, out, "--no-figures")
    assert done.code == 0 and "7 of its 22 channels are taken over" in done.err, done
    expected = contents(plain_site.folder / "prepared")
    assert contents(out)["stack.tif"] == expected["stack.tif"]
    # one file more, which nobody reads: the archive is another, and nothing of the earlier run is trusted
    left.mkdir()
    for name, data in kept.items():
        (left / name).write_bytes(data)
    with zipfile.ZipFile(archive, "a") as zipped:
        zipped.writestr("more.txt", "more")
    done = command("prepare", site, out, "--no-figures", "--overwrite")
    assert done.code == 0 and "taken over" not in done.err, done
    assert contents(out)["stack.tif"] == expected["stack.tif"]


def test_an_archive_in_the_folder_to_be_replaced_is_not_lost(plain_site: TinySite, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    packed(plain_site.folder, "all.zip").rename(tmp_path / "p" / "all.zip")
    (tmp_path / "p" / "manifest.json").write_text("{}")
    site = moved(plain_site, tmp_path, "p/all.zip/in/")
    outcome = command("prepare", site, tmp_path / "p", "--overwrite")
    assert outcome.code == 2 and "is an input and lies in" in outcome.err and (tmp_path / "p" / "all.zip").exists()


def test_a_stack_in_an_archive_brings_its_valid_raster(plain_site: TinySite, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "run.zip", "w") as zipped:
        for name in ("stack.tif", "valid.tif"):
            zipped.write(plain_site.folder / "prepared" / name, f"prepared/{name}")
    stack = tmp_path / "run.zip" / "prepared" / "stack.tif"
    assert exists(stack) and exists(stack.with_name("valid.tif")) and not exists(stack.with_name("label.tif"))
    assert file_facts(stack)[1][:2] == ["run.zip", (tmp_path / "run.zip").stat().st_size]


def test_the_report_names_the_archive_and_what_is_read_of_it() -> None:
    from landslip.report.provenance import _file

    assert _file({"file": "all.zip", "member": "in/dem.tif"}) == "all.zip (in/dem.tif)"
    assert _file({"file": "dem.tif"}) == "dem.tif"


def test_real_files_in_an_archive(tmp_path: Path) -> None:
    """A DEM against rasterio's own reading of the file, a shapefile of 3,819 landslides against geopandas'."""
    heights, slides = need("jiuzhaigou") / "DEM_030.tif", need("muzaffarabad") / "landslides.shp"
    with zipfile.ZipFile(tmp_path / "real.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.write(heights, "dem.tif")
        for path in slides.parent.glob("landslides.*"):
            zipped.write(path, f"slides/{path.name}")
    with rasterio.open(heights) as dataset:
        expected = dataset.read(1, masked=True).astype(np.float32).filled(np.nan)
    assert np.array_equal(read(tmp_path / "real.zip" / "dem.tif")[0], expected, equal_nan=True)
    frame = gpd.read_file(slides)
    found = read_vector(tmp_path / "real.zip" / "slides" / "landslides.shp")
    assert len(found) == len(frame) and found.geometry.area.sum() == pytest.approx(frame.geometry.area.sum())
    assert archive_of(tmp_path / "real.zip" / "dem.tif") == tmp_path / "real.zip"
