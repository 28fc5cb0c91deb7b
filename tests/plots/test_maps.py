"""Pictures show what is there, in the stated colours, where it is. Colours are read back from the written PNG."""

from pathlib import Path

import matplotlib
import matplotlib.image
import numpy as np
import pytest
from affine import Affine
from conftest import CRS_UTM
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from landslip.errors import OutputError
from landslip.evaluation.plots import draw_reliability
from landslip.geo.geotiff import write_raster
from landslip.geo.grid import Grid
from landslip.metrics.calibration import Reliability
from landslip.plots import curves
from landslip.plots.cartography import round_length, stretched
from landslip.plots.curves import draw_curves, draw_history
from landslip.plots.maps import (
    Panel,
    draw_input,
    draw_judged,
    draw_label,
    draw_probability,
    draw_split,
    draw_uncertainty,
)
from landslip.plots.palette import FALSE_ALARMS, HITS, LANDSLIDES, LINES, MISSES, PART_COLOURS

SHAPE = (40, 60)
GRID = Grid(CRS_UTM, Affine(30, 0, 460_000, 0, -30, 3_430_000), *SHAPE)
NAN = np.float32(np.nan)
BARE = to_rgb("#dddddd")  # where there is no relief to lie on
Picture = NDArray[np.float32]


def flat(value: float, count: int = 1) -> NDArray[np.float32]:
    return np.full((count, *SHAPE), value, np.float32)


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """Red on the left, green on the right, undefined in a corner; no elevation."""
    values = flat(0.1, 3)
    values[0, :, :30], values[1, :, 30:] = 0.9, 0.9
    values[:, :10, :10] = NAN
    write_raster(tmp_path / "stack.tif", values, GRID, ["red", "green", "blue"], np.nan)
    return tmp_path / "stack.tif"


def code(path: Path, values: NDArray[np.uint8], nodata: int | None = None, **tags: str) -> Path:
    write_raster(path, values[None], GRID, ["code"], nodata, tags=tags)
    return path


def read_picture(path: Path) -> Picture:
    return np.asarray(matplotlib.image.imread(path))[..., :3]


def where(picture: Picture, colour: tuple[float, float, float]) -> tuple[float, float, int]:
    """Middle row and column of a colour, as shares of the picture, and how many pixels have it."""
    hit = (np.abs(picture - np.array(colour, np.float32)) < 1.5 / 255).all(axis=-1)
    rows, columns = np.nonzero(hit)
    assert rows.size, f"{colour} is nowhere"
    return float(np.median(rows)) / picture.shape[0], float(np.median(columns)) / picture.shape[1], rows.size


def blend(colour: str, alpha: float, under: tuple[float, float, float] = BARE) -> tuple[float, float, float]:
    return tuple(alpha * over + (1 - alpha) * below for over, below in zip(to_rgb(colour), under, strict=True))  # type: ignore[return-value]


def test_a_judged_map_shows_hits_misses_and_false_alarms_where_they_are(tmp_path: Path, stack: Path) -> None:
    p, label = flat(0.2)[0], np.zeros(SHAPE, np.uint8)
    p[2:12, 4:24], label[2:12, 4:24] = 0.9, 1  # upper left: a hit of 10 x 20 pixels
    label[2:12, 40:50] = 1  # upper right: a miss of 10 x 10
    p[20:35, 20:40] = 0.5  # lower middle: a false alarm of 15 x 20, just at the threshold
    p[20:35, 50:58], label[20:35, 50:58] = NAN, 1  # never mapped
    p[2:12, 27:37], label[2:12, 27:37] = 0.9, 255  # not known
    write_raster(tmp_path / "p.tif", p[None], GRID, ["p"], np.nan)
    out = tmp_path / "judged.png"
    draw_judged(Panel("A title", tmp_path / "p.tif", 0.5, None), code(tmp_path / "l.tif", label), stack, out)
    picture = read_picture(out)
    places = {name: where(picture, to_rgb(name)) for name in (HITS, MISSES, FALSE_ALARMS)}
    assert places[HITS][0] < 0.45 and places[HITS][1] < 0.4
    assert places[MISSES][0] < 0.45 and places[MISSES][1] > 0.6
    assert places[FALSE_ALARMS][0] > 0.5 and 0.35 < places[FALSE_ALARMS][1] < 0.65
    areas = {name: place[2] for name, place in places.items()}
    # 200, 100 and 300 pixels of ground; the patches of the legend add a little
    assert areas[HITS] / areas[MISSES] == pytest.approx(2, rel=0.1)
    assert areas[FALSE_ALARMS] / areas[MISSES] == pytest.approx(3, rel=0.1)
    area = where(picture, blend("white", 0.55))[2]  # not mapped or not known: 120 and 100 pixels
    assert area / areas[MISSES] == pytest.approx(2.2, rel=0.1)


