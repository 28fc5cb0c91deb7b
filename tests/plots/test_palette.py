"""One palette: no module, page or style has a colour of its own for what the palette names."""

import re
from itertools import pairwise
from pathlib import Path

import matplotlib
import pytest
from matplotlib.colors import to_rgb

from landslip.plots import palette
from landslip.plots.qgis_style import inventory_style, map_style, probability_style

PACKAGE = Path(palette.__file__).parents[1]
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "palette.py")
NAMED = {
    colour.lower()
    for value in vars(palette).values()
    for colour in (value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else (value,))
    if isinstance(colour, str) and re.fullmatch("#[0-9A-Fa-f]{6}", colour)
} - {"#ffffff", "#000000"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_module_has_a_list_of_its_own(path: Path) -> None:
    assert not re.findall(r"#[0-9A-Fa-f]{6}\b", path.read_text(encoding="utf-8"))


PAGE = sorted(path for path in (PACKAGE / "serve").iterdir() if path.suffix in (".css", ".js", ".html"))


@pytest.mark.parametrize("path", PAGE, ids=lambda path: path.name)
def test_the_page_has_none_of_the_palettes_colours_written_down(path: Path) -> None:
    colours = {colour.lower() for colour in re.findall(r"#[0-9A-Fa-f]{6}\b", path.read_text(encoding="utf-8"))}
    assert not (colours & NAMED) - {"#0072b2"}  # of what has the focus


def test_the_page_gets_every_colour_that_it_asks_for() -> None:
    fastapi = pytest.importorskip("fastapi", reason="the page needs landslip[serve]")
    client = pytest.importorskip("fastapi.testclient", reason="FastAPI's test client needs httpx")
    from landslip.serve.app import MODULES, add_pages

    app = fastapi.FastAPI()
    add_pages(app)
    sheet = client.TestClient(app).get("/page.css").text
    script = "".join(client.TestClient(app).get(f"/{name}").text for name in MODULES)
    served = dict(re.findall(r"^\s*--([a-z-]+): (#[0-9A-Fa-f]{6});", sheet, re.M))
    asked = set(re.findall(r'palette\("([a-z-]+)"\)', script)) | set(re.findall(r"var\(--(review-[a-z]+)", sheet))
    assert {"hit", "miss", "false-alarm", "candidate"} | {
        f"review-{state}" for state in palette.REVIEW_COLOURS
    } == asked
    assert {name: served[name] for name in asked} == {
        "hit": palette.HITS,
        "miss": palette.MISSES,
        "false-alarm": palette.FALSE_ALARMS,
        "candidate": palette.CANDIDATE,
        **{f"review-{state}": colour for state, colour in palette.REVIEW_COLOURS.items()},
    }


def lightness(colour: str) -> float:
    """CIE 1976 L* of an sRGB colour (IEC 61966-2-1)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    y = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return float(116 * y ** (1 / 3) - 16)


def test_what_lies_side_by_side_is_told_apart_in_grey() -> None:
    for colours in ((palette.HITS, palette.MISSES, palette.FALSE_ALARMS), palette.PART_COLOURS.values()):
        light = sorted(map(lightness, colours))
        assert min(b - a for a, b in pairwise(light)) > 12


def test_aspect_goes_round_and_its_directions_differ() -> None:
    colours = palette.directions()
    assert len(set(colours)) == len(palette.DIRECTIONS) == 8 and palette.FLAT_COLOUR.lower() not in colours
    ends = [matplotlib.colormaps[palette.CYCLE](x) for x in (0.0, 1.0)]
    assert max(abs(a - b) for a, b in zip(*ends, strict=True)) < 0.02


def test_styles_of_qgis_are_of_the_palette() -> None:
    red, green, blue, _ = palette.rgba(palette.REVIEW_COLOURS["accepted"])
    assert f"{red},{green},{blue},255" in inventory_style()
    assert f'color="{palette.LANDSLIDES.lower()}"' in map_style()
    assert all(f'color="{colour}"' in probability_style() for colour in palette.ramp(palette.RAMP, 9))
