"""Numbers that no ground has are named with file, value and remedy; snow, water and other planets are left in peace."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from conftest import GRID, SHAPE, TinySite
from real_data import DATA, ROOT

from landslip.config.site import read_site
from landslip.config.site_tables import DemTable
from landslip.dataset.channels import Channel, read_stack_info
from landslip.errors import ChannelError, SiteError
from landslip.geo.geotiff import write_raster
from landslip.geo.raster import read, read_info
from landslip.preparation import plausibility
from landslip.preparation.check import check_site
from landslip.preparation.findings import Finding
from landslip.preparation.plausibility import doubts, require_metres
from landslip.preparation.prepare import prepare
from landslip.preparation.site_grid import site_grid
from landslip.preparation.site_inputs import open_site
from landslip.report.report import report
from landslip.training.checkpoint import find_channels

EMILIA = DATA / "emilia_romagna"

ROLES = ["coastal", "blue", "green", "red", "nir", "swir1", "swir2"]
FOREST = (0.02, 0.03, 0.06, 0.04, 0.36, 0.2, 0.1)
SNOW = (0.98, 0.97, 0.94, 0.93, 0.85, 0.14, 0.16)  # medians of a scene of Antarctica
WATER = (0.06, 0.05, 0.04, 0.02, 0.01, 0.005, 0.003)


def paint(tiny: TinySite, ground: tuple[float, ...], **pixels: tuple[int, float]) -> None:
    """Bands of one ground with noise; `pixels`: of a band, how many of the site's first ones have another value."""
    noise = np.random.default_rng(3).normal(1, 0.05, (7, *SHAPE))
    bands = (np.array(ground)[:, None, None] * noise).astype(np.float32)
    for name, (count, value) in pixels.items():
        bands[ROLES.index(name)].flat[:count] = value
    write_raster(tiny.folder / "image.tif", bands, GRID, ROLES, nodata=-9.0, overwrite=True)
    edit(tiny, "scale = 0.0001", "scale = 1\noffset = 0")


def edit(tiny: TinySite, old: str, new: str) -> None:
    text = tiny.site.read_text()
    assert old in text
    tiny.site.write_text(text.replace(old, new))


def said(tiny: TinySite) -> list[Finding]:
    """What `check` says of the images' and the DEM's numbers alone."""
    site = read_site(tiny.site)
    inputs = open_site(site)
    return list(doubts(inputs, site_grid(inputs), lambda window: np.ones((window.height, window.width), bool)))


def warning(tiny: TinySite) -> str:
    (found,) = said(tiny)
    assert found.severity == "warning"
    return found.text


# ---- images ----


@pytest.mark.parametrize("ground", [FOREST, SNOW, WATER], ids=["forest", "snow", "water"])
def test_ground_as_it_is_needs_no_word(tiny: TinySite, ground: tuple[float, ...]) -> None:
    paint(tiny, ground)
    assert [found.text for found in said(tiny) if found.severity == "warning"] == []


def test_another_planets_bands_have_other_names_and_are_left_in_peace(tiny: TinySite) -> None:
    edit(tiny, "coastal = 1, blue = 2, green = 3, red = 4, nir = 5, swir1 = 6, swir2 = 7", "thermal_inertia = 1")
    edit(tiny, "scale = 0.0001", "")
    assert said(tiny) == []


def test_no_scale_is_said_and_a_named_unit_is_enough(tiny: TinySite) -> None:
    edit(tiny, "scale = 0.0001", "")
    text = warning(tiny)
    told = re.search(r"\((?:nir|swir[12]): median ([\d.]+)\)", text)
    assert "image.tif has neither scale nor offset" in text and "Give the scale and offset" in text
    assert told is not None and float(told[1]) == pytest.approx(2000, rel=0.02)  # 0.2 x 10,000
    edit(tiny, "swir2 = 7 }", 'swir2 = 7 }\nunit = "digital numbers"')
    assert said(tiny) == []


def test_files_that_hold_reflectance_are_told_how_to_say_so(tiny: TinySite) -> None:
    paint(tiny, FOREST)
    assert said(tiny) == []
    edit(tiny, "scale = 1\noffset = 0", "")
    assert "They look like reflectance: say so by scale = 1 and offset = 0." in warning(tiny)


@pytest.mark.parametrize(("scale", "median"), [(1e-8, "e-05"), (1e-6, "0.002"), (0.01, "2")])
def test_a_scale_that_no_ground_has(tiny: TinySite, scale: float, median: str) -> None:
    edit(tiny, "scale = 0.0001", f"scale = {scale}")
    text = warning(tiny)
    assert "image.tif: " in text and median in text and f"Check scale and offset ({scale:g} and 0)" in text


