"""A model folder: model.safetensors (weights) and model.json (all that is needed to rebuild and to use them).

Nothing is pickled, so loading a model never runs code. torch is imported where weights are read or written, so that a
refusal that follows from model.json alone does not wait for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from pydantic import BaseModel
from safetensors import SafetensorError

from landslip.config.run import BlockChoice, NetworkChoice, Run
from landslip.dataset.channels import DISPLAY, UNSTATED, Channel, StackInfo
from landslip.dataset.zscore import ZScore
from landslip.errors import ChannelError, LandslipError, ModelError, RunError
from landslip.geo.grid import metric_size
from landslip.geo.raster import read_info
from landslip.models import ENSEMBLE, build_model, torch_only
from landslip.models.scaling import AS_LEARNT, Scaling, require_sound
from landslip.runtime.atomic import atomic_write, refuse_existing
from landslip.runtime.disk import file_hash
from landslip.runtime.run_folder import part_meant
from landslip.runtime.text import read_json, write_json
from landslip.training.model_facts import ChannelTable, ModelFacts, RunTable, TrainingFacts
from landslip.training.model_files import FACTS, SPLIT, STATE, WEIGHTS

if TYPE_CHECKING:
    import torch

SITE_INPUTS = ("stack.tif", "valid.tif", "label.tif", "split.tif")  # files by whose hashes a prepared site is known
TABLES = ("run", "site_inputs", "split", "validation", "machine", "software")  # of model.json, where it has them
FORMAT = 1  # of model.json
FLOAT32_MAX = float(np.finfo(np.float32).max)  # means and deviations lie below it, since the network takes float32


class _Shape(BaseModel):
    """What mapping needs of a model's run, whose other choices may be those of another version."""

    network: NetworkChoice
    blocks: BlockChoice


@dataclass(frozen=True)
class Model:
    """A trained network with the channels and statistics it was trained on.

    `facts` is all of model.json: run, split, threshold, seed, scores, versions, machine, input hashes. `scaling`
    makes probabilities of logits: as learnt until `landslip calibrate` has fitted another.
    """

    folder: Path
    network: torch.nn.Module
    channels: tuple[Channel, ...]
    zscore: ZScore
    threshold: float
    facts: ModelFacts
    scaling: Scaling = AS_LEARNT

    @property
    def multiple(self) -> int:
        """Rows and columns of what the network takes are multiples of this."""
        return cast(int, self.network.multiple)

    @property
    def network_name(self) -> str:
        """The name of the network, as run files have it: a key of NETWORKS, or ENSEMBLE."""
        return self.facts["run"]["network"]["name"]

    @property
    def network_options(self) -> dict[str, object]:
        """The options that the network was built with."""
        return self.facts["run"]["network"].get("options") or {}


def load_model(folder: Path | str) -> Model:
    """Rebuild a model from its folder alone; ModelError where it is missing, altered or of another format."""
    folder = Path(folder)
    facts = read_facts(folder)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise ModelError(
            f"{weights} is not there, or no file: the model folder is not whole. Copy it again or train it again."
        )
    sha256 = file_hash(weights)
    if sha256 != facts["weights_sha256"]:
        raise ModelError(
            f"{weights} is not the file that {FACTS} describes (SHA-256 {sha256[:12]}, not "
            f"{str(facts['weights_sha256'])[:12]}): it is truncated or altered. Copy the model folder again."
        )
    import torch
    from safetensors.torch import load as load_tensors

    try:
        channels = _channels(facts)
        zscore = ZScore(np.array(facts["mean"], float), np.array(facts["std"], float))
        chosen = _Shape.model_validate(facts["run"]).network
        threshold = float(facts["threshold"])
        scaling = Scaling(float(facts.get("temperature", 1)), float(facts.get("bias", 0)))
        _require_sound(channels, zscore, threshold)
        require_sound(scaling, "its")
        with torch.device("meta"):  # where a network takes no memory, whatever sizes the description claims
            network = build_model(chosen.name, len(channels), **chosen.options)
        tensors = load_tensors(weights.read_bytes())
        tensors = {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}
        network.load_state_dict(tensors, assign=True)
        if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            raise ValueError("its weights are not all finite")
    except (LandslipError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{folder} does not hold a model that this version can read ({reason}). Copy the model folder again, or "
            "train it again."
        ) from error
    with suppress(ValueError):  # keys that this version has added take their defaults
        facts["run"] = run_table(Run.model_validate(facts["run"]))
    return Model(
        folder=folder,
        network=network.eval(),
        channels=channels,
        zscore=zscore,
        threshold=threshold,
        facts=facts,
        scaling=scaling,
    )


