"""Rankings of factors: gain ratio, random forest, permutation of a network."""

import csv
import dataclasses
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TinySite
from test_cli import command
from test_intervals import factor, write_prepared

import landslip.importance
from landslip.checkpoint import Model, load_model
from landslip.errors import ChannelError, GridError, LabelError, OutputError, RunError, SplitError
from landslip.importance import (
    HeldOut,
    Importance,
    Score,
    correlated_groups,
    gain_ratio,
    importance,
    permutation_importance,
    ranked,
    table,
)
from landslip.raster import read_info, write_raster
from landslip.stack import Channel
from landslip.standardize import ZScore

NAN = math.nan


@pytest.fixture(autouse=True, scope="module")
def _small_forests() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(landslip.importance, "TREES", 30)
        patch.setattr(landslip.importance, "CUTS", 60)
        yield


def by_factor(made: Importance, measure: str) -> dict[str, Score]:
    return {score.factor: score for score in made.scores if score.measure == measure}


# ---- information gain ratio ----


def test_gain_ratio_of_quinlans_weather() -> None:
    # 14 days of Quinlan (1986; 1993, ch. 2), play or not. Gains of 0.247, 0.029, 0.152 and 0.048 bits and ratios of
    # 0.157, 0.019, 0.152 and 0.049 are the textbook's (Witten and Frank, 2005, p. 102), from gains rounded to 3 digits
    tables = {
        "outlook": ([[3, 2], [0, 4], [2, 3]], 0.247, 0.157),
        "temperature": ([[2, 2], [2, 4], [1, 3]], 0.029, 0.019),
        "humidity": ([[4, 3], [1, 6]], 0.152, 0.152),
        "windy": ([[2, 6], [3, 3]], 0.048, 0.049),
    }
    for counts, gain, ratio in tables.values():
        assert [float(v) for v in gain_ratio(np.array(counts))] == pytest.approx([gain, ratio], abs=1e-3)


def test_gain_ratio_of_extremes() -> None:
    assert [float(v) for v in gain_ratio(np.array([[8, 0], [0, 8]]))] == [1.0, 1.0]  # decides alone: one bit of one
    assert [float(v) for v in gain_ratio(np.array([[6, 2], [3, 1]]))] == pytest.approx([0.0, 0.0], abs=1e-12)
    gain, ratio = gain_ratio(np.array([[6, 2], [0, 0]]))
    assert gain == pytest.approx(0.0) and math.isnan(ratio)  # one class holds all


# ---- a site whose factors' effects are known ----


