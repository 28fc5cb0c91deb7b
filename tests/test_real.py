"""The chain on real data, in reduced form. Skipped where the data is absent: it is not in the repository."""

import json
from pathlib import Path

import numpy as np
import pytest
from real_data import DATA, ROOT, need

from landslip.config.run import Run
from landslip.config.site import read_site
from landslip.evaluation.evaluate import evaluate
from landslip.geo.geotiff import write_raster
from landslip.geo.grid import Window
from landslip.geo.raster import read, read_info, read_stored
from landslip.inference.mapping import map_site
from landslip.inventory.inventory import make_inventory
from landslip.preparation.label_source import open_label
from landslip.preparation.prepare import prepare
from landslip.preparation.site_grid import site_grid
from landslip.preparation.site_inputs import open_site
from landslip.training.checkpoint import load_model
from landslip.training.train import train

SMALL = {"layers": [1, 1, 1, 1, 1], "first_width": 16, "growth_rate": 8}


def test_emilia_romagna_from_bands_to_a_leaky_score(tmp_path: Path) -> None:
    need("emilia_romagna")
    site = read_site(ROOT / "sites" / "emilia_romagna.toml")
    prepared = prepare(site, tmp_path / "prepared")
    named = {s.channel.name: s for s in prepared.summaries}
    # Sentinel-2 over vegetated hills in May: reflectances, and NDVI that is high
    assert 0 < named["red"].mean < 0.1 and 0.6 < named["ndvi"].mean < 0.9 and named["mndwi"].mean < 0
    assert prepared.landslide_pixels == 631  # as the data's own README counts them
    stack = tmp_path / "prepared" / "stack.tif"
    names = list(read_info(stack).names)
    # independent of landslip: NDVI from the stored bands
    stored = read_stored(DATA / "emilia_romagna" / "sentinel2_post_2023-05-23.tif", 7).astype(float)
    red = read_stored(DATA / "emilia_romagna" / "sentinel2_post_2023-05-23.tif", 3).astype(float)
    np.testing.assert_allclose(read(stack, [names.index("ndvi") + 1])[0], (stored - red) / (stored + red), atol=1e-5)
    # the DEM's terraces are smoothed by dem_resolution = 30: straight on its 10 m pixels slopes reach twice as far
    assert named["slope"].maximum < 45
    run = Run.model_validate(
        {
            "split": {"kind": "paper"},
            "network": {"name": "fc_densenet", "options": SMALL},
            "training": {"epochs": 2, "batch": 2, "precision": "fp32"},
        }
    )
    train(run, tmp_path / "prepared", tmp_path / "model")
    map_site(load_model(tmp_path / "model"), stack, tmp_path / "p.tif")
    scored = evaluate(tmp_path / "p.tif", tmp_path / "prepared" / "label.tif", tmp_path / "model" / "split.tif", "all")
    assert scored.leaky and scored.split == "paper" and scored.pixels == 128 * 128
    made = make_inventory(tmp_path / "p.tif", tmp_path / "i.gpkg")
    assert made.valid_area_m2 == pytest.approx(128 * 128 * 100, rel=1e-3)  # true metres, not the grid's


def test_muzaffarabad_has_all_the_factors_its_data_allows(tmp_path: Path) -> None:
    need("muzaffarabad")
    site = read_site(ROOT / "sites" / "muzaffarabad.toml")
    prepared = prepare(site, tmp_path / "prepared")
    factors = json.loads((tmp_path / "prepared" / "channels.json").read_text())["factors"]
    assert list(factors) == [
        "elevation", "slope", "curvature", "aspect", "distance_to_river", "distance_to_fault", "lithology", "landcover",
    ]  # fmt: skip
    assert (len(factors["lithology"]), len(factors["landcover"])) == (9, 11)
    named = {s.channel.name: s for s in prepared.summaries}
    # elevation's range straight from the file; the rim has no neighbours, so no slope
    z = read(DATA / "muzaffarabad" / "AW3D30.tif")[0]
    assert named["elevation"].minimum >= z.min() and named["elevation"].maximum == pytest.approx(z.max())
    assert prepared.valid_pixels == (987 - 2) * (826 - 2)
    assert named["distance_to_fault"].minimum == 0 and 10_000 < named["distance_to_fault"].maximum < 15_000


