"""Whether the ground of a stack is like that a model was trained on: looked at before every map, on a sample of it.

A scene of another scale, unit or pixel size has the right names and maps without a fault, into nonsense. So some four
thousand pixels are drawn from the stack, and compared with what travels with the model: the training pixels, or only
their means and deviations where an earlier version trained it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landslip.dataset.channels import Channel, StackInfo
from landslip.errors import ChannelError, ModelError
from landslip.factors.table import FACTORS
from landslip.geo.grid import Window, metric_size
from landslip.geo.raster import open_raster, read_around
from landslip.metrics.applicability import Applicability, fit_applicability
from landslip.metrics.training_range import (
    MOST_OUTSIDE,
    WARNING,
    Ends,
    is_same_size,
    range_of_moments,
    range_of_pixels,
    share_outside,
)
from landslip.runtime.disk import file_hash
from landslip.training.checkpoint import Model, match_channels, pixel_size, sites_of
from landslip.training.training_pixels import TrainingPixels, read_training_pixels

SAMPLED_PIXELS = 4096  # pixels drawn from a stack
SAMPLED_CELLS = 32  # cells of the raster that they are drawn from, each of which costs the reading of a stored block
MOST_TRIED = 8  # where most cells hold nothing valid, so many times SAMPLED_CELLS are looked at
SAMPLE_SEED = 0  # the same pixels are drawn at every call
NAMED_CHANNELS = 4  # channels that a message names at most


def sample_pixels(
    stack: StackInfo, positions: Sequence[int], valid_path: Path | None, needed: NDArray[np.bool_], cell: int
) -> NDArray[np.float32]:
    """(N, C) values of valid pixels at `positions` of the stack's channels, at most 4,096, the same at every call.

    They are drawn from 32 of the cells (squares of `cell` pixels) that are `needed`, (rows, columns), so that what is
    read does not grow with the raster. What is stored damaged counts as undefined. N is 0 where nothing valid is found.
    """
    rng = np.random.default_rng(SAMPLE_SEED)
    places = rng.permutation(np.flatnonzero(needed))[: MOST_TRIED * SAMPLED_CELLS]
    most = SAMPLED_PIXELS // max(min(SAMPLED_CELLS, len(places)), 1)
    bands = [position + 1 for position in positions]
    samples: list[NDArray[np.float32]] = []
    with ExitStack() as open_files:
        dataset = open_files.enter_context(open_raster(stack.path))
        valid = None if valid_path is None else open_files.enter_context(open_raster(valid_path))
        for place in places.tolist():
            if len(samples) == SAMPLED_CELLS:
                break
            row, column = divmod(place, needed.shape[1])
            window = Window(row * cell, column * cell, cell, cell).clip(stack.grid.shape)
            inside = np.ones((window.height, window.width), bool)
            if valid is not None:
                inside = read_around(valid, window)[0][0] == 1
            if not inside.any():
                continue
            values = read_around(dataset, window, bands)[0]
            inside &= ~np.isnan(values).any(axis=0)
            pixels = values[:, inside].T
            if len(pixels) > most:
                pixels = pixels[rng.choice(len(pixels), most, replace=False)]
            if len(pixels):
                samples.append(pixels)
    return np.concatenate(samples) if samples else np.empty((0, len(bands)), np.float32)


def require_similar_ground(
    model: Model,
    stack: StackInfo,
    valid_path: Path | None,
    *,
    needed: NDArray[np.bool_],
    cell: int,
    accept_range: bool = False,
    area: Applicability | None = None,
) -> dict[str, str]:
    """Warnings, by the name of the tag that holds each, of what makes a stack's ground unlike the training ground.

    `warning_pixel_size`: pixels of another size. `warning_range`: terrain, distances, classes or further factors of
    which most of a sample (`sample_pixels`) lies outside the training range. `warning_applicability`: most of the
    sample lies outside the area of applicability, `area` or that of the model's own training pixels. Raises
    ChannelError where most of the sample lies outside the range of a band or an index, with both ranges; with
    `accept_range` that is `warning_accepted_range`, on the model's own site `warning_range_of_bands`: training windows
    lie around landslides, so that a site of mostly sea or ice differs from them itself.
    """
    warnings = _pixel_size_warning(model, stack)
    positions = match_channels(model, stack)
    sample = sample_pixels(stack, positions, valid_path, needed, cell)
    if not len(sample):  # mapping says whether nothing is valid or nothing can be read
        return _tagged(warnings)
    pixels = None
    if "training_pixels" in model.facts:
        try:
            pixels = read_training_pixels(model)
        except ModelError as error:  # the weights are whole, and can map
            warnings["training_pixels"] = f"ranges are taken from means and deviations alone: {error}"
    standardised = model.zscore.apply(sample.T[:, :, None])[:, :, 0].T
    warnings |= _range_warnings(
        model, stack, sample, standardised=standardised, ends=training_range(model, pixels), accept_range=accept_range
    )
    share = _share_inapplicable(model, pixels, area, standardised)
    if share > MOST_OUTSIDE:
        warnings["applicability"] = (
            f"{100 * share:.0f} % of a sample of {len(sample):,} pixels lies outside the area of applicability: ground "
            "unlike what the model was trained on (--uncertainty maps where)"
        )
    return _tagged(warnings)


def follows_scale(channel: Channel) -> bool:
    """Whether a channel is a band or an index: read at another scale its images hold other values."""
    return channel.group == "band" or (channel.factor in FACTORS and FACTORS[channel.factor].source == "bands")


def training_range(model: Model, pixels: TrainingPixels | None) -> Ends:
    """What each channel held on the training ground, standardised: lower and upper ends, (C,) each; NaN if unknown."""
    zscored = np.array([channel.standardised for channel in model.channels])
    if pixels is None:
        mean, deviation = model.zscore.mean, model.zscore.std
        low, high = range_of_moments(mean, deviation, np.array([c.group == "band" for c in model.channels]))
        low, high = (low - mean) / deviation, (high - mean) / deviation
        unknown = ~zscored
    else:
        low, high = range_of_pixels(pixels.values)
        unknown = zscored & (low == high)  # channels of one value all over, as training has warned
    low[unknown] = high[unknown] = np.nan
    return low, high


def _pixel_size_warning(model: Model, stack: StackInfo) -> dict[str, str]:
    """A warning of pixels of another size than the model was trained on; none where either size is not known."""
    trained, here = pixel_size(model), metric_size(stack.grid)
    if trained is None or here is None or is_same_size(trained, here):
        return {}
    return {
        "pixel_size": (
            f"pixels of {here[0]:g} x {here[1]:g} m, and the model was trained on {trained[0]:g} x {trained[1]:g} m: "
            "it sees landslides of other sizes, in pixels, than it learnt"
        )
    }


def _range_warnings(
    model: Model,
    stack: StackInfo,
    sample: NDArray[np.float32],
    *,
    standardised: NDArray[np.float32],
    ends: Ends,
    accept_range: bool,
) -> dict[str, str]:
    """Warnings of channels of which most of the (N, C) sample lies outside the training range.

    Raises ChannelError where one is a band or an index, as `require_similar_ground` says.
    """
    shares = share_outside(standardised, ends)
    outside = np.flatnonzero(shares > MOST_OUTSIDE).tolist()

    def named(chosen: Sequence[int]) -> str:
        return _named(model, sample, shares, ends, chosen)

    strict = [i for i in outside if follows_scale(model.channels[i])]
    if strict and not accept_range and not _is_own(model, stack):
        raise ChannelError(
            f"{stack.path}: most of a sample of {len(sample):,} pixels lies outside the range that {model.folder} was "
            f"trained on: {named(strict)}. Is the scale, offset or unit of its images another than at the model's "
            "site? Prepare the site as that was, or go on with --accept-range."
        )
    warnings = {}
    loose = [i for i in outside if i not in strict]
    for kind, chosen in (("accepted_range" if accept_range else "range_of_bands", strict), ("range", loose)):
        if chosen:
            warnings[kind] = (
                f"most of a sample of {len(sample):,} pixels lies outside the range of the training ground: "
                f"{named(chosen)}"
            )
    return warnings


def _is_own(model: Model, stack: StackInfo) -> bool:
    """Whether a model was trained on a stack; asked only where it would be refused, since the file is hashed."""
    hashes = {site["stack.tif"] for site in sites_of(model) if "stack.tif" in site}
    return stack.path.is_file() and file_hash(stack.path) in hashes


def _tagged(warnings: dict[str, str]) -> dict[str, str]:
    """Warnings by the names of their tags."""
    return {f"{WARNING}{kind}": text for kind, text in warnings.items()}


def _named(
    model: Model, sample: NDArray[np.float32], shares: NDArray[np.float64], ends: Ends, chosen: Sequence[int]
) -> str:
    """Channels with their share outside and both ranges, in the channel's unit, for messages."""
    low, high = (end * model.zscore.std + model.zscore.mean for end in ends)
    here = range_of_pixels(sample)
    texts = []
    for i in chosen[:NAMED_CHANNELS]:
        channel = model.channels[i]
        texts.append(
            f"{channel.name} {100 * shares[i]:.0f} % ({here[0][i]:.4g} to {here[1][i]:.4g}, trained on {low[i]:.4g} to "
            f"{high[i]:.4g}{f' {channel.unit}' if channel.unit else ''})"
        )
    return ", ".join(texts) + (f" and {len(chosen) - NAMED_CHANNELS} more" if len(chosen) > NAMED_CHANNELS else "")


def _share_inapplicable(
    model: Model, pixels: TrainingPixels | None, area: Applicability | None, standardised: NDArray[np.float32]
) -> float:
    """Share of (N, C) pixels outside the area of applicability; NaN where it is not known."""
    if area is None and pixels is not None:
        try:
            area = fit_applicability(pixels.values, pixels.folds, [channel.factor for channel in model.channels])
        except ModelError:  # the training pixels are all alike
            return float("nan")
    if area is None:
        return float("nan")
    return 1 - float(area.inside(area.index(np.ascontiguousarray(standardised))).mean())