def test_the_test_part_is_framed(tmp_path: Path, stack: Path) -> None:
    write_raster(tmp_path / "p.tif", flat(0.2), GRID, ["p"], np.nan)
    label = code(tmp_path / "l.tif", np.zeros(SHAPE, np.uint8))
    parts = np.ones(SHAPE, np.uint8)
    parts[10:30, 20:40] = 3
    split = code(tmp_path / "s.tif", parts, split="apart")
    dark = []
    for name, given in (("without.png", None), ("with.png", split)):
        draw_judged(Panel("A title", tmp_path / "p.tif", 0.5, given), label, stack, tmp_path / name)
        picture = read_picture(tmp_path / name)
        rows, columns = (np.array([0.3, 0.6]) * picture.shape[0]).astype(int), picture.shape[1]
        middle = picture[rows[0] : rows[1], int(0.25 * columns) : int(0.75 * columns)]
        dark.append(int((middle.max(axis=-1) < 0.2).sum()))
    assert dark[0] == 0 and dark[1] > 200  # two sides of the frame cross the middle of the map


def test_a_label_is_drawn_over_the_ground(tmp_path: Path, stack: Path) -> None:
    label = np.zeros(SHAPE, np.uint8)
    label[:20, :30], label[20:, 30:] = 1, 255
    draw_label(stack, code(tmp_path / "l.tif", label, 255), tmp_path / "label.png")
    picture = read_picture(tmp_path / "label.png")
    row, column, area = where(picture, to_rgb(LANDSLIDES))
    assert row < 0.4 and column < 0.5
    row, column, unknown = where(picture, blend("white", 0.55))
    assert row > 0.45 and column > 0.5 and unknown == pytest.approx(area, rel=0.1)


def test_the_parts_of_a_split_have_their_colours(tmp_path: Path, stack: Path) -> None:
    parts = np.zeros(SHAPE, np.uint8)
    parts[:, :20], parts[:, 22:30], parts[:, 32:] = 1, 2, 3
    draw_split(stack, code(tmp_path / "s.tif", parts, split="apart"), tmp_path / "split.png")
    picture = read_picture(tmp_path / "split.png")
    columns = [where(picture, blend(PART_COLOURS[name], 0.55)) for name in ("train", "validation", "test")]
    assert columns[0][1] < columns[1][1] < columns[2][1]
    assert columns[0][2] / columns[1][2] == pytest.approx(20 / 8, rel=0.15)


def test_probabilities_run_through_viridis_and_the_undefined_is_grey(tmp_path: Path) -> None:
    p = flat(0)
    p[0, :, 20:40], p[0, :, 40:] = 1, NAN
    write_raster(tmp_path / "p.tif", p, GRID, ["p"], np.nan)
    draw_probability(tmp_path / "p.tif", tmp_path / "p.png")
    picture, viridis = read_picture(tmp_path / "p.png"), matplotlib.colormaps["viridis"]
    low, high, grey = (where(picture, c) for c in (viridis(0.0)[:3], viridis(1.0)[:3], to_rgb("#bbbbbb")))
    assert low[1] < high[1] < grey[1]
    assert high[2] == pytest.approx(grey[2], rel=0.1)


