"""Bundles laid out as USGS and ESA deliver them: names, files, types, grids and metadata; the pixels are the test's.

Landsat: Collection 2 data format control books LSDS-1822 (Level-1) and LSDS-1328 (Level-2). Pixels are points: the
corner that the metadata gives is a pixel's centre, and band 8's first centre is that of the other bands, so that their
outer corners differ by 7.5 m and band 8 has 2 n - 1 rows. Sentinel-2: products specification document, Level-2A.
"""

from __future__ import annotations

import json
import math
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from affine import Affine
from rasterio.crs import CRS

from landslip.geo.geotiff import write_raster
from landslip.geo.grid import Grid

ROLES = ("coastal", "blue", "green", "red", "nir", "swir1", "swir2")
SUN = 48.59037790  # degrees
CENTRE = (460_020.0, 3_429_990.0)  # of the first pixel: a multiple of 30
CLEAR = 21824  # QA_PIXEL of clear ground: bit 6 (clear) and low confidences (bits 8, 10, 12, 14)
FILL = 1


@dataclass(frozen=True)
class Bundle:
    path: Path
    product: str
    grid: Grid  # of the bands with 30 m
    pan_grid: Grid


def landsat_grids(shape: tuple[int, int], zone: int = 32649, centre: tuple[float, float] = CENTRE) -> tuple[Grid, Grid]:
    """The grids of the 30-m bands and of band 8 by their first pixel's centre."""
    crs, (x, y), (rows, columns) = CRS.from_epsg(zone), centre, shape
    return (
        Grid(crs, Affine(30, 0, x - 15, 0, -30, y + 15), rows, columns),
        Grid(crs, Affine(15, 0, x - 7.5, 0, -15, y + 7.5), 2 * rows - 1, 2 * columns - 1),
    )


