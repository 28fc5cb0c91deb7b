"""Natural breaks, classes and frequency ratios of `landslip intervals`."""

import csv
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import command
from conftest import TinySite
from made_up import factor, write_prepared
from mapclassify import FisherJenks

import landslip.importance.frequency_ratio
from landslip.dataset.channels import Channel
from landslip.errors import ChannelError, LabelError, OutputError, RasterError, RunError
from landslip.geo.geotiff import write_raster
from landslip.geo.raster import read, read_stored
from landslip.importance.factor_classes import make_classes, natural_breaks
from landslip.importance.frequency_ratio import ClassFrequency, count_classes, frequency_ratios
from landslip.importance.sampling import draw_sample, read_prepared_info

NAN = math.nan


def least_squares(values: np.ndarray, classes: int) -> float:
    """The least sum of squares within classes, by Fisher's recurrence in double precision, without any shortcut."""
    x = np.sort(values) - values.mean()
    sums, squares = np.r_[0, np.cumsum(x)], np.r_[0, np.cumsum(x * x)]
    at = np.arange(len(x) + 1)
    best = np.r_[0.0, squares[1:] - sums[1:] ** 2 / at[1:]]
    for _ in range(classes - 1):
        best = np.r_[
            0.0,
            [
                min(best[i] + squares[j] - squares[i] - (sums[j] - sums[i]) ** 2 / (j - i) for i in range(j))
                for j in range(1, len(x) + 1)
            ],
        ]
    return float(best[-1])


def squares_within(values: np.ndarray, upper: tuple[float, ...]) -> float:
    codes = np.searchsorted(upper, values)
    return float(sum(((own - own.mean()) ** 2).sum() for own in (values[codes == c] for c in range(len(upper)))))


# ---- natural breaks ----


def test_natural_breaks_of_a_published_example() -> None:
    # Fisher-Jenks of the Calumet crime data in PySAL's documentation: 5 classes of 58 districts
    # (docstring of mapclassify.FisherJenks: bins 75.29, 192.05, 370.5, 722.85, 4111.45)
    import mapclassify

    values = np.asarray(mapclassify.load_example(), float)
    assert natural_breaks(values, 5) == (75.29, 192.05, 370.5, 722.85, 4111.45)


def test_natural_breaks_of_small_numbers_worked_by_hand() -> None:
    # Jenks's breaks of 4, 5, 9, 10: two groups, each with a sum of squares of 0.5, against 14 + 0 for {4, 5, 9} {10}
    assert natural_breaks(np.array([10.0, 4, 9, 5]), 2) == (5.0, 10.0)


@pytest.mark.parametrize("seed", range(3))
def test_natural_breaks_are_those_of_mapclassify_near_zero(seed: int) -> None:
    values = np.random.default_rng(seed).gamma(2, 10, 400)
    assert natural_breaks(values, 5) == tuple(FisherJenks(values, k=5).bins)


@pytest.mark.parametrize("offset, spread", [(0, 10), (4000, 40), (460_000, 3000)])
def test_natural_breaks_have_the_least_squares_at_any_offset(offset: float, spread: float) -> None:
    values = np.random.default_rng(1).normal(offset, spread, 500)
    assert squares_within(values, natural_breaks(values, 5)) == pytest.approx(least_squares(values, 5), rel=1e-6)


def test_single_precision_would_lose_them() -> None:
    # why natural_breaks centres its values; should this fail, mapclassify sums in double and the centring may go
    values = np.random.default_rng(0).normal(460_000, 3000, 4000)
    assert squares_within(values, tuple(FisherJenks(values, k=5).bins)) > 1.01 * squares_within(
        values, natural_breaks(values, 5)
    )


def test_few_distinct_values_are_each_a_class() -> None:
    assert natural_breaks(np.array([3.0, 1, 3, 1]), 5) == (1.0, 3.0)
    assert natural_breaks(np.full(9, 2.5), 5) == (2.5,)


# ---- frequencies ----


@pytest.fixture
def strips(tmp_path: Path) -> Path:
    """100 x 100: slope 10, 20 and 40 in strips of 50, 30 and 20 rows, with 100, 300 and 600 landslide pixels."""
    slope = np.repeat([10.0, 20.0, 40.0], [50, 30, 20])[:, None] * np.ones(100)
    label = np.zeros((100, 100), np.uint8)
    label[0], label[50:53], label[80:86] = 1, 1, 1
    return write_prepared(tmp_path / "p", {factor("slope", "degree"): slope}, label)