def test_ground_outside_the_area_of_applicability_is_hatched(tmp_path: Path) -> None:
    bands = np.concatenate([flat(0), flat(0.5), flat(1), flat(NAN)])  # a network without dropout cannot disagree
    pictures = []
    for name in ("inside", "outside"):
        write_raster(tmp_path / f"{name}.tif", bands, GRID, ["p", "index", "area", "doubt"], np.nan)
        draw_uncertainty(tmp_path / f"{name}.tif", tmp_path / f"{name}.png")
        pictures.append(read_picture(tmp_path / f"{name}.png"))
        bands[2, :, 30:] = 0
    with pytest.raises(AssertionError, match="is nowhere"):
        where(pictures[0], to_rgb(LANDSLIDES))
    _, column, count = where(pictures[1], to_rgb(LANDSLIDES))
    assert count > 200 and 0.12 < column < 0.3  # the right half of the first of three maps


def test_an_image_is_shown_in_its_colours_and_its_gaps_are_empty(tmp_path: Path, stack: Path) -> None:
    draw_input(stack, tmp_path / "input.png")
    picture = read_picture(tmp_path / "input.png")
    red, green = where(picture, (1.0, 0.0, 0.0)), where(picture, (0.0, 1.0, 0.0))
    assert red[1] < 0.5 < green[1]
    # left and right are alike but for the corner of 10 x 10 and what is drawn on them
    assert red[2] / green[2] == pytest.approx((1200 - 100) / 1200, rel=0.1)


def test_a_stack_of_other_bands_is_shown_too(tmp_path: Path) -> None:
    z = np.mgrid[0:40, 0:60][1].astype(np.float32)
    write_raster(tmp_path / "s.tif", np.stack([z, z]), GRID, ["elevation", "slope"], np.nan)
    draw_input(tmp_path / "s.tif", tmp_path / "input.png")
    draw_label(tmp_path / "s.tif", code(tmp_path / "l.tif", np.ones(SHAPE, np.uint8)), tmp_path / "label.png")
    assert where(read_picture(tmp_path / "label.png"), to_rgb(LANDSLIDES))[2] > 10_000


def test_bands_are_stretched_from_the_2nd_to_the_98th_percentile() -> None:
    ramp = np.linspace(0, 100, 101, dtype=np.float32).reshape(1, 1, -1).repeat(3, axis=0)
    ramp[0, 0, 50] = NAN
    out = stretched(ramp)
    assert out[0, 2, 1] == 0 and out[0, 98, 1] == 1 and out[0, 1, 1] == 0 and out[0, 99, 1] == 1
    assert out[0, 26, 1] == pytest.approx((26 - 2) / 96, abs=1e-6)
    assert out[0, 50, 3] == 0 and out[0, 49, 3] == 1  # transparent where undefined
    assert np.array_equal(stretched(np.full((3, 2, 2), NAN))[..., 3], np.zeros((2, 2)))


@pytest.mark.parametrize("wanted, length", [(1.0, 1), (1.99, 1), (2.0, 2), (4.9, 2), (7, 5), (34, 20), (0.07, 0.05)])
def test_a_scale_bar_has_around_length(wanted: float, length: float) -> None:
    assert round_length(wanted) == pytest.approx(length)


# ---- training curves ----

HEAD = "epoch,loss,learning_rate,validation_loss,validation_f1,validation_kappa,threshold,seconds,blocks_per_second\n"


