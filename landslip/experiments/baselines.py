"""Pixel baselines of the field: random forest, support vector machine and a small neural network, from scikit-learn.

Each sees one pixel at a time, with no surroundings, and is trained on the ground that the networks are trained on: the
valid pixels of known label in the union of the training windows, each once, z-scored with the same statistics. At most
BASELINE_SAMPLE of them are drawn at random from the training seed, the same for every baseline. The share of landslide
stays as it is on that ground, and no class is weighted. The networks' augmentation has no meaning for single pixels and
is left out. The threshold is chosen on the whole validation part by the run's criterion, as for the networks.

Baselines are not kept as models, since scikit-learn's would have to be pickled: what stays is the probability raster.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.kernel_approximation import Nystroem
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from landslip.config.run import Run
from landslip.dataset.label import LANDSLIDE, OTHER, UNKNOWN
from landslip.dataset.split import VALIDATION
from landslip.dataset.training_data import TrainingData
from landslip.dataset.zscore import ZScore, fit
from landslip.errors import LabelError
from landslip.geo.geotiff import STORED_TILE, create_raster, write_window
from landslip.geo.grid import Window, tiles
from landslip.geo.raster import open_raster, read_window
from landslip.inference.mapping import MapResult
from landslip.metrics.confusion import DEFAULT_THRESHOLD, Histogram
from landslip.models import refuse_unknown
from landslip.runtime.atomic import refuse_existing, refuse_input
from landslip.runtime.progress import say, track
from landslip.training.training_pixels import training_ground

BASELINE_SAMPLE = 40_000  # training pixels drawn at most
FEWEST = 10  # pixels of a class at least, since calibration and early stopping divide the sample once more
PIECE = 16_384  # pixels that an estimator sees at a time, so that the kernel's columns stay at 66 MB


def _random_forest(seed: int) -> Any:
    """Fully grown trees on bootstraps, the square root of the channels tried at a node (Breiman 2001)."""
    return RandomForestClassifier(200, n_jobs=-1, random_state=seed)


def _svm(seed: int) -> Any:
    """A linear SVM on 500 Nystroem columns of an RBF kernel of gamma 1 / channels (Williams and Seeger 2001).

    One sigmoid turns its distances into probabilities (Platt 1999), fitted on distances of held-out thirds; it keeps
    their order.
    """
    machine = LinearSVC(dual=False)  # This solver draws nothing at random.
    calibrated = CalibratedClassifierCV(machine, method="sigmoid", cv=3, ensemble=False)
    return make_pipeline(Nystroem(n_components=500, random_state=seed), calibrated)


def _ann(seed: int) -> Any:
    """Two hidden layers of 64 and 32, Adam; training stops where a tenth of the sample has not gained for 10 rounds."""
    return MLPClassifier((64, 32), batch_size=256, early_stopping=True, max_iter=500, random_state=seed)


# By name, what builds the untrained classifier from a seed.
BASELINES: dict[str, Callable[[int], Any]] = {"random_forest": _random_forest, "svm": _svm, "ann": _ann}


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A trained baseline.

    It was trained on `pixels` pixels, `landslides` of them landslide. `threshold` is in [0, 1]; `validation` holds
    kappa and f1 of the validation part at it, NaN where that part holds one class only, so that none could be chosen.
    """

    name: str
    estimator: Any
    zscore: ZScore
    threshold: float
    pixels: int
    landslides: int
    validation: dict[str, float]


def fit_baseline(name: str, run: Run, data: TrainingData) -> Baseline:
    """Train a baseline on the ground of a run; everything follows from the run's training seed.

    Raises RunError for an unknown name and LabelError where the pixels drawn hold fewer than FEWEST of a class.
    """
    require_baseline(name)
    rng = np.random.default_rng(run.training.seed)
    candidates = training_ground(data.windows, data.label, data.valid)
    sample = _draw(candidates, rng)
    landslides = _require_both_classes(sample, data)
    with open_raster(data.stack.path) as dataset:
        zscore = fit(dataset, data.positions, data.channels, data.windows, data.valid)
        pixels = int(sample.sum())
        say(
            f"{name} on {len(data.channels)} channels: {pixels:,} of {int(candidates.sum()):,} training pixels, "
            f"{100 * landslides / pixels:.1f} % landslide"
        )
        x, y = _samples(dataset, data, zscore, sample)
        estimator = BASELINES[name](int(rng.integers(2**32)))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            estimator.fit(x, y)
        for text in dict.fromkeys(str(warning.message) for warning in caught):
            say(f"warning: {name}: {text}")
        # Threads would add up the trees' votes in any order, and change the last digits.
        if "n_jobs" in estimator.get_params():
            estimator.set_params(n_jobs=1)
        threshold, scores = _choose_threshold(run, data, dataset, zscore, estimator)
    return Baseline(
        name=name,
        estimator=estimator,
        zscore=zscore,
        threshold=threshold,
        pixels=pixels,
        landslides=landslides,
        validation=scores,
    )


def require_baseline(name: str) -> None:
    """Raise RunError for an unknown name, with the nearest known one."""
    if name not in BASELINES:
        refuse_unknown("baseline", name, list(BASELINES))


