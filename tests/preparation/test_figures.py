"""Figures of a prepared site: nothing that is written in them lies on anything else, and titles say what is there."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from rasterio.crs import CRS

from landslip.dataset.channels import Channel
from landslip.evaluation import plots
from landslip.evaluation.object_scores import InventoryScores, SizeClass
from landslip.evaluation.plots import draw_areas
from landslip.geo.geotiff import create_raster, write_raster, write_window
from landslip.geo.grid import Grid, Window
from landslip.metrics.size_distribution import fit_tail
from landslip.plots.palette import CLASS_COLOURS, DIRECTIONS, FLAT_COLOUR, LANDSLIDES, directions
from landslip.preparation import figures

# Emilia-Romagna, where seconds of longitude ran into each other; and sites of other sizes and shapes there
SHAPES = {"square": (128, 128, 10), "tall": (300, 20, 150), "low": (20, 300, 150), "large": (227, 177, 180)}
CHANNELS = [
    *(Channel(name, name, "band", "reflectance") for name in ("red", "green", "blue")),
    Channel("elevation", "elevation", "factor", "m"),
    Channel("aspect_sin", "aspect", "factor", "", "sine"),
    Channel("aspect_cos", "aspect", "factor", "", "cosine"),
    Channel("lithology_soft", "lithology", "factor", "", "class"),
    Channel("lithology_hard", "lithology", "factor", "", "class"),
]


def site_of(folder: Path, rows: int, columns: int, size: float, slides: bool = True) -> Path:
    """A prepared site of random ground, its rim not valid; with or without a landslide."""
    grid = Grid(CRS.from_epsg(32632), Affine(size, 0, 705_275, 0, -size, 4_912_645), rows, columns)
    values = np.random.default_rng(1).random((len(CHANNELS), rows, columns)).astype(np.float32)
    values[3] = np.linspace(1000, 2900, rows)[:, None]
    angle = np.linspace(0, 2 * np.pi, columns)[None] * np.ones((rows, 1))
    values[4:6] = np.sin(angle), np.cos(angle)
    values[6:8] = angle < np.pi, angle >= np.pi
    with create_raster(
        folder / "stack.tif", grid, "float32", [channel.name for channel in CHANNELS], np.nan
    ) as dataset:
        for band, channel in enumerate(CHANNELS, start=1):
            dataset.update_tags(band, **channel.tags())
        write_window(dataset, values, Window(0, 0, rows, columns))
    valid, label = np.zeros((1, rows, columns), np.uint8), np.zeros((1, rows, columns), np.uint8)
    valid[0, 4:-4, 4:-4] = 1
    label[0, 6:12, 6:12] = slides
    write_raster(folder / "valid.tif", valid, grid, ["valid"])
    write_raster(folder / "label.tif", label, grid, ["label"], 255)
    return folder


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures as they would be saved."""
    found: list[Figure] = []
    for module in (figures, plots):
        monkeypatch.setattr(module, "save", lambda figure, out, overwrite: found.append(figure))
    return found


def laid_out(figure: Figure) -> Any:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas.get_renderer()


def written(axes: Axes, renderer: Any) -> Iterator[tuple[str, Bbox]]:
    """Texts of ticks that show, of axes and of those in it: (text, where)."""
    for one in (axes, *axes.child_axes):
        for axis in (one.xaxis, one.yaxis):
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                low, high = sorted(axis.get_view_interval())
                if low <= tick.get_loc() <= high:
                    for label in (tick.label1, tick.label2):
                        if label.get_visible() and label.get_text():
                            yield label.get_text(), label.get_window_extent(renderer)


def apart(boxes: list[tuple[str, Bbox]]) -> None:
    for i, (one, box) in enumerate(boxes):
        for other, second in boxes[i + 1 :]:
            assert not box.padded(-0.5).overlaps(second), f"{one} lies on {other}"


