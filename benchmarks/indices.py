"""Measure the ranges of NDVI and MNDWI on real scenes: `python benchmarks/indices.py ../shared/data [--json]`.

Of every scene at hand the indices are taken twice from the same bands on the scene's own pixels, fill undefined and
nothing masked: as the bare quotient wherever the sum is positive, as landslip once did, and as it does now,
where a band below 0 counts as 0. Counted too: pixels with a reflectance below 0 or above 1 in any band, and pixels that
have no index though they have both bands.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landslip.config.site_tables import ImageTable
from landslip.factors.indices import normalized_difference
from landslip.geo.raster import read_info
from landslip.preparation.images import Bands, read_images
from landslip.preparation.site_inputs import open_image

INDICES = {"NDVI": ("nir", "red"), "MNDWI": ("green", "swir1")}
SENTINEL = {"green": 2, "red": 3, "nir": 7, "swir1": 9}  # as Sen12Landslides stores them
ZION = {"green": 3, "red": 4, "nir": 5}
OLDER = {"blue": 1, "green": 2, "red": 3, "nir": 4, "swir1": 5, "swir2": 7}  # TM and ETM+
LEVEL_2 = {"scale": 2.75e-5, "offset": -0.2, "nodata": 0}


def scenes(data: Path) -> Iterator[tuple[str, ImageTable, Path]]:
    """(name, image, the raster whose pixels are its own) of every scene that is there."""
    for folder in sorted((data / "landsat_c2l2_thinned").glob("LC08*")):
        yield folder.name[:25], ImageTable(bundle=folder, mask=()), next(folder.glob("*_SR_B4.TIF"))
    for folder in sorted((data / "landsat_c2_small").glob("L*")):
        files = {role: next(folder.glob(f"*_SR_B{n}.TIF")) for role, n in OLDER.items()}
        yield folder.name[:25], ImageTable(files=files, **LEVEL_2), files["red"]
    folder = data / "landsat8_zion"
    if folder.exists():
        files = {role: folder / f"LC80380342015230LGN00_B{n}.TIF" for role, n in ZION.items()}
        yield "Zion, Level-1", ImageTable(files=files, scale=2e-5, offset=-0.1), files["red"]
    for path in sorted((data / "emilia_romagna").glob("sentinel2*.tif")):
        yield f"Emilia-Romagna {path.stem[-10:]}", ImageTable(path=path, bands=SENTINEL, scale=1e-4), path


def quotient(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """(a - b) / (a + b) where the sum is positive, else NaN."""
    total = a.astype(np.float64) + b
    return np.divide(a.astype(np.float64) - b, total, out=np.full(total.shape, np.nan), where=total > 0)


def measured(bands: Bands) -> Iterator[dict[str, Any]]:
    """A row for each index that the bands allow."""
    stacked = np.stack(list(bands.values()))
    defined = int(np.isfinite(stacked).any(axis=0).sum())
    below, above = (int(found.any(axis=0).sum()) for found in (stacked < 0, stacked > 1))
    for name, (first, second) in INDICES.items():
        if not {first, second} <= bands.keys():
            continue
        both = np.isfinite(bands[first]) & np.isfinite(bands[second])
        row: dict[str, Any] = {"index": name, "pixels": defined, "below 0": below, "above 1": above}
        for when, taken in (("before", quotient), ("now", normalized_difference)):
            index = taken(bands[first], bands[second])
            row[f"{when}, least"], row[f"{when}, most"] = float(np.nanmin(index)), float(np.nanmax(index))
            row[f"{when}, outside"] = int((np.abs(index) > 1).sum())
            row[f"{when}, none"] = int((both & np.isnan(index)).sum())
        yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder that holds landsat_c2l2_thinned, landsat8_zion, ...")
    parser.add_argument("--json", action="store_true", help="rows as JSON instead of a table")
    given = parser.parse_args()
    rows = [
        {"scene": name, **row}
        for name, image, raster in scenes(given.data)
        for row in measured(read_images([open_image(image)], read_info(raster).grid))
    ]
    if given.json:
        print(json.dumps(rows, indent=1))
        return
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()) + " |")


if __name__ == "__main__":
    main()