def test_red_and_near_infrared_exchanged(tiny: TinySite) -> None:
    paint(tiny, FOREST)
    assert said(tiny) == []
    edit(tiny, "red = 4, nir = 5", "red = 5, nir = 4")
    # (0.04 - 0.36) / (0.04 + 0.36)
    assert "image.tif: the median NDVI of land is -0.80" in warning(tiny) and "exchanged" in warning(tiny)
    edit(tiny, ", swir1 = 6, swir2 = 7", "")  # without them land is told by its brightness
    assert "-0.80" in warning(tiny)


def test_reflectance_that_nothing_has_is_counted(tiny: TinySite) -> None:
    """246 is a hundredth of the 24,576 pixels, and 300 are more; 40 have neither red nor near infrared."""
    paint(tiny, FOREST, red=(245, -0.01), nir=(40, -0.02), blue=(7, 1.5))
    (note,) = said(tiny)
    assert note.severity == "note"
    for piece in ("of 24,576 pixels", "below 0 on 245 (1 %, most in red)", "above 1 on 7 (0.028 %, most in blue)"):
        assert piece in note.text
    assert "the 40 pixels where neither band is above 0 have none and are not mapped" in note.text
    prepared = prepare(read_site(tiny.site), tiny.folder / "p")
    assert 24_576 - prepared.valid_pixels == 40 + lacking_terrain(prepared)
    by_name = {summary.channel.name: summary for summary in prepared.summaries}
    assert by_name["ndvi"].maximum == 1 and by_name["red"].minimum == pytest.approx(-0.01)  # bands stay as they are


def lacking_terrain(prepared: object) -> int:
    names = [summary.channel.name for summary in prepared.summaries]  # type: ignore[attr-defined]
    folder = prepared.folder  # type: ignore[attr-defined]
    return int(np.isnan(read(folder / "stack.tif", [names.index("slope") + 1])).sum())


def test_much_reflectance_below_0_is_a_warning(tiny: TinySite) -> None:
    paint(tiny, FOREST, red=(300, -0.01))
    assert "below 0 on 300 (1.2 %, most in red)" in warning(tiny) and "Check scale and offset" in warning(tiny)


