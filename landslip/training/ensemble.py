"""`landslip ensemble`: several trained models of one site as one, whose map is the mean of their logits.

Members may be folds, seeds or kinds of network. What they must share is what a map is made of: channels in the same
units, pixels, and windows. Nothing is trained here; `landslip calibrate` then chooses the threshold anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landslip.dataset.split import NONE, TEST, TRAIN, VALIDATION, leaky_of, leaky_tag, worst_leak
from landslip.errors import ModelError
from landslip.geo.geotiff import STORED_TILE, create_raster, write_window
from landslip.geo.grid import require_same_grid, tiles
from landslip.geo.raster import open_raster, read_info, read_stored_window
from landslip.models import ENSEMBLE, network_title
from landslip.runtime.atomic import atomic_files, refuse_existing, refuse_input
from landslip.runtime.disk import file_hash
from landslip.runtime.provenance import software
from landslip.training.checkpoint import Model, load_model, pixel_size, save_model, sites_of, split_of
from landslip.training.model_facts import MemberTable, NetworkTable, SplitTable, TrainingFacts
from landslip.training.model_files import FACTS, SPLIT, WEIGHTS
from landslip.training.training_pixels import PIXELS_FILE

AT_ONCE = 2 * STORED_TILE  # pixels a side of what is held of each split in memory
SURE = 1e-3  # thresholds lie this far from 0 and 1 at least, since their logits are averaged


def make_ensemble(folders: Sequence[Path], out: Path, overwrite: bool = False, *, half: bool = False) -> Model:
    """Write a model folder that maps by the mean logit of the models in `folders`; returns the model.

    Its threshold is the mean of theirs, as logits. Its training pixels are those of the first member, so that ground
    which only another has seen counts as unlike the training ground. Its split.tif is theirs where they share one;
    otherwise what any of them was trained on is training ground, and nothing that one of them saw is test ground.

    Raises ModelError for fewer than two models, one that is named twice or is an ensemble itself, other channels,
    units, pixels, windows or grids than the first one's, and what `load_model` refuses; OutputError where `out` holds a
    model (unless `overwrite`) or is one of them.
    """
    refuse_input(out, folders)
    refuse_existing(out / FACTS, overwrite)
    if len(folders) < 2:
        raise ModelError(f"an ensemble needs two models or more, not {len(folders)}. Name more model folders.")
    models = [load_model(folder) for folder in folders]
    first = models[0]
    seen: dict[str, Path] = {}
    for model in models:
        weights = model.facts["weights_sha256"]
        if weights in seen:
            raise ModelError(f"{model.folder} has the weights of {seen[weights]}. Name each member once.")
        seen[weights] = model.folder
        _require_like(first, model)
    splits = [split_of(model) for model in models]
    for path in splits[1:]:
        require_same_grid(read_info(splits[0]).grid, str(splits[0]), read_info(path).grid, str(path))
    shared = len({file_hash(path) for path in splits}) == 1
    facts = _facts(models, splits, shared=shared)
    weights_of = {
        f"members.{i}.network.{name}": tensor
        for i, model in enumerate(models)
        for name, tensor in model.network.state_dict().items()
    }
    names = [WEIGHTS, SPLIT, PIXELS_FILE, FACTS] if "training_pixels" in first.facts else [WEIGHTS, SPLIT, FACTS]
    with atomic_files(out, names) as aside:
        facts["split_sha256"] = _write_split(splits, facts["split"], aside, shared=shared)
        if PIXELS_FILE in names:
            shutil.copyfile(first.folder / PIXELS_FILE, aside / PIXELS_FILE)
        save_model(aside, weights_of, first.channels, first.zscore, _threshold(models), facts=facts, half=half)
    return load_model(out)


def _require_like(first: Model, model: Model) -> None:
    """Raise ModelError where a model cannot be a member beside the first; both values and the remedy are named."""
    folder = model.folder
    if model.network_name == ENSEMBLE:
        raise ModelError(f"{folder} is an ensemble itself, whose members would count less. Name its members instead.")
    here, there = ([(c.name, c.unit) for c in one.channels] for one in (model, first))
    if here != there:
        own, others = (", ".join(f"{name} ({unit})" if unit else name for name, unit in one) for one in (here, there))
        raise ModelError(
            f"{folder} sees the channels {own}, and {first.folder} {others}. Members see the same channels in the same "
            "units and order: train one of them again."
        )
    windows = [one.facts["run"]["blocks"]["window"] for one in (model, first)]
    if windows[0] != windows[1]:
        raise ModelError(
            f"{folder} was trained on windows of {windows[0]} px, and {first.folder} of {windows[1]} px. Members have "
            "windows of one size: train one of them again."
        )
    own, others = (_size_text(pixel_size(one)) for one in (model, first))
    if own != others:
        raise ModelError(
            f"{folder} was trained on pixels of {own}, and {first.folder} of {others}. Members see pixels of one size: "
            "train one of them again."
        )


def _size_text(size: tuple[float, float] | None) -> str:
    return "unknown size" if size is None else f"{size[0]:g} x {size[1]:g} m"


def _threshold(models: Sequence[Model]) -> float:
    """The threshold whose logit is the mean of the members'."""
    thresholds = np.clip([model.threshold for model in models], SURE, 1 - SURE)
    mean = float(np.log(thresholds / (1 - thresholds)).mean())
    return float(1 / (1 + np.exp(-mean)))