@pytest.fixture(scope="module")
def stated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Steep ground slides, most of all in soft rock; `idle` has no effect; `twin` repeats slope; `constant` is 3."""
    rng = np.random.default_rng(4)
    shape = (160, 160)
    steep = rng.random(shape)
    soft = rng.random(shape) < 0.5
    label = (steep > 0.7) & (rng.random(shape) < np.where(soft, 0.95, 0.5))
    planes = {
        factor("idle"): rng.random(shape),
        factor("slope", "degree"): 50 * steep,
        factor("twin"): 50 * steep + rng.normal(0, 5, shape),
        Channel("lithology_soft", "lithology", "factor", "", "class"): soft,
        Channel("lithology_hard", "lithology", "factor", "", "class"): ~soft,
        factor("constant"): np.full(shape, 3.0),
        Channel("red", "red", "band"): 50 * steep + rng.normal(0, 5, shape),
    }
    return write_prepared(tmp_path_factory.mktemp("stated") / "p", planes, label)


@pytest.fixture(scope="module")
def stated_result(stated: Path) -> Importance:
    return importance(stated, stated.parent / "out", repeats=6, block=20, sample=4000)


@pytest.mark.parametrize("measure", ["gini", "gain_ratio"])
def test_what_decides_comes_first_and_what_has_no_effect_last_and_marked(
    stated_result: Importance, measure: str
) -> None:
    found = by_factor(stated_result, measure)
    ranks = {name: score.rank for name, score in found.items() if score.rank is not None}
    assert ranks["slope"] == 1 and not found["slope"].unstable
    varying = [name for name in ranks if name != "constant"]
    assert max(varying, key=lambda name: ranks[name] or 0) == "idle"
    assert found["idle"].effect is False
    assert all(found[name].effect for name in ("slope", "twin", "lithology"))
    text = table(stated_result)
    assert all("no effect shown" in line for line in text.split("\n") if line.split()[1:2] == ["idle"])


def test_a_constant_factor_is_explained(stated_result: Importance) -> None:
    gini, ratio = (by_factor(stated_result, measure)["constant"] for measure in ("gini", "gain_ratio"))
    assert gini.estimate == 0 and gini.effect is False and "constant" in gini.note
    assert math.isnan(ratio.estimate) and ratio.rank is None and "one class holds all pixels" in ratio.note


def test_gini_sums_channels_and_all_factors_sum_to_one(stated_result: Importance) -> None:
    found = by_factor(stated_result, "gini")
    assert sum(s.estimate for s in found.values() if s.kind == "factor") == pytest.approx(1)
    assert set(found) == {"idle", "slope", "twin", "lithology", "constant", "slope + twin"}
    joint = found["slope + twin"]
    assert joint.estimate == pytest.approx(found["slope"].estimate + found["twin"].estimate) and joint.rank is None


def test_correlated_factors_are_taken_together_and_said_so(stated_result: Importance) -> None:
    assert stated_result.correlated == [("slope", "twin")]
    notes = " ".join(stated_result.notes)
    assert "slope + twin are correlated" in notes and "slope is correlated with bands (red" in notes


def test_intervals_hold_their_estimates_and_files_hold_the_table(stated: Path, stated_result: Importance) -> None:
    for score in stated_result.scores:
        assert math.isnan(score.estimate) or score.low <= score.estimate <= score.high, score
    out = stated.parent / "out"
    rows = list(csv.DictReader((out / "importance.csv").open()))
    assert [row["factor"] for row in rows] == [score.factor for score in stated_result.scores]
    assert next(row for row in rows if row["note"].startswith("one class"))["estimate"] == ""
    facts = json.loads((out / "importance.json").read_text())
    assert facts["forest_auc"] == stated_result.forest_auc > 0.8
    assert (out / "importance.png").stat().st_size > 5000


def test_the_same_seed_gives_the_same_ranking(stated: Path, tmp_path: Path) -> None:
    one, two = (importance(stated, tmp_path / str(i), repeats=2, block=20, sample=1000, seed=9) for i in range(2))
    assert table(one) == table(two)
    other = importance(stated, tmp_path / "other", repeats=2, block=20, sample=1000, seed=8)
    assert table(one) != table(other)


def test_a_smooth_factor_that_only_tells_places_apart_shows_no_effect(tmp_path: Path) -> None:
    # landslides and `smooth` each follow their own waves; in the mean over sites one says nothing of the other
    y, x = np.mgrid[0:160, 0:160] / 160
    effects = []
    for seed in range(12):
        rng = np.random.default_rng(seed)

        def wave(rng: np.random.Generator = rng) -> np.ndarray:
            phase = rng.uniform(0, 2 * np.pi, 4)
            return sum(np.sin(2 * np.pi * (rng.uniform(-2, 2) * x + rng.uniform(-2, 2) * y) + p) for p in phase)

        own = wave()
        planes = {factor("smooth"): wave(), factor("other"): rng.random(x.shape)}
        prepared = write_prepared(tmp_path / str(seed) / "p", planes, own > np.quantile(own, 0.8))
        drawn = landslip.importance.draw_sample(landslip.importance.read_prepared(prepared), 2000, 0)
        stack = landslip.importance.read_prepared(prepared)
        counted = landslip.importance.count(stack, [landslip.importance.make_classes(stack, "smooth", drawn, 5)], 20)
        effects.append(landslip.importance.gain_ratios(counted, drawn, stack.grid, 20, 0)[0].effect)
    assert sum(map(bool, effects)) <= 8  # a test of pixels would call every one of them an effect


# ---- permutation of a network ----


class Channelwise(torch.nn.Module):
    """Maps landslide where the channel at `position` is positive, and sees no other."""

    multiple = 4

    def __init__(self, position: int) -> None:
        super().__init__()
        self.position = position
        self.scale = torch.nn.Parameter(torch.tensor(100.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x[:, self.position : self.position + 1]


def held_out(x: np.ndarray, label: np.ndarray, factors: dict[str, list[int]], bands: list[int]) -> HeldOut:
    n = len(x)
    return HeldOut(
        x.astype(np.float32), label.astype(np.uint8), np.ones(label.shape, bool), np.arange(n), factors, bands, []
    )


def network_of(position: int, folder: Path = Path("model")) -> Model:
    return Model(folder, Channelwise(position), (), ZScore(np.zeros(0), np.ones(0)), 0.5, {})


def test_a_channel_that_the_network_ignores_has_importance_exactly_zero() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 4, 10, 10))  # 10 is no multiple of 4: padded
    label = x[:, 2] > 0
    held = held_out(x, label, {"idle": [0], "two": [1, 3], "sees": [2]}, [0, 1])
    scores = permutation_importance(network_of(2), held, [("idle", "sees")], 4, 0)
    found = {(s.measure, s.factor): s for s in scores}
    for measure in ("permutation_kappa", "permutation_f1"):
        for name in ("idle", "two", "bands"):
            score = found[measure, name]
            assert (score.estimate, score.low, score.high, score.effect) == (0, 0, 0, False)
        assert found[measure, "sees"].estimate == found[measure, "idle + sees"].estimate > 0.4
        assert found[measure, "sees"].effect is True and found[measure, "idle + sees"].kind == "together"


def test_permutation_of_two_windows_by_closed_form() -> None:
    # Two windows of 8 pixels, one all landslide, one with none, mapped without an error from one channel. Swapped,
    # every pixel is wrong: kappa falls from 1 to -1 and F1 from 1 to 0, whatever the order (there is only one).
    x = np.stack([np.full((1, 2, 4), 1.0), np.full((1, 2, 4), -1.0)])
    label = np.stack([np.ones((2, 4)), np.zeros((2, 4))])
    scores = permutation_importance(network_of(0), held_out(x, label, {"slope": [0]}, []), [], 3, 0)
    assert {s.measure: s.estimate for s in scores} == {"permutation_kappa": 2.0, "permutation_f1": 1.0}


def test_pixels_are_scored_where_both_windows_are_valid() -> None:
    # as above, but the left half of the second window is undefined and unscored: only the right halves are compared
    x = np.stack([np.full((1, 2, 4), 1.0), np.full((1, 2, 4), -1.0)])
    x[1, :, :, :2] = 0
    label = np.stack([np.ones((2, 4)), np.zeros((2, 4))])
    label[1, :, :2] = 255
    held = held_out(x, label, {"slope": [0]}, [])
    held.valid[1, :, :2] = False
    scores = permutation_importance(network_of(0), held, [], 2, 0)
    assert {s.measure: s.estimate for s in scores} == {"permutation_kappa": 2.0, "permutation_f1": 1.0}


@pytest.mark.parametrize("n", [2, 3, 17])
def test_no_window_is_its_own_donor(n: int) -> None:
    for seed in range(20):
        donor = landslip.importance._cycle(np.random.default_rng(seed), n)
        assert sorted(donor) == list(range(n)) and not (donor == np.arange(n)).any()


def test_a_trained_network_is_permuted_on_its_test_part(made: TinySite, tmp_path: Path) -> None:
    # landslides of the tiny site are bright in every band, and nothing else tells them (conftest)
    found = importance(made.folder / "prepared", tmp_path / "o", made.folder / "model", 4, 16, 1000)
    network = by_factor(found, "permutation_kappa")
    assert network["bands"].rank is None and network["bands"].estimate > 0.3
    assert all(score.estimate < 0.2 for name, score in network.items() if name != "bands")
    notes = " ".join(found.notes)
    assert "on the test part" in notes and "LEAKY" not in notes
    # the swapped windows are those of the part, with the label of the part alone
    model = load_model(made.folder / "model")
    stack = landslip.importance.read_prepared(made.folder / "prepared")
    held = landslip.importance._held_out(model, stack, 16, 0)
    parts = landslip.raster.read_stored(made.folder / "model" / "split.tif") == 3
    valid = landslip.raster.read_stored(made.folder / "prepared" / "valid.tif") == 1
    label = landslip.raster.read_stored(made.folder / "prepared" / "label.tif")
    assert (held.label != 255).sum() == (parts & valid & (label != 255)).sum()
    assert (held.label == 1).sum() == (parts & valid & (label == 1)).sum()


# ---- ranks ----


def score(name: str, estimate: float, low: float, high: float, **more: Any) -> Score:
    return Score("gini", name, more.pop("kind", "factor"), estimate, low, high, **more)


def test_places_whose_intervals_overlap_are_unstable() -> None:
    given = [
        score("c", 0.2, 0.15, 0.25), score("a", 0.9, 0.8, 1.0), score("d", 0.18, 0.1, 0.22),
        score("nan", NAN, NAN, NAN), score("b", 0.5, 0.4, 0.6), score("c + d", 0.38, 0.3, 0.4, kind="together"),
    ]  # fmt: skip
    out = ranked(given)
    assert [(s.factor, s.rank, s.unstable) for s in out] == [
        ("a", 1, False), ("b", 2, False), ("c", 3, True), ("d", 4, True), ("nan", None, False), ("c + d", None, False),
    ]  # fmt: skip


def test_factors_without_an_effect_come_last_whatever_their_number() -> None:
    given = [score("noise", 0.5, 0.4, 0.6, effect=False), score("class", 0.45, 0.4, 0.5, effect=True)]
    assert [(s.factor, s.rank, s.unstable) for s in ranked(given)] == [("class", 1, False), ("noise", 2, False)]


def test_correlation_links_over_others() -> None:
    rho = {
        "a": {"b": 0.8, "c": 0.1, "d": 0.0},
        "b": {"a": 0.8, "c": -0.9, "d": 0.7},
        "c": {"a": 0.1, "b": -0.9, "d": NAN},
    }
    rho["d"] = {"a": 0.0, "b": 0.7, "c": NAN}
    assert correlated_groups(rho, ["a", "b", "c", "d"]) == [("a", "b", "c")]  # 0.7 is not above 0.7


# ---- bad input ----


def test_bad_input_is_refused_with_a_remedy(stated: Path, made: TinySite, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="at least 2"):
        importance(stated, tmp_path / "o", repeats=1)
    with pytest.raises(LabelError, match=r"in 4 spatial block\(s\) of 80 pixels.*smaller --block"):
        importance(stated, tmp_path / "o", block=80)
    with pytest.raises(OutputError, match="exists already"):
        importance(stated, stated.parent / "out")
    one = write_prepared(tmp_path / "one", {factor("slope"): np.ones((64, 64))}, np.ones((64, 64)))
    with pytest.raises(LabelError, match="takes both"):
        importance(one, tmp_path / "o")
    bands = {Channel("red", "red", "band"): np.ones((64, 64))}
    with pytest.raises(ChannelError, match="only bands"):
        importance(write_prepared(tmp_path / "bands", bands, np.eye(64)), tmp_path / "o")
    with pytest.raises(ChannelError, match="lacks"):  # a model of other channels
        importance(stated, tmp_path / "o", made.folder / "model")
    model = shutil.copytree(made.folder / "model", tmp_path / "model")
    (model / "split.tif").unlink()
    with pytest.raises(SplitError, match=r"split\.tif does not exist"):
        importance(made.folder / "prepared", tmp_path / "o", model)
    info = read_info(stated / "valid.tif")
    write_raster(model / "split.tif", np.ones((1, *info.grid.shape), np.uint8), info.grid, ["split"])
    with pytest.raises(GridError, match="one grid"):
        importance(made.folder / "prepared", tmp_path / "o", model)
    grid = read_info(made.folder / "model" / "split.tif").grid
    parts = np.zeros((1, *grid.shape), np.uint8)
    parts[0, :8, :8] = 3
    write_raster(model / "split.tif", parts, grid, ["split"], overwrite=True)
    with pytest.raises(SplitError, match="meets 1 window"):
        importance(made.folder / "prepared", tmp_path / "o", model)
    assert not (tmp_path / "o").exists()


def test_a_leaky_split_is_named(made: TinySite, tmp_path: Path) -> None:
    model = shutil.copytree(made.folder / "model", tmp_path / "model")
    info = read_info(model / "split.tif")
    parts = landslip.raster.read_stored(model / "split.tif")
    parts[parts == 3] = 2
    tags = {"split": "paper", "leaky": "yes", "guard": "0"}
    write_raster(model / "split.tif", parts[None], info.grid, ["split"], tags=tags, overwrite=True)
    loaded = load_model(model)
    held = landslip.importance._held_out(loaded, landslip.importance.read_prepared(made.folder / "prepared"), 32, 0)
    assert any(note.startswith("LEAKY") and "validation part" in note for note in held.notes)


def test_the_command_prints_the_rankings(stated: Path, tmp_path: Path) -> None:
    outcome = command(
        "importance", stated, tmp_path / "o", "--repeats", "2", "--block", "20", "--sample", "1000", "--seed", "1"
    )
    assert outcome.code == 0 and "information gain ratio" in outcome.out and "1 slope" in outcome.out
    assert dataclasses.is_dataclass(Score) and "permutation" not in outcome.out
