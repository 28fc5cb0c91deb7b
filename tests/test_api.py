"""The main job from Python, as README has it; `import landslip` offers it and loads nothing heavy."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from conftest import TinySite
from real_data import ROOT

import landslip
from landslip.errors import RasterError
from landslip.geo.raster import read


def readme_example() -> str:
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## From Python")[1]
    return re.findall(r"```python\n(.*?)```", section, re.S)[0]


def test_the_example_of_the_readme_does_the_main_job(
    made: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rioxarray", reason="rasters as xarray need landslip[xarray]")
    for path in made.folder.iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(readme_example(), names)
    assert "Kappa" in capsys.readouterr().out
    probability = names["probability"]
    np.testing.assert_array_equal(probability.values[0], read(tmp_path / "map" / "probability.tif")[0])
    assert probability.rio.crs == gpd.read_file("inventory/landslides.gpkg", layer="inventory").crs
    label = landslip.open_run(tmp_path).raster("label").values
    assert set(np.unique(label[np.isfinite(label)])) == {0, 1}  # what is unknown is NaN
    with pytest.raises(RasterError, match="'map' is no raster of a run; they are stack, valid, label"):
        landslip.open_run(tmp_path).raster("map")


def test_importing_landslip_loads_nothing_heavy_and_names_what_it_has() -> None:
    code = (
        "import sys, landslip; heavy = {'torch', 'rasterio', 'numpy', 'pydantic'} & set(sys.modules); "
        "assert not heavy, heavy; assert all(callable(getattr(landslip, name)) for name in landslip.HOMES); "
        "assert set(landslip.HOMES) <= set(dir(landslip)); landslip.nothing"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].startswith(
        "AttributeError: landslip has no 'nothing'; it has read_site, prepare"
    )