def read_facts(folder: Path) -> ModelFacts:
    """What model.json says; ModelError where it is missing, no description of a model, or of another format."""
    path = folder / FACTS
    if not path.exists():
        advice = part_meant(folder, "model", FACTS) or " Train one with `landslip train`."
        raise ModelError(f"{folder} is not a model folder: it has no {FACTS}.{advice}")
    try:
        facts = read_json(path)
        version = facts["format"]
        _ = facts["weights_sha256"]
        tables = [(name, facts[name]) for name in TABLES if name in facts]
        tables += [("earlier_site_inputs", site) for site in facts.get("earlier_site_inputs", [])]
        for name, table in tables:
            if not isinstance(table, dict):
                raise ValueError(f"its {name} is a {type(table).__name__}, and no table")
            if name.endswith("site_inputs") and not {*table} <= {*SITE_INPUTS}:
                raise ValueError(f"its {name} names {min({*table} - {*SITE_INPUTS})}, which is no input of a site")
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ModelError(
            f"{path} is not a model description ({str(error)[:200]}). Copy the model folder again, or train it again."
        ) from error
    if version != FORMAT:
        raise ModelError(
            f"{path} has format {version!r}; this version of landslip reads {FORMAT}. Train the model again."
        )
    return cast(ModelFacts, facts)


def save_model(
    folder: Path,
    weights: dict[str, torch.Tensor],
    channels: tuple[Channel, ...],
    zscore: ZScore,
    threshold: float,
    *,
    facts: TrainingFacts,
    overwrite: bool = False,
    half: bool = False,
) -> None:
    """Write a model folder's two files.

    `facts` are added to model.json after the model's own entries. `half` stores the weights, but not the running
    statistics, in half precision. Raises OutputError where the weights exist (unless `overwrite`).
    """
    from safetensors.torch import save as save_tensors

    tensors = {name: _stored(name, tensor, half) for name, tensor in weights.items()}
    with atomic_write(folder / WEIGHTS, overwrite) as aside:
        aside.write_bytes(save_tensors(tensors))
    description: ModelFacts = {
        "format": FORMAT,
        "channels": cast(list[ChannelTable], [asdict(channel) for channel in channels]),
        "mean": zscore.mean.tolist(),
        "std": zscore.std.tolist(),
        "threshold": threshold,
        "weights_sha256": file_hash(folder / WEIGHTS),
        **facts,
    }
    write_json(folder / FACTS, description, overwrite=True)


def save_changed_model(model: Model, folder: Path, facts: ModelFacts, overwrite: bool = False) -> None:
    """Write a model's folder anew with other facts: the weights byte for byte, model.json last."""
    refuse_existing(folder / FACTS, overwrite)
    # Weights without model.json were left by a killed run, and may be replaced.
    with atomic_write(folder / WEIGHTS, overwrite=True) as aside:
        aside.write_bytes((model.folder / WEIGHTS).read_bytes())
    write_json(folder / FACTS, facts, overwrite)


def run_table(run: Run) -> RunTable:
    """A run as model.json holds it: without what a comparison chooses."""
    return cast(RunTable, run.model_dump(mode="json", exclude={"compare"}))


def run_of(model: Model) -> Run:
    """The run that a model was trained by; ModelError where another version knew choices that this one does not.

    To map with a model takes its network and blocks alone; to train as it was trained takes all of it.
    """
    try:
        return Run.model_validate(model.facts["run"])
    except ValueError as error:
        raise ModelError(
            f"{model.folder / FACTS} holds a run that this version cannot repeat "
            f"({' '.join(str(error).split())[:200]}). The model maps as it is; for this, train it again."
        ) from error


def require_portable(model: Model) -> None:
    """Raise RunError where no other program than PyTorch can run a model's network."""
    title, what = torch_only(model.network_name, model.network_options)
    if what:
        is_a = "has a member" if model.network_name == ENSEMBLE else "is a"
        raise RunError(
            f"{model.folder} {is_a} {title}, whose {what} only PyTorch has: there is no ONNX, OpenVINO or int8 form of "
            "it. Map it with `landslip map --engine torch`, or train another network."
        )


def sites_of(model: Model) -> list[dict[str, str]]:
    """SHA-256 by file name of each site that a model was trained on: its own first, then those of what it began as."""
    return [model.facts.get("site_inputs", {}), *model.facts.get("earlier_site_inputs", [])]


def split_of(model: Model) -> Path:
    """The split.tif that a model was trained by; ModelError where it is missing or another than model.json names.

    Models of earlier versions name none, and theirs is taken as it is.
    """
    path = model.folder / SPLIT
    if not path.exists():
        raise ModelError(
            f"{path} does not exist, so that nobody knows what ground {model.folder} was trained on. Copy it from "
            "where the model was trained, or train it again."
        )
    named = model.facts.get("split_sha256")
    sha256 = file_hash(path)
    if named is not None and sha256 != named:
        raise ModelError(
            f"{path} is not the split that {model.folder} was trained by (SHA-256 {sha256[:12]}, and {FACTS} says "
            f"{str(named)[:12]}), so that its parts are another model's. Copy the model folder again, or train it "
            "again."
        )
    return path