def test_frequencies_and_ratios_by_closed_form(strips: Path, tmp_path: Path) -> None:
    made = frequency_ratios(strips, tmp_path / "out", ["slope"])
    expected = [
        ClassFrequency(
            factor="slope",
            name="10 to 10",
            unit="degree",
            low=10,
            high=10,
            pixels=5000,
            area_share=0.5,
            landslide_pixels=100,
            landslide_share=0.1,
            frequency=0.02,
            frequency_ratio=0.2,
        ),
        ClassFrequency(
            factor="slope",
            name="10 to 20",
            unit="degree",
            low=10,
            high=20,
            pixels=3000,
            area_share=0.3,
            landslide_pixels=300,
            landslide_share=0.3,
            frequency=0.1,
            frequency_ratio=1.0,
        ),
        ClassFrequency(
            factor="slope",
            name="20 to 40",
            unit="degree",
            low=20,
            high=40,
            pixels=2000,
            area_share=0.2,
            landslide_pixels=600,
            landslide_share=0.6,
            frequency=0.3,
            frequency_ratio=3.0,
        ),
    ]
    assert [(r.low, r.high, r.pixels, r.landslide_pixels) for r in made.rows] == [
        (r.low, r.high, r.pixels, r.landslide_pixels) for r in expected
    ]
    for got, want in zip(made.rows, expected, strict=True):
        for name in ("area_share", "landslide_share", "frequency", "frequency_ratio"):
            assert getattr(got, name) == pytest.approx(getattr(want, name)), name
    rows = list(csv.DictReader((tmp_path / "out" / "intervals.csv").open()))
    assert [float(row["frequency_ratio"]) for row in rows] == pytest.approx([0.2, 1, 3])
    assert json.loads((tmp_path / "out" / "intervals.json").read_text())["landslides"] == 1000
    assert (tmp_path / "out" / "intervals.png").stat().st_size > 5000
    assert any("3 different values" in note for note in made.notes)


def test_only_valid_pixels_of_known_label_count(tmp_path: Path) -> None:
    slope = np.where(np.arange(100) < 50, 1.0, 2.0) * np.ones((100, 1))
    label, valid = np.zeros((100, 100), np.uint8), np.ones((100, 100), bool)
    label[:10] = 1
    label[90:, :50], valid[:20, 50:] = 255, False
    low, high = frequency_ratios(
        write_prepared(tmp_path / "p", {factor("slope"): slope}, label, valid), tmp_path / "o"
    ).rows
    assert (low.pixels, low.landslide_pixels, high.pixels, high.landslide_pixels) == (4500, 500, 4000, 0)
    assert high.frequency == 0 and high.frequency_ratio == 0