@pytest.mark.parametrize("shape", SHAPES)
def test_degrees_lie_neither_on_each_other_nor_under_the_scale(shape: str, tmp_path: Path, kept: list[Figure]) -> None:
    prepared = site_of(tmp_path, *SHAPES[shape])
    figures.draw_study_area(prepared, tmp_path / "area.png")
    figures.draw_factors(prepared, tmp_path / "factors.png", each=shape == "square")
    for figure in kept:
        renderer = laid_out(figure)
        for axes in figure.axes:
            texts = list(written(axes, renderer))
            apart(texts)
            scales = [one.get_window_extent(renderer) for one in axes.child_axes if one.images or one.collections]
            for scale in scales:
                assert scale.x0 > axes.bbox.x1 and scale.width < 0.2 * figure.dpi
                assert not any(box.overlaps(scale) for text, box in texts if text.endswith(("N", "E")))
    degrees = [text for text, _ in written(kept[0].axes[1], laid_out(kept[0])) if "°" in text]
    assert any(text.endswith("N") for text in degrees) and any(text.endswith("E") for text in degrees)


def test_a_site_without_landslides_names_none(tmp_path: Path, kept: list[Figure]) -> None:
    for slides, title in ((False, "(b) relief"), (True, "(b) relief and landslides")):
        figures.draw_study_area(site_of(tmp_path / title, 100, 100, 30, slides), tmp_path / "area.png")
        figure = kept.pop()
        assert figure.axes[1].get_title() == title
        named = [text.get_text() for text in figure.legends[0].get_texts()]
        assert named == ["edge of valid ground", *["landslide, as drawn"] * slides]
        faces = [to_hex(image.cmap(0)) for image in figure.axes[1].images if image.cmap.N == 1]
        assert (LANDSLIDES.lower() in faces) == slides


def test_aspect_goes_round_rocks_have_their_own_colours_and_the_outline_is_there(
    tmp_path: Path, kept: list[Figure]
) -> None:
    figures.draw_factors(site_of(tmp_path, 120, 120, 30), tmp_path / "factors.png")
    (figure,) = kept
    maps = {axes.get_title()[4:]: axes for axes in figure.axes if axes.get_title()}
    colours = {
        name: [to_hex(c).upper() for c in axes.images[0].cmap.colors]
        for name, axes in maps.items()
        if name != "elevation"
    }
    assert colours["aspect"] == [FLAT_COLOUR.upper(), *(colour.upper() for colour in directions())]
    assert colours["lithology"] == [to_hex(to_rgb(colour)).upper() for colour in CLASS_COLOURS[:2]]
    north = maps["aspect"].images[0].get_array()
    assert north[0, 0] == DIRECTIONS.index("N") + 1 and north[0, 30] == DIRECTIONS.index("E") + 1
    assert all(len(axes.collections) == 2 for axes in maps.values())  # black on white
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["edge of valid ground"]


@pytest.mark.parametrize("areas", [[320.0, 450.0, 700.0], [900.0], list(np.geomspace(100, 1e7, 200))])
def test_ticks_of_areas_do_not_run_into_each_other(areas: list[float], tmp_path: Path, kept: list[Figure]) -> None:
    figures.draw_inventory_areas(areas, fit_tail(areas), tmp_path / "areas.svg")
    classes = [SizeClass(a, 2 * a, 3, 1, 2, 1) for a in sorted(areas)[:8]]
    nothing = fit_tail([900.0])
    empty: Any = {"boundary": [], "reference_areas": np.empty(0), "mapped_areas": np.empty(0), "notes": []}
    counts: Any = {one.name: 0 for one in fields(InventoryScores)}
    told = {"part": "test", "completeness_m2": np.nan, "reference_tail": nothing, "mapped_tail": nothing}
    draw_areas(InventoryScores(**(counts | empty | told | {"classes": classes})), tmp_path / "found.svg")
    for figure in kept:
        renderer = laid_out(figure)
        for axes in figure.axes:
            texts = list(written(axes, renderer))
            apart(texts)
            assert len(texts) >= 3
