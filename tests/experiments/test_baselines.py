import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import GRID, TinySite
from sklearn.neural_network import MLPClassifier

import landslip.experiments.baselines
from landslip.config.run import read_run
from landslip.dataset.training_data import TrainingData, build_training_data
from landslip.errors import LabelError, OutputError, RunError
from landslip.evaluation.evaluate import evaluate
from landslip.experiments.baselines import BASELINES, Baseline, fit_baseline, map_baseline, size
from landslip.geo.geotiff import write_raster
from landslip.geo.raster import read, read_info, read_stored
from landslip.metrics.confusion import Histogram

NAMES = list(BASELINES)


class Spy:
    """Keeps what it is trained on; says one half everywhere."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def fit(self, x: np.ndarray, y: np.ndarray) -> None:
        self.x, self.y = x, y

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        return np.full((len(x), 2), 0.5)

    def get_params(self) -> dict[str, Any]:
        return {}


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(BASELINES, "spy", Spy)
    return "spy"


def ground_of(made: TinySite, **overrides: Any) -> TrainingData:
    return build_training_data(read_run(made.run, overrides), made.folder / "prepared")


def patchy(made: TinySite, folder: Path) -> Path:
    """The prepared site with ground that is not valid and ground of unknown label inside training windows."""
    shutil.copytree(made.folder / "prepared", folder)
    valid, label = read_stored(folder / "valid.tif"), read_stored(folder / "label.tif")
    valid[3::17] = 0
    valid[:, 160:] = 0
    label[:, 5::19] = 255
    write_raster(folder / "valid.tif", valid[None], GRID, ["valid"], overwrite=True)
    write_raster(folder / "label.tif", label[None], GRID, ["label"], overwrite=True)
    return folder


def rows(values: np.ndarray) -> np.ndarray:
    return values[np.lexsort(values.T)]


@pytest.fixture(scope="module")
def fitted(made: TinySite) -> dict[str, Baseline]:
    ground, run = ground_of(made), read_run(made.run)
    return {name: fit_baseline(name, run, ground) for name in NAMES}


def test_the_pixels_are_the_valid_known_ones_of_the_training_windows_each_once(
    made: TinySite, tmp_path: Path, spy: str
) -> None:
    run, prepared = read_run(made.run), patchy(made, tmp_path / "p")
    ground = build_training_data(run, prepared)
    baseline = fit_baseline(spy, run, ground)
    # the same set, pixel by pixel, from the files alone
    places = {(r, c) for w in ground.windows for r in range(w.row, w.row + 32) for c in range(w.column, w.column + 32)}
    valid, label = read_stored(prepared / "valid.tif"), read_stored(prepared / "label.tif")
    assert sum(w.height * w.width for w in ground.windows) > len(places)  # windows overlap
    kept = sorted(p for p in places if valid[p] == 1 and label[p] != 255)
    assert 0 < len(kept) < len(places)
    stack, parts = read(prepared / "stack.tif").astype(np.float64), ground.split.parts
    assert {int(parts[p]) for p in kept} == {1}
    statistics = np.stack([stack[:, r, c] for r, c in places if valid[r, c] == 1])  # as the networks: unknown too
    scaled = [channel.standardised for channel in ground.channels]
    mean, std = np.where(scaled, statistics.mean(0), 0), np.where(scaled, statistics.std(0), 1)
    x = (np.stack([stack[:, r, c] for r, c in kept]) - mean) / std
    got = baseline.estimator
    assert got.x.shape == x.shape and baseline.pixels == len(kept)
    np.testing.assert_allclose(rows(got.x), rows(x.astype(np.float32)), atol=1e-4)
    assert got.y.sum() == baseline.landslides == sum(int(label[p]) for p in kept)
    # each pixel keeps its own label: bright ones, and those alone, are landslides (conftest)
    red = [channel.name for channel in ground.channels].index("red")
    assert got.x[got.y == 1, red].min() > got.x[got.y == 0, red].max()


def test_a_sample_is_drawn_from_the_seed_and_leaves_the_share_of_landslide(
    made: TinySite, monkeypatch: pytest.MonkeyPatch, spy: str
) -> None:
    ground, run = ground_of(made), read_run(made.run)
    whole = fit_baseline(spy, run, ground)
    monkeypatch.setattr(landslip.experiments.baselines, "BASELINE_SAMPLE", 1500)
    first, again = (fit_baseline(spy, run, ground) for _ in range(2))
    other = fit_baseline(spy, read_run(made.run, {"training.seed": 1}), ground)
    assert first.pixels == len(first.estimator.x) == 1500 < whole.pixels
    assert np.array_equal(first.estimator.x, again.estimator.x) and first.estimator.seed == again.estimator.seed
    assert not np.array_equal(first.estimator.x, other.estimator.x) and first.estimator.seed != other.estimator.seed
    everything = {row.tobytes() for row in whole.estimator.x}
    assert len({row.tobytes() for row in first.estimator.x} & everything) == 1500  # distinct, and none from elsewhere
    share, spread = whole.landslides / whole.pixels, np.sqrt(0.25 / 1500)
    assert abs(first.landslides / 1500 - share) < 5 * spread and share < 0.4


@pytest.mark.parametrize("name", NAMES)
def test_classes_that_one_channel_tells_apart_are_mapped_without_an_error(
    made: TinySite, tmp_path: Path, name: str
) -> None:
    overrides = {"channels.bands": ["red"], "channels.factors": "none"}
    ground = ground_of(made, **overrides)
    assert [c.name for c in ground.channels] == ["red"]
    baseline = fit_baseline(name, read_run(made.run, overrides), ground)
    assert baseline.validation == {"kappa": 1.0, "f1": 1.0}
    map_baseline(baseline, ground, tmp_path / "p.tif")
    scored = evaluate(
        tmp_path / "p.tif", made.folder / "prepared" / "label.tif", made.folder / "model" / "split.tif", "test"
    )
    assert scored.scores["kappa"] == 1.0 and scored.leaky is False


@pytest.mark.parametrize("name", NAMES)
def test_one_seed_gives_one_map_to_the_byte(
    made: TinySite, tmp_path: Path, name: str, fitted: dict[str, Baseline]
) -> None:
    ground = ground_of(made)
    map_baseline(fitted[name], ground, tmp_path / "a.tif")
    map_baseline(fit_baseline(name, read_run(made.run), ground), ground, tmp_path / "b.tif")
    map_baseline(fit_baseline(name, read_run(made.run, {"training.seed": 1}), ground), ground, tmp_path / "c.tif")
    first, again, other = ((tmp_path / f"{x}.tif").read_bytes() for x in "abc")
    assert first == again != other


@pytest.mark.parametrize("name", NAMES)
def test_every_valid_pixel_is_mapped_and_no_other(
    made: TinySite, tmp_path: Path, name: str, fitted: dict[str, Baseline]
) -> None:
    ground = build_training_data(read_run(made.run), patchy(made, tmp_path / "p"))
    done = map_baseline(fitted[name], ground, tmp_path / "m.tif")
    p, info = read(tmp_path / "m.tif")[0], read_info(tmp_path / "m.tif")
    assert np.array_equal(~np.isnan(p), ground.valid) and done.valid_pixels == ground.valid.sum()
    assert np.nanmin(p) >= 0 and np.nanmax(p) <= 1
    assert info.dtypes == ("float32",) and info.grid == ground.stack.grid
    assert float(info.tags["threshold"]) == fitted[name].threshold and info.tags["method"] == name
    with pytest.raises(OutputError, match="exists already"):
        map_baseline(fitted[name], ground, tmp_path / "m.tif")


@pytest.mark.parametrize("name", NAMES)
def test_windows_and_pieces_leave_no_trace(
    made: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, fitted: dict[str, Baseline]
) -> None:
    ground = build_training_data(read_run(made.run), patchy(made, tmp_path / "p"))
    baseline = fitted[name]
    x = baseline.zscore.apply(read(ground.stack.path))[:, ground.valid].T
    expected = baseline.estimator.predict_proba(x)[:, 1]
    monkeypatch.setattr(landslip.experiments.baselines, "STORED_TILE", 32)
    monkeypatch.setattr(landslip.experiments.baselines, "PIECE", 100)
    done = map_baseline(baseline, ground, tmp_path / "m.tif")
    np.testing.assert_allclose(read(tmp_path / "m.tif")[0][ground.valid], expected, atol=1e-5)
    assert (done.windows, done.skipped) == (
        4 * 5,
        pytest.approx(4 / 24),
    )  # 128 x 192 in windows of 32; nothing valid from column 160 on


@pytest.mark.parametrize("by", ["kappa", "f1"])
def test_the_threshold_is_the_best_of_the_validation_part(made: TinySite, tmp_path: Path, by: str) -> None:
    overrides = {"channels.bands": "none", "channels.factors": ["slope", "aspect"], "training.threshold": by}
    ground = ground_of(made, **overrides)
    baseline = fit_baseline("ann", read_run(made.run, overrides), ground)
    map_baseline(baseline, ground, tmp_path / "p.tif")
    p, label = read(tmp_path / "p.tif")[0], read_stored(made.folder / "prepared" / "label.tif")
    found = Histogram.from_arrays(p, label, read_stored(made.folder / "model" / "split.tif") == 2)
    assert baseline.threshold == found.best_threshold(by) != 0.5
    assert baseline.validation["kappa"] == found.confusion(baseline.threshold).kappa < 1


def test_a_threshold_that_is_given_is_taken(made: TinySite, spy: str) -> None:
    ground = ground_of(made)
    assert fit_baseline(spy, read_run(made.run, {"training.threshold": 0.25}), ground).threshold == 0.25


def test_a_validation_part_of_one_class_is_said_and_leaves_one_half(
    made: TinySite, monkeypatch: pytest.MonkeyPatch, spy: str
) -> None:
    ground, said = ground_of(made), []
    label = np.where(ground.split.parts == 2, 0, ground.label).astype(np.uint8)
    monkeypatch.setattr(landslip.experiments.baselines, "say", said.append)
    baseline = fit_baseline(spy, read_run(made.run), dataclasses.replace(ground, label=label))
    assert baseline.threshold == 0.5 and np.isnan(baseline.validation["kappa"])
    assert any("validation part holds one class only" in text for text in said)


def test_a_baseline_that_did_not_converge_says_so(made: TinySite, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(landslip.experiments.baselines, "say", said.append)
    monkeypatch.setitem(BASELINES, "ann", lambda seed: MLPClassifier((4,), max_iter=1, random_state=seed))
    fit_baseline("ann", read_run(made.run), ground_of(made))
    assert any("warning: ann:" in text and "converged" in text for text in said)


@pytest.mark.parametrize("code", [0, 1])
def test_training_pixels_of_one_class_are_refused(made: TinySite, code: int) -> None:
    ground = ground_of(made)
    label = np.full(ground.label.shape, code, np.uint8)
    with pytest.raises(LabelError, match=r"label\.tif.*\b0 of (landslide|other).*needs 10 of each.*seed"):
        fit_baseline("random_forest", read_run(made.run), dataclasses.replace(ground, label=label))


@pytest.mark.parametrize("name", NAMES)
def test_ten_pixels_of_a_class_are_enough(made: TinySite, name: str) -> None:
    ground, run = ground_of(made), read_run(made.run)
    label = ground.label.copy()
    training = np.flatnonzero(
        landslip.experiments.baselines.training_ground(ground.windows, ground.label, ground.valid) & (label == 1)
    )
    label.flat[training[10:]] = 0
    assert fit_baseline(name, run, dataclasses.replace(ground, label=label)).landslides == 10
    label.flat[training[9]] = 0
    with pytest.raises(LabelError, match="9 of landslide"):
        fit_baseline(name, run, dataclasses.replace(ground, label=label))


def test_an_unknown_baseline_is_refused_with_the_nearest_and_all_known(made: TinySite) -> None:
    with pytest.raises(RunError, match=r"did you mean random_forest.*known are random_forest, svm, ann"):
        fit_baseline("randomforest", read_run(made.run), ground_of(made))


def test_sizes_are_those_counted_by_hand(made: TinySite, fitted: dict[str, Baseline]) -> None:
    channels = len(fitted["ann"].zscore.mean)
    layers = (channels + 1) * 64 + (64 + 1) * 32 + (32 + 1)
    assert size(fitted["ann"].estimator) == layers
    # 500 pixels kept as columns, their 500 x 500 normalisation, a weight each, an intercept, the sigmoid's two
    assert size(fitted["svm"].estimator) == 500 * channels + 500 * 500 + 500 + 1 + 2
    overrides = {"channels.bands": ["red"], "channels.factors": "none"}
    forest = fit_baseline("random_forest", read_run(made.run, overrides), ground_of(made, **overrides))
    assert size(forest.estimator) == 200 * 3  # one question and its two answers tell the classes apart