def test_windows_and_blocks_do_not_matter(made: TinySite, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = read_prepared_info(made.folder / "prepared")
    names = list(dict.fromkeys(channel.factor for channel in stack.channels))
    drawn = draw_sample(stack, 500, 3)
    chosen = [make_classes(stack, name, drawn, 4) for name in names]
    whole = [counts.table.sum(0) for counts in count_classes(stack, chosen, 1000)]
    monkeypatch.setattr(landslip.importance.frequency_ratio, "SAMPLING_SIDE", 40)
    again = draw_sample(stack, 500, 3)
    pieces = count_classes(stack, chosen, 20)
    assert pieces[0].table.shape[0] > 20
    for a, b in zip(whole, pieces, strict=True):
        np.testing.assert_array_equal(a, b.table.sum(0))
    assert again.pixels == drawn.pixels and len(again.label) == 500


def test_a_sample_holds_the_pixels_it_names_each_once(made: TinySite) -> None:
    stack = read_prepared_info(made.folder / "prepared")
    values, label = read(stack.path), read_stored(made.folder / "prepared" / "label.tif")
    for balanced in (False, True):
        drawn = draw_sample(stack, 600, 5, balanced)
        np.testing.assert_array_equal(drawn.values.T, values[:, drawn.row, drawn.column])
        np.testing.assert_array_equal(drawn.label, label[drawn.row, drawn.column])
        assert len(set(zip(drawn.row, drawn.column, strict=True))) == 600
        share = 0.5 if balanced else drawn.landslides / drawn.pixels
        assert abs((drawn.label == 1).mean() - share) <= (0 if balanced else 0.1)


def test_aspect_has_eight_directions_and_flat_ground(tmp_path: Path) -> None:
    degrees = np.array([0.0, 22.4, 22.6, 90, 180, 225, 270, 337.4, 337.6, np.nan])
    bearing = np.radians(np.nan_to_num(degrees))
    flat = np.isnan(degrees)
    rows = np.ones((10, 1))
    sine, cosine = np.where(flat, 0, np.sin(bearing)) * rows, np.where(flat, 0, np.cos(bearing)) * rows
    label = np.zeros((10, 10), np.uint8)
    label[:3] = 1
    planes = {  # in the other order: they are told by kind
        Channel("aspect_cos", "aspect", "factor", "", "cosine"): cosine,
        Channel("aspect_sin", "aspect", "factor", "", "sine"): sine,
    }
    expected = {
        "flat": 10, "north": 30, "northeast": 10, "east": 10, "southeast": 0, "south": 10, "southwest": 10,
        "west": 10, "northwest": 10,
    }  # fmt: skip
    made = frequency_ratios(write_prepared(tmp_path / "planes", planes, label), tmp_path / "a")
    assert {row.name: row.pixels for row in made.rows} == expected
    empty = next(row for row in made.rows if row.name == "southeast")
    assert math.isnan(empty.frequency) and math.isnan(empty.frequency_ratio) and empty.area_share == 0
    assert any("no pixel of class southeast" in note for note in made.notes)
    paper = {Channel("aspect", "aspect", "factor", "degree"): degrees * rows}
    made = frequency_ratios(write_prepared(tmp_path / "paper", paper, label), tmp_path / "b")
    assert {row.name: row.pixels for row in made.rows} == expected


def test_classes_are_counted_as_planes_and_as_ordinals(tmp_path: Path) -> None:
    codes = np.zeros((50, 40), int) + np.repeat([0, 1, 2], [30, 19, 1])[:, None]
    label = np.zeros(codes.shape, np.uint8)
    label[25:35] = 1
    names = ("soft", "soft_and_hard", "hard")
    planes = {Channel(f"lithology_{n}", "lithology", "factor", "", "class"): codes == i for i, n in enumerate(names)}
    made = frequency_ratios(write_prepared(tmp_path / "p", planes, label), tmp_path / "a")
    assert [(r.name, r.pixels, r.landslide_pixels) for r in made.rows] == [
        ("soft", 1200, 200), ("soft_and_hard", 760, 200), ("hard", 40, 0),
    ]  # fmt: skip
    ordinal = {Channel("lithology", "lithology", "factor", "class"): codes + 1}
    rows = frequency_ratios(write_prepared(tmp_path / "o", ordinal, label), tmp_path / "b", sample=100).rows
    assert [(r.name, r.pixels, r.landslide_pixels) for r in rows] == [("1", 1200, 200), ("2", 760, 200), ("3", 40, 0)]


def test_a_constant_factor_is_one_class_and_said_so(tmp_path: Path) -> None:
    label = np.zeros((20, 20), np.uint8)
    label[:5] = 1
    planes = {factor("constant"): np.full((20, 20), 7.0), factor("nowhere"): np.full((20, 20), np.nan)}
    made = frequency_ratios(write_prepared(tmp_path / "p", planes, label), tmp_path / "o")
    constant, nowhere = made.rows
    assert (constant.pixels, constant.frequency, constant.frequency_ratio) == (400, 0.25, 1.0)
    assert nowhere.pixels == 0 and math.isnan(nowhere.frequency) and math.isnan(nowhere.area_share)
    notes = " ".join(made.notes)
    assert "constant: 7 all over the sample" in notes and "nowhere: undefined all over the site" in notes


# ---- bad input ----


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    for value in (0, 1):
        label = np.full((20, 20), value, np.uint8)
        prepared = write_prepared(tmp_path / "p", {factor("slope"): np.arange(400).reshape(20, 20)}, label)
        with pytest.raises(LabelError, match="takes both"):
            frequency_ratios(prepared, tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_bad_input_is_refused_with_a_remedy(strips: Path, made: TinySite, tmp_path: Path) -> None:
    with pytest.raises(ChannelError, match="did you mean slope"):
        frequency_ratios(strips, tmp_path / "o", ["slop"])
    with pytest.raises(RunError, match="from 2 to 50"):
        frequency_ratios(strips, tmp_path / "o", classes=1)
    with pytest.raises(RunError, match="at least 100"):
        frequency_ratios(strips, tmp_path / "o", sample=5)
    with pytest.raises(RasterError, match="is not a prepared site"):
        frequency_ratios(tmp_path, tmp_path / "o")
    bands = write_prepared(
        tmp_path / "bands", {Channel("red", "red", "band"): np.ones((100, 100))}, read_stored(strips / "label.tif")
    )
    with pytest.raises(ChannelError, match="only bands"):
        frequency_ratios(bands, tmp_path / "o")
    strange = shutil.copytree(strips, tmp_path / "strange")
    label = read_stored(strange / "label.tif")
    label[5, 5] = 9
    grid = read_prepared_info(strips).grid
    write_raster(strange / "label.tif", label[None], grid, ["label"], overwrite=True)
    with pytest.raises(LabelError, match="holds 9"):
        frequency_ratios(strange, tmp_path / "o")
    frequency_ratios(bands, tmp_path / "o", ["red"])
    with pytest.raises(OutputError, match="exists already"):
        frequency_ratios(bands, tmp_path / "o", ["red"])


def test_the_command_prints_the_table(strips: Path, tmp_path: Path) -> None:
    outcome = command("intervals", strips, tmp_path / "o", "--factor", "slope", "--classes", "3")
    assert outcome.code == 0 and "30.00 %" in outcome.out and "3.00" in outcome.out and "slope (degree)" in outcome.out
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["intervals.csv", "intervals.json", "intervals.png"]


def test_numba_is_loaded_only_to_break(strips: Path) -> None:
    code = (
        "import sys, landslip.importance.frequency_ratio; "
        "print([m for m in ('numba', 'mapclassify', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
