"""Scenes as they are downloaded to a prepared site. Real Landsat data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio

from journeys.walk import landslip, need

COLOMBIA = "LC08_L2SP_008059_20191201_20200825_02_T1"


def test_a_landsat_folder_to_a_prepared_site(tmp_path: Path) -> None:
    folder = need("landsat_c2l2_thinned") / COLOMBIA
    (tmp_path / "site.toml").write_text(f'name = "Colombia"\n\n[[image]]\nbundle = "{folder}"\n')
    landslip("check", "site.toml", at=tmp_path)
    landslip("prepare", "site.toml", "prepared/", "--no-figures", at=tmp_path)
    with rasterio.open(tmp_path / "prepared" / "stack.tif") as stack:
        bands = dict(zip(stack.descriptions, stack.read(), strict=True))
    with rasterio.open(tmp_path / "prepared" / "valid.tif") as raster:
        valid = raster.read(1) == 1
    with rasterio.open(folder / f"{COLOMBIA}_SR_B4.TIF") as raster:
        stored = raster.read(1)
    with rasterio.open(folder / f"{COLOMBIA}_QA_PIXEL.TIF") as raster:
        clear = raster.read(1) & 0b11111 == 0  # not fill, dilated cloud, cirrus, cloud or shadow
    assert valid.any() and not valid[~clear].any()
    # the Level-2 product guide's scale and offset
    np.testing.assert_allclose(bands["red"][valid], stored[valid] * 2.75e-5 - 0.2, atol=1e-6)
    for name in ("ndvi", "mndwi"):
        assert np.abs(bands[name][valid]).max() <= 1


def test_files_of_zion_with_a_dem_that_does_not_cover_them(tmp_path: Path) -> None:
    data = need("landsat8_zion")
    scene = "LC80380342015230LGN00"
    files = ", ".join(
        f'{role} = "{scene}_B{number}.TIF"'
        for role, number in zip(("blue", "green", "red", "nir"), "2345", strict=True)
    )
    (tmp_path / "site.toml").write_text(
        f"""name = "Zion"

[outline]
path = "park.gpkg"

[[image]]
files = {{ {files} }}
scale = 2e-5
offset = -0.1
date = 2015-08-18

[dem]
path = "srtm.tif"

[lithology]
path = "landcover.tif"
"""
    )
    checked = landslip("check", "site.toml", "--data", data, at=tmp_path)
    assert "fault:" not in checked.out
    landslip("prepare", "site.toml", "prepared/", "--data", data, "--no-figures", at=tmp_path)
    with rasterio.open(tmp_path / "prepared" / "stack.tif") as stack, rasterio.open(data / f"{scene}_B4.TIF") as red:
        assert stack.crs == red.crs and stack.res == (30.0, 30.0)
        window = red.window(*stack.bounds).round_offsets().round_lengths()
        np.testing.assert_allclose(
            stack.read(stack.descriptions.index("red") + 1), red.read(1, window=window) * 2e-5 - 0.1, atol=1e-6
        )
        classes = [name for name in stack.descriptions if name.startswith("lithology_")]
        planes = np.stack([stack.read(stack.descriptions.index(name) + 1) for name in classes])
    # a class raster is never interpolated: each pixel has one class, whatever the pixels of the file
    inside = np.isfinite(planes).all(axis=0)
    assert inside.any() and (planes[:, inside].sum(axis=0) == 1).all()
    assert landslip("info", "prepared/stack.tif", at=tmp_path).out


def test_a_scene_of_collection_1_is_refused_with_the_way_out(tmp_path: Path) -> None:
    folder = need("landsat_l1_clips") / "LC08_L1TP_195025_20130707_20170503_01_T1"
    (tmp_path / "site.toml").write_text(f'name = "Marburg"\n\n[[image]]\nbundle = "{folder}"\n')
    refused = landslip("check", "site.toml", at=tmp_path, code=1)
    assert "is of Landsat Collection 1" in refused.out and "`files` with scale and offset" in refused.out