def test_only_the_outlines_pixels_are_counted_and_large_sites_are_sampled(
    tiny: TinySite, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(tiny, FOREST, red=(192 * 64, -0.01))  # the upper half
    monkeypatch.setattr(plausibility, "LOOK_WINDOW", 32)
    assert "below 0 on 12,288 (50 %" in warning(tiny)
    monkeypatch.setattr(plausibility, "MOST_WINDOWS", 6)
    assert "of 6,144 pixels looked at" in warning(tiny) and "(50 %" in warning(tiny)


# ---- what unit a band is in ----


@pytest.mark.parametrize(
    ("keys", "unit"),
    [
        ("scale = 0.0001", "reflectance"),
        ("scale = 1", "stored"),
        ("", "stored"),
        ("scale = 1\noffset = 0", "reflectance"),
        ('scale = 1\noffset = 0\nunit = "surface reflectance"', "surface reflectance"),
    ],
)
def test_scale_and_offset_together_say_that_it_is_reflectance(tiny: TinySite, keys: str, unit: str) -> None:
    edit(tiny, "scale = 0.0001", keys)
    prepare(read_site(tiny.site), tiny.folder / "p")
    stack = read_stack_info(tiny.folder / "p" / "stack.tif")
    assert {channel.unit for channel in stack.channels[:7]} == {unit}
    assert json.loads((tiny.folder / "p" / "manifest.json").read_text())["images"][0]["bands"]["red"]["unit"] == unit
    blue = [Channel("blue", "blue", "band", "reflectance")]
    if unit == "reflectance":
        assert find_channels(blue, "the model", stack) == [1]
        return
    with pytest.raises(ChannelError, match=rf"is in {unit}, and the model .* reflectance.*1 and 0 .*unit = \"refl"):
        find_channels(blue, "the model", stack)


# ---- elevation ----


def restore_dem(tiny: TinySite, times: float = 1, unit: str = "") -> None:
    info, z = read_info(tiny.folder / "dem.tif"), read(tiny.folder / "dem.tif")
    write_raster(tiny.folder / "dem.tif", z * np.float32(times), info.grid, ["z"], nodata=-9999.0, overwrite=True)
    with rasterio.open(tiny.folder / "dem.tif", "r+") as dataset:
        dataset.units = (unit,)


def test_a_dem_that_says_feet_is_refused_until_the_site_gives_its_scale(tiny: TinySite) -> None:
    plain = prepare(read_site(tiny.site), tiny.folder / "metres").summaries
    restore_dem(tiny, 1 / 0.3048, "ft")
    (fault,) = (found for found in check_site(read_site(tiny.site)) if found.severity == "fault")
    assert "dem.tif says that its elevation is in ft" in fault.text
    assert "Give [dem] scale = 0.3048, or scale = 1" in fault.text
    edit(tiny, 'path = "dem.tif"', 'path = "dem.tif"\nscale = 0.3048')
    scaled = prepare(read_site(tiny.site), tiny.folder / "feet").summaries
    for one, other in zip(plain, scaled, strict=True):
        assert other.mean == pytest.approx(one.mean, rel=1e-4, abs=1e-4)


def test_survey_feet_metres_and_what_nobody_knows(tiny: TinySite) -> None:
    dem = DemTable(path=tiny.folder / "dem.tif")
    restore_dem(tiny, 1, "US survey foot")
    with pytest.raises(
        SiteError, match=r"is in US survey foot.*scale = 0\.30480061, or scale = 1 where"
    ):  # 1200 / 3937
        require_metres(dem)
    restore_dem(tiny, 1, "metre")
    assert require_metres(dem) is None
    restore_dem(tiny, 1, "smoot")
    found = require_metres(dem)
    assert found is not None and found.severity == "warning" and "its unit is 'smoot', and is taken" in found.text
    assert require_metres(DemTable(path=dem.path, scale=1)) is None


def test_slopes_that_no_mountains_have(tiny: TinySite) -> None:
    """On a plane that rises by 1 in 1 all slopes are 45 degrees; by 3.2808 in 1, as in feet, 73."""
    info = read_info(tiny.folder / "dem.tif")
    x = np.arange(info.width, dtype=np.float32)[None, None] * 30 + np.zeros((1, info.height, 1), np.float32)
    write_raster(tiny.folder / "dem.tif", x, info.grid, ["z"], nodata=-9999.0, overwrite=True)
    assert said(tiny) == []
    restore_dem(tiny, 3.2808)
    assert "dem.tif: a tenth of the ground is steeper than 73 degrees" in warning(tiny)
    assert "Give [dem] scale, 0.3048 for feet" in warning(tiny)


# ---- real files ----


def emilia(folder: Path, **change: str) -> dict[str, str]:
    """What check says of Emilia-Romagna's site file with texts exchanged: severity -> texts."""
    text = (ROOT / "sites" / "emilia_romagna.toml").read_text()
    for old, new in change.items():
        assert old in text
        text = text.replace(old, new, 1)
    (folder / "site.toml").write_text(text)
    found: dict[str, str] = {"warning": "", "note": "", "fault": ""}
    for finding in check_site(read_site(folder / "site.toml", EMILIA)):
        found[finding.severity] += finding.text + "\n"
    return found


@pytest.mark.skipif(not EMILIA.exists(), reason="needs the real data of ../shared/data, which is not in the repository")
def test_mistakes_on_a_real_site_are_warned_of_and_the_site_itself_is_not(tmp_path: Path) -> None:
    plain = emilia(tmp_path)
    assert (
        plain["warning"] == plain["fault"] == "" and "relief better here than at 100 % of the places" in plain["note"]
    )
    info, z = read_info(EMILIA / "dem.tif"), read(EMILIA / "dem.tif")
    for name, times, metres in (("feet", 1 / 0.3048, 0), ("moved", 1, 300)):
        there = Affine.translation(metres, 0) @ info.transform
        grid = info.grid.__class__(info.grid.crs, there, info.height, info.width)
        write_raster(tmp_path / f"{name}.tif", z * np.float32(times), grid, ["z"], nodata=-9999.0)
    for old, new, says in (
        ("dem.tif", str(tmp_path / "feet.tif"), "steeper than"),
        ("dem.tif", str(tmp_path / "moved.tif"), "was not checked"),
    ):
        assert says in emilia(tmp_path, **{old: new})["warning"], says
    exchanged = emilia(tmp_path, **{"red = 3,": "red = 7,", "nir = 7, nir_narrow": "nir = 3, nir_narrow"})
    assert "median NDVI of land is -0.83" in exchanged["warning"]


# ---- warnings in products ----


def test_warnings_are_kept_in_the_manifest_and_shown_in_the_report(tiny: TinySite) -> None:
    edit(tiny, "scale = 0.0001", "")
    prepare(read_site(tiny.site), tiny.folder / "run" / "prepared")
    kept = json.loads((tiny.folder / "run" / "prepared" / "manifest.json").read_text())["warnings"]
    assert len(kept) == 1 and kept[0].startswith("image.tif has neither scale")
    assert str(tiny.folder) not in kept[0]  # where it lay here is nobody else's business
    report(tiny.folder / "run", tiny.folder / "report.html")
    assert "When the site was prepared: image.tif has neither scale nor offset" in (
        tiny.folder / "report.html"
    ).read_text(encoding="utf-8")