@pytest.mark.parametrize(
    "rows",
    [
        "1,0.5,1e-3,0.6,0.5,0.4,0.5,1,9\n2,0.4,1e-3,0.5,0.6,0.5,0.5,1,9\n",
        "1,0.5,1e-3,0.6,,,0.5,1,9\n2,0.4,1e-3,0.5,nan,nan,nan,1,9\n3,0.3,1e-3,nan,0.7,0.6,0.5,1,9\n",
        "1,0.5,1e-3,nan,nan,nan,nan,1,9\n",
        "1,0.5,1e-3,0.6,-0.1,-0.2,0.5,1,9\n",
        "",
    ],
    ids=["plain", "gaps", "all undefined", "below 0", "no epoch"],
)
def test_curves_are_drawn_whatever_is_undefined(tmp_path: Path, rows: str) -> None:
    (tmp_path / "history.csv").write_text(HEAD + rows)
    draw_history(tmp_path / "history.csv", tmp_path / "history.png")
    assert min(read_picture(tmp_path / "history.png").shape[:2]) > 300


def test_the_curve_of_kappa_climbs(tmp_path: Path) -> None:
    rows = "".join(f"{e},0.5,1e-3,0.5,nan,{e / 10},0.5,1,9\n" for e in range(1, 10))
    (tmp_path / "history.csv").write_text(HEAD + rows)
    draw_history(tmp_path / "history.csv", tmp_path / "history.png")
    picture = read_picture(tmp_path / "history.png")
    rows_, columns = np.nonzero((np.abs(picture - np.array(to_rgb("#009E73"))) < 0.1).all(axis=-1))
    assert columns.min() > 0.5 * picture.shape[1]  # in the right-hand half
    left, right = np.median(rows_[columns < columns.min() + 20]), np.median(rows_[columns > columns.max() - 20])
    assert right < left - 50  # rows count downwards


def test_one_epoch_of_several_trainings_tells_bands_from_factors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(curves, "save", lambda figure, *_: figures.append(figure))
    (tmp_path / "history.csv").write_text(HEAD + "1,0.5,1e-3,0.6,0.5,0.4,0.5,1,9\n")
    names = ("U-Net, bands", "U-Net, bands + factors")
    draw_curves(dict.fromkeys(names, tmp_path / "history.csv"), tmp_path / "curves.png", "Split apart")
    for axes in figures[0].axes:
        bands, factors = axes.lines
        assert to_rgb(bands.get_markerfacecolor()) == (1, 1, 1) and bands.get_marker() == factors.get_marker() == "o"
        assert to_rgb(factors.get_markerfacecolor()) == to_rgb(bands.get_markeredgecolor()) == to_rgb(LINES[0])
        assert all(float(tick).is_integer() for tick in axes.get_xticks())


def test_a_reliability_diagram_lies_where_its_shares_do(tmp_path: Path) -> None:
    def drawn(shares: list[float], name: str) -> float:
        """The mean row of the line's colour in the upper, larger panel, as a share of its height."""
        table = [
            Reliability(low=i / 10, high=(i + 1) / 10, pixels=100, probability=i / 10 + 0.05, observed=share)
            for i, share in enumerate(shares)
        ]
        table[0] = Reliability(low=0, high=0.1, pixels=0, probability=np.nan, observed=np.nan)
        draw_reliability({"p.tif": table}, tmp_path / name, "Reliability")
        picture = read_picture(tmp_path / name)
        upper = picture[: int(0.6 * len(picture))]
        return where(upper, to_rgb(LINES[0]))[0]

    low, middle, high = drawn([0.2] * 10, "low.png"), drawn([0.5] * 10, "middle.png"), drawn([0.8] * 10, "high.png")
    assert high < middle < low and low - middle == pytest.approx(middle - high, abs=0.02)


def test_a_picture_that_exists_is_kept(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text(HEAD)
    (tmp_path / "history.png").write_text("earlier")
    with pytest.raises(OutputError, match=r"history\.png exists already"):
        draw_history(tmp_path / "history.csv", tmp_path / "history.png")
    assert (tmp_path / "history.png").read_text() == "earlier"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["history.csv", "history.png"]