def write_landsat(
    folder: Path,
    stored: np.ndarray,
    pan: np.ndarray | None = None,
    quality: np.ndarray | None = None,
    saturation: np.ndarray | None = None,
    date: str = "2014-08-13",
    zone: int = 32649,
    kinds: tuple[str, ...] = ("json", "txt"),
    tar: bool = False,
    centre: tuple[float, float] = CENTRE,
) -> Bundle:
    """A Level-1 bundle where `pan` is given, else Level-2. stored: (7, H, W) DN; pan: (2 H - 1, 2 W - 1) DN.

    `centre` is that of the first pixel.
    """
    level = "L2SP" if pan is None else "L1TP"
    day = date.replace("-", "")
    product, first = (f"LC08_{which}_130038_{day}_20200911_02_T1" for which in (level, "L1TP"))
    home = folder / product
    home.mkdir(parents=True)
    grid, pan_grid = landsat_grids(stored.shape[1:], zone, centre)

    def write(
        name: str, values: np.ndarray, dtype: type = np.uint16, on: Grid = grid, nodata: float | None = 0
    ) -> None:
        point = {"AREA_OR_POINT": "Point"}
        write_raster(home / f"{product}_{name}.TIF", values[None].astype(dtype), on, [name], nodata, tags=point)

    rest = np.full(grid.shape, 20_000)
    prefix = "B" if pan is not None else "SR_B"
    for number, values in enumerate(stored, start=1):
        write(f"{prefix}{number}", values)
    if pan is None:
        write("ST_B10", rest)
        write("SR_QA_AEROSOL", rest // 200, np.uint8, nodata=1)
        for name in ("ATRAN", "CDIST", "DRAD", "EMIS", "EMSD", "QA", "TRAD", "URAD"):
            write(f"ST_{name}", rest // 20, np.int16, nodata=-9999)
    else:
        write("B8", pan, on=pan_grid)
        for number in (9, 10, 11):
            write(f"B{number}", rest)
        for name in ("SAA", "SZA", "VAA", "VZA"):
            write(name, rest // 20, np.int16)
    write("QA_PIXEL", np.full(grid.shape, CLEAR) if quality is None else quality, nodata=FILL)
    write("QA_RADSAT", np.zeros(grid.shape) if saturation is None else saturation, nodata=None)
    (home / f"{product}_ANG.txt").write_text("GROUP = FILE_HEADER\nEND_GROUP = FILE_HEADER\nEND\n")
    groups = _groups(product, first, level, date, zone, grid)
    if "json" in kinds:
        (home / f"{product}_MTL.json").write_text(json.dumps({"LANDSAT_METADATA_FILE": groups}, indent=2))
    if "txt" in kinds:
        (home / f"{product}_MTL.txt").write_text(_odl(groups))
    if not tar:
        return Bundle(home, product, grid, pan_grid)
    packed = folder / f"{product}.tar"
    with tarfile.open(packed, "w") as archive:
        for path in sorted(home.iterdir()):
            archive.add(path, path.name)
    return Bundle(packed, product, grid, pan_grid)


def _groups(product: str, first: str, level: str, date: str, zone: int, grid: Grid) -> dict[str, dict[str, str]]:
    names = {f"FILE_NAME_BAND_{n}": f"{first}_B{n}.TIF" for n in range(1, 12)}
    quality = {
        "FILE_NAME_QUALITY_L1_PIXEL": f"{product}_QA_PIXEL.TIF",
        "FILE_NAME_QUALITY_L1_RADIOMETRIC_SATURATION": f"{product}_QA_RADSAT.TIF",
        "FILE_NAME_ANGLE_COEFFICIENT": f"{product}_ANG.txt",
        "FILE_NAME_METADATA_ODL": f"{product}_MTL.txt",
    }
    surface = {f"FILE_NAME_BAND_{n}": f"{product}_SR_B{n}.TIF" for n in range(1, 8)}
    surface["FILE_NAME_BAND_ST_B10"] = f"{product}_ST_B10.TIF"
    left, bottom, right, top = grid.bounds
    made = {
        "PRODUCT_CONTENTS": {
            "ORIGIN": "Image courtesy of the U.S. Geological Survey",
            "DIGITAL_OBJECT_IDENTIFIER": "https://doi.org/10.5066/P975CC9B",
            "LANDSAT_PRODUCT_ID": product,
            "PROCESSING_LEVEL": level,
            "COLLECTION_NUMBER": "02",
            "COLLECTION_CATEGORY": "T1",
            "OUTPUT_FORMAT": "GEOTIFF",
            **(names if level == "L1TP" else surface),
            **quality,
        },
        "IMAGE_ATTRIBUTES": {
            "SPACECRAFT_ID": "LANDSAT_8",
            "SENSOR_ID": "OLI_TIRS",
            "WRS_PATH": "130",
            "WRS_ROW": "038",
            "DATE_ACQUIRED": date,
            "SCENE_CENTER_TIME": "03:33:19.1234560Z",
            "CLOUD_COVER": "12.34",
            "SUN_AZIMUTH": "131.46298541",
            "SUN_ELEVATION": f"{SUN:.8f}",
            "EARTH_SUN_DISTANCE": "1.0129540",
        },
        "PROJECTION_ATTRIBUTES": {
            "MAP_PROJECTION": "UTM",
            "DATUM": "WGS84",
            "UTM_ZONE": str(zone % 100),
            "GRID_CELL_SIZE_PANCHROMATIC": "15.00",
            "GRID_CELL_SIZE_REFLECTIVE": "30.00",
            "PANCHROMATIC_LINES": str(2 * grid.height - 1),
            "PANCHROMATIC_SAMPLES": str(2 * grid.width - 1),
            "REFLECTIVE_LINES": str(grid.height),
            "REFLECTIVE_SAMPLES": str(grid.width),
            "CORNER_UL_PROJECTION_X_PRODUCT": f"{left + 15:.3f}",
            "CORNER_UL_PROJECTION_Y_PRODUCT": f"{top - 15:.3f}",
            "CORNER_LR_PROJECTION_X_PRODUCT": f"{right - 15:.3f}",
            "CORNER_LR_PROJECTION_Y_PRODUCT": f"{bottom + 15:.3f}",
        },
    }
    if level == "L2SP":
        made["LEVEL2_SURFACE_REFLECTANCE_PARAMETERS"] = {
            **{f"REFLECTANCE_MAXIMUM_BAND_{n}": "1.602213" for n in range(1, 8)},
            **{f"REFLECTANCE_MULT_BAND_{n}": "2.75e-05" for n in range(1, 8)},
            **{f"REFLECTANCE_ADD_BAND_{n}": "-0.2" for n in range(1, 8)},
        }
    made["LEVEL1_PROCESSING_RECORD"] = {
        "LANDSAT_SCENE_ID": "LC81300382014225LGN02",
        "LANDSAT_PRODUCT_ID": first,
        "PROCESSING_LEVEL": "L1TP",
        **names,
    }
    made["LEVEL1_RADIOMETRIC_RESCALING"] = {
        **{f"RADIANCE_MULT_BAND_{n}": "1.2345E-02" for n in range(1, 12)},
        **{f"REFLECTANCE_MULT_BAND_{n}": "2.0000E-05" for n in range(1, 10)},
        **{f"REFLECTANCE_ADD_BAND_{n}": "-0.100000" for n in range(1, 10)},
    }
    return made


def _odl(groups: dict[str, dict[str, str]]) -> str:
    """Numbers and dates bare, texts in quotation marks."""

    def plain(value: str) -> bool:
        return value.replace("-", "").replace("+", "").replace(".", "").replace("E", "").replace("e", "").isdigit()

    lines = ["GROUP = LANDSAT_METADATA_FILE"]
    for name, values in groups.items():
        lines.append(f"  GROUP = {name}")
        lines += [
            f"    {key} = {value if plain(value) else chr(34) + value + chr(34)}" for key, value in values.items()
        ]
        lines.append(f"  END_GROUP = {name}")
    return "\n".join([*lines, "END_GROUP = LANDSAT_METADATA_FILE", "END", ""])


def toa(stored: np.ndarray) -> np.ndarray:
    """LSDS-1822: (2.0E-5 DN - 0.1) / sin(sun elevation), in float64."""
    return (2.0e-5 * stored.astype(float) - 0.1) / math.sin(math.radians(SUN))


def toa_stored(reflectance: np.ndarray) -> np.ndarray:
    """DN of a top-of-atmosphere reflectance."""
    return np.rint((reflectance * math.sin(math.radians(SUN)) + 0.1) / 2.0e-5).astype(np.uint16)


def surface(stored: np.ndarray) -> np.ndarray:
    """USGS: surface reflectance = DN x 0.0000275 - 0.2."""
    return stored.astype(float) * 0.0000275 - 0.2


def sentinel_metadata(baseline: str = "05.09", offset: int | None = -1000) -> str:
    """MTD_MSIL2A.xml, shortened to what says name, date and scaling."""
    offsets = "".join(f'<BOA_ADD_OFFSET band_id="{n}">{offset}</BOA_ADD_OFFSET>' for n in range(13))
    listed = "" if offset is None else f"<BOA_ADD_OFFSET_VALUES_LIST>{offsets}</BOA_ADD_OFFSET_VALUES_LIST>"
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-2A_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-2A.xsd">
<n1:General_Info><Product_Info>
<PRODUCT_START_TIME>2023-05-23T10:06:01.024Z</PRODUCT_START_TIME>
<PRODUCT_URI>S2B_MSIL2A_20230523T100601_N0509_R022_T32TQP_20230523T130456.SAFE</PRODUCT_URI>
<PROCESSING_LEVEL>Level-2A</PROCESSING_LEVEL><PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>
</Product_Info><Product_Image_Characteristics><QUANTIFICATION_VALUES_LIST>
<BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE>
<AOT_QUANTIFICATION_VALUE unit="none">1000.0</AOT_QUANTIFICATION_VALUE></QUANTIFICATION_VALUES_LIST>
{listed}</Product_Image_Characteristics></n1:General_Info></n1:Level-2A_User_Product>
"""


def write_sentinel(folder: Path, stored: dict[str, np.ndarray], scl: np.ndarray, metadata: str | None) -> Path:
    """A .SAFE folder with GeoTIFFs: bands by name (B02, ...), of the size their shape implies beside `scl` at 20 m."""
    tile, stamp = "T32TQP", "20230523T100601"
    safe = folder / f"S2B_MSIL2A_{stamp}_N0509_R022_{tile}_20230523T130456.SAFE"
    images = safe / "GRANULE" / f"L2A_{tile}_A032437_{stamp}" / "IMG_DATA"
    for name, values in {**stored, "SCL": scl}.items():
        size = 20 * scl.shape[0] // values.shape[0]
        grid = Grid(CRS.from_epsg(32632), Affine(size, 0, 699_960, 0, -size, 4_900_020), *values.shape)
        kind = np.uint8 if name == "SCL" else np.uint16
        path = images / f"R{size}m" / f"{tile}_{stamp}_{name}_{size}m.tif"
        write_raster(path, values[None].astype(kind), grid, [name])
    if metadata is not None:
        (safe / "MTD_MSIL2A.xml").write_text(metadata)
    return safe
