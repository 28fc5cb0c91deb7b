"""`landslip importance` as a whole, on a site whose factors' effects are known."""

import csv
import dataclasses
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from command import command
from conftest import TinySite
from made_up import factor, write_prepared

import landslip.importance.impurity
from landslip.dataset.channels import Channel
from landslip.errors import ChannelError, GridError, LabelError, ModelError, OutputError, RunError, SplitError
from landslip.geo.geotiff import write_raster
from landslip.geo.raster import read_info
from landslip.importance.importance import Importance, Score, importance, importance_table

NAN = math.nan


@pytest.fixture(autouse=True, scope="module")
def _small_forests() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(landslip.importance.impurity, "TREES", 30)
        patch.setattr(landslip.importance.impurity, "CUTS", 60)
        yield


def by_factor(made: Importance, measure: str) -> dict[str, Score]:
    return {score.factor: score for score in made.scores if score.measure == measure}


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
    text = importance_table(stated_result)
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
    assert importance_table(one) == importance_table(two)
    other = importance(stated, tmp_path / "other", repeats=2, block=20, sample=1000, seed=8)
    assert importance_table(one) != importance_table(other)


def test_a_factor_undefined_all_over_has_its_row(tmp_path: Path) -> None:
    # 16 blocks hold both classes: the first factor's holes say nothing of the label
    rng = np.random.default_rng(1)
    steep, flat = rng.random((64, 64)), rng.random((64, 64))
    planes = {factor("void"): np.full((64, 64), NAN), factor("slope"): steep, factor("twin"): steep + flat / 100}
    made = importance(write_prepared(tmp_path / "p", planes, steep > 0.6), tmp_path / "o", repeats=2, block=16)
    void = by_factor(made, "gain_ratio")["void"]
    assert math.isnan(void.estimate) and void.rank is None and void.note == "no pixel is defined"
    assert by_factor(made, "gini")["void"].estimate == 0
    assert made.correlated == [("slope", "twin")]  # which it does not hide
    assert "undefined  undefined to undefined" in importance_table(made)


# ---- bad input ----


def test_bad_input_is_refused_with_a_remedy(stated: Path, made: TinySite, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="at least 2"):
        importance(stated, tmp_path / "o", repeats=1)
    with pytest.raises(LabelError, match=r"lie in 4 and other ground in 4 spatial blocks of 80 pixels.*smaller"):
        importance(stated, tmp_path / "o", block=80)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "importance.csv").touch()
    with pytest.raises(OutputError, match="exists already"):
        importance(stated, tmp_path / "full")
    one = write_prepared(tmp_path / "one", {factor("slope"): np.ones((64, 64))}, np.ones((64, 64)))
    with pytest.raises(LabelError, match="lie in 16 and other ground in 0 spatial"):
        importance(one, tmp_path / "o", block=16)
    corner = np.ones((64, 64))
    corner[:8, :8] = 0
    with pytest.raises(LabelError, match=r"other ground in 1 spatial block of 16 pixels.*need 5 of each"):
        importance(write_prepared(tmp_path / "corner", {factor("slope"): corner}, corner), tmp_path / "o", block=16)
    bands = {Channel("red", "red", "band"): np.ones((64, 64))}
    with pytest.raises(ChannelError, match="only bands"):
        importance(write_prepared(tmp_path / "bands", bands, np.eye(64)), tmp_path / "o")
    with pytest.raises(ChannelError, match="lacks"):  # a model of other channels
        importance(stated, tmp_path / "o", made.folder / "model")
    model = shutil.copytree(made.folder / "model", tmp_path / "model")
    (model / "split.tif").unlink()
    with pytest.raises(ModelError, match=r"split\.tif does not exist"):
        importance(made.folder / "prepared", tmp_path / "o", model)
    facts = json.loads((model / "model.json").read_text())
    del facts["split_sha256"]  # an earlier version's model, whose split is taken as it is
    (model / "model.json").write_text(json.dumps(facts))
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


def test_the_command_prints_the_rankings(stated: Path, tmp_path: Path) -> None:
    outcome = command(
        "importance", stated, tmp_path / "o", "--repeats", "2", "--block", "20", "--sample", "1000", "--seed", "1"
    )
    assert outcome.code == 0 and "information gain ratio" in outcome.out and "1     slope " in outcome.out
    assert dataclasses.is_dataclass(Score) and "permutation" not in outcome.out