def pixel_size(model: Model) -> tuple[float, float] | None:
    """Width and height in metres of the pixels that a model was trained on, from model.json or else its split.tif.

    None where neither is there, whole, and in metres.
    """
    with suppress(TypeError, ValueError):
        width, height = (float(side) for side in model.facts.get("pixel_size") or ())
        if 0 < width < math.inf and 0 < height < math.inf:
            return width, height
    with suppress(LandslipError):  # where split.tif is missing, or another model's
        return metric_size(read_info(split_of(model)).grid)
    return None


def match_channels(model: Model, stack: StackInfo) -> list[int]:
    """Where each of the model's channels is in a stack; ChannelError where they do not match."""
    return find_channels(model.channels, f"the model {model.folder}", stack)


def find_channels(channels: Sequence[Channel], trained: str, stack: StackInfo) -> list[int]:
    """Where each of a model's channels is in a stack.

    `trained` is the model in words. Raises ChannelError where a channel is missing or in another unit.
    """
    names = [channel.name for channel in stack.channels]
    required = [channel.name for channel in channels]
    missing = [name for name in required if name not in names]
    if missing:
        raise ChannelError(
            f"{stack.path} lacks {', '.join(missing)}: {trained} was trained on {', '.join(required)}; "
            f"the stack has {', '.join(names)}. Prepare the site with these channels, or use another model."
        )
    positions = [names.index(name) for name in required]
    for channel, position in zip(channels, positions, strict=True):
        here = stack.channels[position]
        _require_unit(channel, trained, here, stack.path)
        if here.unit and channel.unit and here.unit != channel.unit:
            raise ChannelError(
                f"{stack.path}: channel {channel.name} is in {here.unit}, and {trained} was trained on "
                f"{channel.unit}. {_way_to(channel.unit)}"
            )
    return positions


def require_channels(folder: Path, stack: StackInfo) -> None:
    """Raise ChannelError where a stack lacks what the model of a folder takes, before its weights are read."""
    facts = read_facts(folder)
    try:
        channels = _channels(facts)
    except (ChannelError, KeyError, TypeError):
        return  # `load_model` says what is wrong with it
    find_channels(channels, f"the model {folder}", stack)


def refuse_trained(folder: Path, overwrite: bool) -> None:
    """Raise OutputError where a model folder holds a finished model and no training that may go on."""
    if not (folder / STATE).exists():
        refuse_existing(folder / FACTS, overwrite)


def _stored(name: str, tensor: torch.Tensor, half: bool) -> torch.Tensor:
    """A tensor as a model folder holds it."""
    tensor = tensor.detach().contiguous().cpu()
    if half and tensor.is_floating_point() and "running_" not in name:
        return tensor.half()
    return tensor


def _channels(facts: ModelFacts) -> tuple[Channel, ...]:
    """The channels that model.json describes."""
    return tuple(Channel(**channel) for channel in facts["channels"])


def _require_unit(channel: Channel, trained: str, here: Channel, path: Path) -> None:
    """Raise ChannelError where nobody knows what values a model was trained on, and the stack's are others."""
    if channel.unit == here.unit or channel.unit not in (DISPLAY, UNSTATED):
        return
    what = {
        DISPLAY: "8-bit values made to be looked at, which no scene holds: it maps the patches it was trained on and "
        "nothing else. Train a model on reflectance",
        UNSTATED: "patches whose unit nobody stated. Say in their patches.toml what they hold, import them again and "
        "train on them",
    }[channel.unit]
    raise ChannelError(
        f"{path}: channel {channel.name} is in {here.unit or 'no stated unit'}, and {trained} was trained on {what}."
    )


def _way_to(unit: str) -> str:
    """What to do about a stack that is in another unit than the model's, in words."""
    remedy = "Prepare the site in the model's unit"
    if not unit.endswith("reflectance"):
        return f"{remedy}."
    return (
        f"{remedy}: give the [[image]] the scale and offset that make reflectance of its values (1 and 0 where they "
        f'are reflectance already), or, where they are what the model was trained on, unit = "{unit}".'
    )


def _require_sound(channels: tuple[Channel, ...], zscore: ZScore, threshold: float) -> None:
    """Raise ValueError where model.json holds numbers that no training writes."""
    names = [channel.name for channel in channels]
    if len(set(names)) < len(names):
        raise ValueError("two of its channels have one name")
    if not zscore.mean.shape == zscore.std.shape == (len(names),):
        raise ValueError(f"{len(names)} channels, {zscore.mean.size} means and {zscore.std.size} deviations")
    if not ((np.abs(zscore.mean) < FLOAT32_MAX).all() and ((zscore.std > 0) & (zscore.std < FLOAT32_MAX)).all()):
        raise ValueError("its means and deviations are not all numbers, or a deviation is not above 0")
    if not 0 <= threshold <= 1:
        raise ValueError(f"its threshold {threshold} is not between 0 and 1")