def test_muzaffarabads_landslides_by_how_they_are_burnt() -> None:
    need("muzaffarabad")
    site = read_site(ROOT / "sites" / "muzaffarabad.toml")
    grid = site_grid(open_site(site))
    assert site.landslides is not None
    shares = {}
    for how in ("centre", "touched"):
        source = open_label(site.landslides.model_copy(update={"burn": how}), grid)
        shares[how] = 100 * (source.at(Window(0, 0, *grid.shape)) == 1).mean()
        # all-touched still loses those whose representative pixel lies outside the raster: none is inside
        assert (len(source.unburnt) > 1000) == (how == "centre")
    # the data's own README: 1.22 % of pixels by centre, 3.24 % all-touched
    assert shares == {"centre": pytest.approx(1.22, abs=0.005), "touched": pytest.approx(3.24, abs=0.005)}


def valles_window(folder: Path, window: Window) -> Path:
    """A site of a few tiles of Valles Marineris, cut from the real files."""
    source = need("valles_marineris")
    for name in ("thermal_inertia", "gray", "colour", "elevation", "landslides"):
        info = read_info(source / f"{name}.tif")
        bands = range(1, info.count + 1)
        values = np.stack([read_stored(source / f"{name}.tif", b, window) for b in bands])
        write_raster(folder / f"{name}.tif", values, info.grid.crop(window), [name] * info.count, info.nodata[0])
    text = (ROOT / "sites" / "valles_marineris.toml").read_text()
    text = text.replace('[outline]\npath = "study_area.gpkg"\n', "")
    (folder / "site.toml").write_text(text)
    return folder / "site.toml"


def test_valles_marineris_channels_are_those_the_model_wants(tmp_path: Path) -> None:
    site = read_site(valles_window(tmp_path, Window(4 * 128, 12 * 128, 256, 512)), tmp_path)
    prepared = prepare(site, tmp_path / "prepared")
    names = [s.channel.name for s in prepared.summaries]
    assert names == [
        "thermal_inertia", "gray", "colour_1", "colour_2", "colour_3",
        "elevation", "slope", "curvature", "aspect_sin", "aspect_cos",
    ]  # fmt: skip
    # slopes made by others on the whole DEM agree with ours but for the rims, where they had neighbours
    slope = read(tmp_path / "prepared" / "stack.tif", [7])[0]
    theirs = read(DATA / "valles_marineris" / "slope.tif", [1], Window(4 * 128, 12 * 128, 256, 512))[0]
    inner = ~np.isnan(theirs)
    inner[[0, -1]] = inner[:, [0, -1]] = False
    for shift in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        inner &= np.roll(~np.isnan(theirs), shift, (0, 1))
    for shift in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        inner &= np.roll(~np.isnan(theirs), shift, (0, 1))
    assert inner.sum() > 60_000
    np.testing.assert_allclose(slope[inner], theirs[inner], atol=1e-3)


def test_the_kept_model_maps_valles_marineris(tmp_path: Path) -> None:
    model = ROOT / "models" / "valles_marineris"
    # four tiles of the test part, never trained on, and easy ones: docs/results.md has the whole of it
    window = Window(1408, 2048, 256, 256)
    prepare(read_site(valles_window(tmp_path, window), tmp_path), tmp_path / "prepared")
    map_site(load_model(model), tmp_path / "prepared" / "stack.tif", tmp_path / "p.tif")
    scored = evaluate(tmp_path / "p.tif", tmp_path / "prepared" / "label.tif")
    assert scored.scores["f1"] > 0.85 and scored.scores["kappa"] > 0.7