def _facts(models: Sequence[Model], splits: Sequence[Path], *, shared: bool) -> TrainingFacts:
    """What model.json says of an ensemble: what its members share, and of each what made it.

    `shared`: the members have one split.
    """
    first = models[0]
    network: NetworkTable = {"name": ENSEMBLE, "options": {"members": [_member(first, model) for model in models]}}
    sites = [site for model in models for site in sites_of(model) if site]
    different = [site for i, site in enumerate(sites) if site not in sites[:i]]
    facts: TrainingFacts = {
        "run": {**first.facts["run"], "network": network},
        "split": first.facts["split"] if shared else _split_table(models, splits),
        "pixel_size": pixel_size(first),
        "members": [_provenance(model) for model in models],
        "training_windows": max(model.facts.get("training_windows", 0) for model in models),
        "training_seconds": sum(model.facts.get("training_seconds", 0.0) for model in models),
        "peak_mib": max(model.facts.get("peak_mib", 0.0) for model in models),
        "software": software(),
        "site_inputs": different[0] if different else {},
        "earlier_site_inputs": different[1:],
    }
    for key in ("machine", "precision", "training_pixels"):
        if key in first.facts:
            facts[key] = first.facts[key]
    return facts


def _member(first: Model, model: Model) -> dict[str, object]:
    """What an `Ensemble` builds a member of, in the z-score of the first one."""
    table: dict[str, object] = {"name": model.network_name, "options": model.network_options}
    if model.scaling.temperature != 1:
        table["temperature"] = model.scaling.temperature
    if model.scaling.bias:
        table["bias"] = model.scaling.bias
    scale = first.zscore.std / model.zscore.std
    shift = (first.zscore.mean - model.zscore.mean) / model.zscore.std
    if (scale != 1).any() or shift.any():
        table |= {"scale": scale.tolist(), "shift": shift.tolist()}
    return table


def _provenance(model: Model) -> MemberTable:
    """What made a member, and what it reached on its own validation ground or in its folds."""
    facts = model.facts
    table: MemberTable = {
        "network": network_title(model.network_name),
        "weights_sha256": str(facts["weights_sha256"]),
        "threshold": model.threshold,
        "seed": facts.get("seed", 0),
        "chosen_epoch": facts.get("chosen_epoch", 0),
        "validation": facts.get("validation", {}),
    }
    if "folds" in facts:
        table["folds"] = facts["folds"]
    return table


def _split_table(models: Sequence[Model], splits: Sequence[Path]) -> SplitTable:
    """What model.json says of the members' several splits together."""
    leaky = worst_leak(leaky_of(read_info(path).tags) for path in splits)
    return {"kind": ENSEMBLE, "leaky": leaky, "guard": min(model.facts["split"]["guard"] for model in models)}


def _write_split(splits: Sequence[Path], table: SplitTable, folder: Path, *, shared: bool) -> str:
    """Write split.tif: the members' where they share one, else all they saw together; returns its SHA-256."""
    path = folder / SPLIT
    if shared:
        shutil.copyfile(splits[0], path)
        return file_hash(path)
    info = read_info(splits[0])
    tags = {
        "split": table["kind"],
        "leaky": leaky_tag(table["leaky"]),
        "guard": str(table["guard"]),
        "window": info.tags.get("window", ""),
    }
    with (
        ExitStack() as open_files,
        create_raster(path, info.grid, "uint8", ["part"], nodata=None, tags=tags, compress=True) as target,
    ):
        readers = [open_files.enter_context(open_raster(split)) for split in splits]
        for window in tiles(info.grid.shape, AT_ONCE):
            parts = np.stack([read_stored_window(reader, window) for reader in readers])
            write_window(target, together(parts)[None], window)
    return file_hash(path)


def together(parts: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w) parts of an ensemble, of those (members, h, w) of its members.

    What one of them was trained or validated on is so for all, and test ground is what none of them has seen.
    """
    seen = np.where((parts == TRAIN).any(0), TRAIN, np.where((parts == VALIDATION).any(0), VALIDATION, NONE))
    return np.where((parts == TEST).all(0), TEST, seen).astype(np.uint8)
