"""How long trainings will take, before they begin: a few batches of each network are timed on the site itself.

What is counted of a run: every step and every look at validation ground, the map of the validation part that chooses
the threshold, the map of the site, and the start of two processes. What is not: pixel baselines, whose fits are not
made of steps, and scores. Mapping is counted at PyTorch's pace; by OpenVINO it takes about half of that.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from landslip.config.run import Run, settled
from landslip.dataset.blocks import Blocks
from landslip.dataset.training_data import TrainingData, build_training_data
from landslip.dataset.zscore import ZScore
from landslip.geo.raster import open_raster
from landslip.geo.tiling import cell_size, cells_holding, plan_tiles
from landslip.models.forward import keep_memory, precision
from landslip.runtime.progress import duration, plural
from landslip.training.loop import train_network
from landslip.training.site_blocks import SiteBlocks
from landslip.training.threshold import AT_ONCE
from landslip.training.train import start

STARTS = 2  # processes of a run, of which one trains and one maps
TIMING = 20.0  # seconds of timing in all; a network whose single step takes longer than its share is timed by that step
TIMED = 3  # batches that a network's pace is taken from
SCALED = 1e6  # what values are divided by, since fitting a z-score would read the site and timing needs none


@dataclass(frozen=True)
class Size:
    """How much ground a run goes over: training windows, validation windows, and pixels that are read to map it."""

    windows: int
    validation: int
    mapped: int


@dataclass(frozen=True)
class Pace:
    """Seconds that a network takes to train on one window, in batches, and to look at one validation window."""

    step: float
    look: float


def size_of(data: TrainingData) -> Size:
    """How much ground a run goes over; its pixels are those of both maps, of the validation part and of all ground."""
    cell = cell_size(1)
    read = 0
    for mask in (data.scored(), data.valid):
        plan = plan_tiles(mask.shape, cells_holding(mask, cell), 1, AT_ONCE)
        read += len(plan.tasks) * math.prod(plan.read)
    return Size(len(data.windows), len(data.validation), read)


def paces(runs: Sequence[Run], prepared: Path) -> tuple[dict[str, Pace], float]:
    """The pace of each run's network, by its name, and the seconds that it took to time them.

    They are timed one after another on the ground of the first run. That takes about TIMING seconds, and more where a
    single step of a network takes longer than its share of them.
    """
    began = time.monotonic()
    data = build_training_data(runs[0], prepared)
    by_network = {}
    with open_raster(data.stack.path) as dataset:
        count = len(data.positions)
        zscore = ZScore(np.zeros(count), np.full(count, SCALED))
        blocks = Blocks(dataset, data.positions, zscore, data.valid, data.label)
        for run in runs:
            by_network[run.network.name] = _measure_pace(settled(run), data, blocks, TIMING / len(runs))
    return by_network, time.monotonic() - began


def seconds_of(run: Run, size: Size, pace: Pace, start: float) -> float:
    """Seconds that a run of a network takes; `start` is what one of its processes takes to start."""
    pixel = pace.look / run.blocks.window**2
    return (
        STARTS * start
        + run.training.last * (size.windows * pace.step + size.validation * pace.look)
        + size.mapped * pixel
    )


def forecast_table(seconds: Sequence[tuple[str, float]], unmeasured: Sequence[str]) -> str:
    """A line per network with its runs and their time together, then all; `unmeasured` runs are counted and named."""
    names = ", ".join(dict.fromkeys(unmeasured))
    untimed = f"{plural(len(unmeasured), 'run')} of {names}, which are not timed beforehand"
    if not seconds:
        return untimed
    lines = []
    for name in dict.fromkeys(name for name, _ in seconds):
        of_network = [took for method, took in seconds if method == name]
        lines.append(f"  {name}: {plural(len(of_network), 'run')}, about {duration(sum(of_network))}")
    total = f"in all about {duration(sum(took for _, took in seconds))}"
    return "\n".join([*lines, f"{total}, and {untimed}" if unmeasured else total])


def _measure_pace(run: Run, data: TrainingData, blocks: Blocks, most: float) -> Pace:
    """Time a few batches of a run's network; nothing is kept.

    The first batch counts only where it alone takes `most` seconds.
    """
    keep_memory()
    arithmetic, batch = precision(run.training.precision), run.training.batch
    few = replace(data, windows=data.windows[:batch], validation=data.validation[:batch])
    state, began = start(run, data, None), time.monotonic()
    timed = run.training.model_copy(update={"epochs": 1 + TIMED})
    epochs = train_network(state, SiteBlocks(few, blocks, run), timed, arithmetic)
    seconds: list[tuple[float, float]] = []  # Of a step and of a look, for one window.
    while len(seconds) < 1 + TIMED and (not seconds or time.monotonic() - began < most):
        begun = time.monotonic()
        next(epochs)
        steps = state.history[-1]["seconds"]
        looks = time.monotonic() - begun - steps
        seconds.append((steps / len(few.windows), looks / max(len(few.validation), 1)))
    step, look = np.mean(seconds[1:] or seconds, axis=0)
    return Pace(float(step), float(look))