def map_baseline(baseline: Baseline, data: TrainingData, out: Path, overwrite: bool = False) -> MapResult:
    """Map the whole site into a float32 probability raster, NaN outside valid, holding one window in memory.

    `data` are those of the training. The raster's tags are those of `landslip map` as far as a baseline has them:
    threshold, and method, which is the baseline's name.
    """
    refuse_existing(out, overwrite)
    refuse_input(out, [data.stack.path, data.stack.valid_path])
    tags = {"threshold": repr(baseline.threshold), "method": baseline.name}
    grid = data.stack.grid
    windows = list(tiles(grid.shape, STORED_TILE))
    mapped = [window for window in windows if data.valid[window.slices].any()]
    with (
        open_raster(data.stack.path) as dataset,
        create_raster(
            out, grid, "float32", ["landslide probability"], nodata=float("nan"), tags=tags, overwrite=overwrite
        ) as target,
    ):
        for window in track(windows, len(windows), f"map {baseline.name}", "window"):
            valid = data.valid[window.slices]
            p = _probability(dataset, data, baseline.zscore, baseline.estimator, window=window, mask=valid)
            write_window(target, p[None], window)
    skipped = 1 - sum(window.area for window in mapped) / data.valid.size
    return MapResult(path=out, valid_pixels=int(data.valid.sum()), windows=len(mapped), skipped=skipped)


def size(estimator: Any) -> int:
    """How many numbers a trained baseline stores: nodes of its trees, or weights with the kernel's columns."""
    if isinstance(estimator, RandomForestClassifier):
        return sum(int(tree.tree_.node_count) for tree in estimator.estimators_)
    if isinstance(estimator, MLPClassifier):
        return sum(int(array.size) for array in (*estimator.coefs_, *estimator.intercepts_))
    kernel, calibrated = (step for _, step in estimator.steps)
    machine = calibrated.calibrated_classifiers_[0].estimator
    sigmoid = 2
    arrays = (kernel.components_, kernel.normalization_, machine.coef_, machine.intercept_)
    return sum(int(array.size) for array in arrays) + sigmoid


def _draw(candidates: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """At most BASELINE_SAMPLE of the (H, W) candidate pixels, drawn at random."""
    pixels = np.flatnonzero(candidates)
    if pixels.size <= BASELINE_SAMPLE:
        return candidates
    sample = np.zeros(candidates.shape, bool)
    sample.flat[rng.choice(pixels, BASELINE_SAMPLE, replace=False)] = True
    return sample


def _require_both_classes(sample: NDArray[np.bool_], data: TrainingData) -> int:
    """How many pixels of the sample are landslide; LabelError where it holds fewer than FEWEST of a class."""
    counts = {code: int((data.label[sample] == code).sum()) for code in (LANDSLIDE, OTHER)}
    if min(counts.values()) < FEWEST:
        raise LabelError(
            f"{data.stack.path.with_name('label.tif')}: the training pixels drawn hold {counts[LANDSLIDE]} of "
            f"landslide and {counts[OTHER]} of other ground, and a baseline needs {FEWEST} of each. Use another "
            "[split] seed or region, or map more ground."
        )
    return counts[LANDSLIDE]


def _samples(
    dataset: DatasetReader, data: TrainingData, zscore: ZScore, sample: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """(N, C) standardised channels and (N,) labels of the pixels of the (H, W) sample, window by window."""
    x, y = [], []
    for window in tiles(sample.shape, STORED_TILE):
        here = sample[window.slices]
        if here.any():
            x.append(_standardised(dataset, data, zscore, window, here))
            y.append(data.label[window.slices][here])
    return np.concatenate(x), np.concatenate(y)


def _standardised(
    dataset: DatasetReader, data: TrainingData, zscore: ZScore, window: Window, mask: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """(N, C) standardised channels of the pixels of (h, w) `mask` at a window."""
    values = zscore.apply(read_window(dataset, window, [position + 1 for position in data.positions]))
    return np.ascontiguousarray(values[:, mask].T)


def _probability(
    dataset: DatasetReader,
    data: TrainingData,
    zscore: ZScore,
    estimator: Any,
    *,
    window: Window,
    mask: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """(h, w) probability of landslide at a window, NaN outside `mask`."""
    probability = np.full(mask.shape, np.nan, np.float32)
    if mask.any():
        x = _standardised(dataset, data, zscore, window, mask)
        pieces = [estimator.predict_proba(x[i : i + PIECE])[:, 1] for i in range(0, len(x), PIECE)]
        probability[mask] = np.concatenate(pieces)
    return probability


def _choose_threshold(
    run: Run, data: TrainingData, dataset: DatasetReader, zscore: ZScore, estimator: Any
) -> tuple[float, dict[str, float]]:
    """The threshold that the run's criterion chooses on the validation part, and kappa and F1 at it."""
    by = run.training.threshold
    scored = (data.split.parts == VALIDATION) & data.valid & (data.label != UNKNOWN)
    windows = [window for window in tiles(scored.shape, STORED_TILE) if scored[window.slices].any()]
    counts = Histogram.empty()
    for window in track(windows, len(windows), "validation", "window"):
        part = scored[window.slices]
        p = _probability(dataset, data, zscore, estimator, window=window, mask=part)
        counts += Histogram.from_arrays(p, data.label[window.slices], part)
    threshold = counts.best_threshold(by) if isinstance(by, str) else by
    if not math.isfinite(threshold):
        say(f"warning: the validation part holds one class only, so the threshold is {DEFAULT_THRESHOLD}.")
        return DEFAULT_THRESHOLD, {"kappa": math.nan, "f1": math.nan}
    scores = counts.confusion(round(threshold, 3)).scores()
    return threshold, {name: scores[name] for name in ("kappa", "f1")}
