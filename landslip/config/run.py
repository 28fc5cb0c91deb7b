"""Run files: the choices of a run (channels, blocks, split, network, training), with their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from landslip.config.strict import Strict, validated
from landslip.errors import RunError
from landslip.models import NETWORKS, NetworkFacts
from landslip.runtime.text import read_json, read_toml

PAPER_TRAINING: dict[str, str | float | bool] = {
    "epochs": 100,
    "batch": 2,
    "learning_rate": 1e-4,
    "schedule": "constant",
    "weight_decay": 0.0,
    "initial": "positive-unit-ball",
    "prior_bias": False,
    "loss": "bce",
    "augment": False,
    "average": 0.0,
    "choose": "last",
    "threshold": 0.5,
    "precision": "fp32",
}


def _listed(value: Any) -> Any:
    """One name, or several with commas between them, as the list that they stand for."""
    if isinstance(value, str) and value not in ("all", "none"):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return value


Listed = BeforeValidator(_listed)
Options = dict[str, JsonValue]  # of a network, by the name that its builder gives them


class ChannelChoice(Strict):
    """[channels]: bands and factors the network sees; "all", or names of bands and factors."""

    bands: Annotated[Literal["all", "none"] | tuple[str, ...], Listed] = "all"
    factors: Annotated[Literal["all", "none"] | tuple[str, ...], Listed] = "all"


class BlockChoice(Strict):
    """[blocks]: windows of `window` pixels on a lattice of `step` that hold a drawn landslide pixel.

    `seeds`: how many landslide pixels are drawn at random ("all": every one). `background`: windows without a
    landslide that are added, as a share of the seeded ones.
    """

    window: int = Field(64, ge=16, le=1024)
    step: int = Field(32, ge=1)
    seeds: Literal["all"] | Annotated[int, Field(ge=1)] = "all"
    background: float = Field(0.0, ge=0)


class SplitChoice(Strict):
    """[split]: how the ground is divided; drawn from its own seed, so that trainings of several seeds share it.

    `apart`: parts are unions of regions, `guard` pixels apart. `paper`: random windows, leaky. `given`: split.tif in
    the prepared folder. `all`: no validation and no test part; epochs and threshold must be given, or come from the
    folds of a ladder (`landslip train --folds`).

    `folds` of an `apart` split: whole regions in so many groups, of which group `fold` (from 0) is the test part;
    `train` and `validation` then share the rest in their proportion.
    """

    kind: Literal["apart", "paper", "given", "all"] = "apart"
    regions: Literal["squares", "pieces"] = "squares"
    region: int = Field(128, ge=16, description="side of a square, pixels")
    guard: int | None = Field(None, ge=0, description="pixels; default: the window")
    train: float = Field(0.6, gt=0, lt=1)
    validation: float = Field(0.15, gt=0, lt=1)
    folds: int = Field(1, ge=1, le=100)
    fold: int = Field(0, ge=0)
    seed: int = Field(0, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _leaves_a_test(self) -> SplitChoice:
        if self.train + self.validation >= 1:
            raise ValueError(f"train {self.train} and validation {self.validation} leave nothing to test on")
        if self.fold >= self.folds:
            raise ValueError(f"fold {self.fold} is none of {self.folds} folds, which are counted from 0")
        if self.folds > 1 and self.kind != "apart":
            raise ValueError(f'folds are groups of whole regions and kind is "{self.kind}": folds need kind "apart"')
        return self


class NetworkChoice(Strict):
    """[network]: its name, and options that its builder takes."""

    name: str = "fc_densenet"
    options: Options = {}


class TrainingChoice(Strict):
    """[training]: how the weights are found. `recipe = "paper"` sets the paper's IV.A for what is not given.

    With `patience` training ends before `epochs` where the mean validation score of so many epochs is no higher than
    that of as many before. A one-cycle schedule is cut short by it, before its small steps: it goes with "constant".
    """

    recipe: Literal["best", "paper"] = "best"
    epochs: int = Field(40, ge=1)
    end: int | None = Field(None, ge=1, description="epoch after which training ends, of a schedule of `epochs`")
    batch: int = Field(8, ge=1, le=2**16)
    learning_rate: float | None = Field(None, gt=0, description="None: as `settled` chooses it for the network")
    schedule: Literal["constant", "one-cycle"] = "one-cycle"
    weight_decay: float = Field(1e-4, ge=0)
    initial: Literal["he", "positive-unit-ball"] = "he"
    prior_bias: bool = Field(True, description="start from the share of landslide pixels, not from one half")
    loss: Literal["bce", "bce+dice", "focal", "boundary"] = "bce"
    augment: bool = True
    average: float = Field(0.99, ge=0, lt=1, description="decay of the moving average of the weights; 0: none")
    choose: Literal["best", "last"] = "best"
    patience: int = Field(0, ge=0, description="epochs without gain after which training ends; 0: it never does")
    threshold: Literal["f1", "kappa"] | Annotated[float, Field(ge=0, le=1)] = "kappa"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = Field(0, ge=0, lt=2**63)

    @property
    def last(self) -> int:
        """The epoch after which training ends."""
        return min(self.end or self.epochs, self.epochs)

    @property
    def rate(self) -> float:
        """The learning rate of a settled run."""
        assert self.learning_rate is not None
        return self.learning_rate


class AugmentationChoice(Strict):
    """[augmentation]: how blocks are varied by chance in training, beside turning; 0 leaves a thing as it is.

    `gamma`, `contrast` and `brightness` of each band of a block are drawn from normal distributions of these deviations
    (of the logarithm for the first two, and in the band's own deviations for the last). `offset` moves elevation and
    distances of a block by one number of metres, at most so many up or down. `drop` is the chance that all bands, or a
    factor, are taken away from a block.
    """

    gamma: float = Field(0.0, ge=0, le=1)
    contrast: float = Field(0.0, ge=0, le=1)
    brightness: float = Field(0.0, ge=0, le=2)
    offset: float = Field(0.0, ge=0, description="metres")
    drop: float = Field(0.0, ge=0, lt=1)

    @property
    def varies(self) -> bool:
        """Whether anything is varied at all."""
        return any(getattr(self, name) for name in type(self).model_fields)


class CompareChoice(Strict):
    """[compare]: the grid of runs; every network is trained on each choice of channels, split and seed.

    `options` gives a network options of its builder, by its name. The split's own seed stays: seeds differ in weights
    and order only.
    """

    networks: Annotated[tuple[str, ...], Listed] = ("fcn8s", "segnet", "unet", "resunet", "fc_densenet")
    baselines: Annotated[tuple[str, ...], Listed] = ("random_forest", "svm", "ann")
    channels: Annotated[tuple[Literal["bands", "bands + factors"], ...], Listed] = ("bands", "bands + factors")
    splits: Annotated[tuple[Literal["apart", "paper", "given"], ...], Listed] = ("apart", "paper")
    seeds: int = Field(1, ge=1)
    options: dict[str, Options] = {}


class Run(Strict):
    """The choices of a run: channels, blocks, split, network, training, augmentation; and of a comparison."""

    channels: ChannelChoice = ChannelChoice()
    blocks: BlockChoice = BlockChoice()
    split: SplitChoice = SplitChoice()
    network: NetworkChoice = NetworkChoice()
    training: TrainingChoice = TrainingChoice()
    augmentation: AugmentationChoice = AugmentationChoice()
    compare: CompareChoice = CompareChoice()

    @model_validator(mode="before")
    @classmethod
    def _recipe(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("training"), dict):
            training = value["training"]
            if training.get("recipe") == "paper":
                return {**value, "training": {**PAPER_TRAINING, **training}}
        return value


def settled(run: Run) -> Run:
    """The run with its network's own learning rate where none is given."""
    if run.training.learning_rate is not None:
        return run
    network = NETWORKS.get(run.network.name)
    rate = NetworkFacts.rate if network is None else network.rate
    return run.model_copy(update={"training": run.training.model_copy(update={"learning_rate": rate})})


def read_run(path: Path | str, overrides: Mapping[str, object] | None = None) -> Run:
    """Read a run file, or the run of a model from its model.json; `overrides` maps "table.key" to a value that wins.

    Raises RunError that lists every fault of the file.
    """
    path = Path(path)
    value = _run_of_facts(path) if path.suffix == ".json" else read_toml(path, RunError)
    for key, override in (overrides or {}).items():
        name, _, choice = key.partition(".")
        table = value.setdefault(name, {})
        if not isinstance(table, dict):
            raise RunError(f"{path}: {name} is {table!r} and not a table; write [{name}] and its keys below it.")
        table[choice] = override
    return validated(Run, value, path, RunError)


def _run_of_facts(path: Path) -> dict[str, object]:
    """The run that a model's model.json holds. Raises RunError where it holds none, or that of a fine-tuned model."""
    try:
        facts = read_json(path)
        run = dict(facts["run"])
    except FileNotFoundError as error:
        raise RunError(f"{path} does not exist. Check the path.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path} holds no run ({str(error)[:100]}). Give a run file, or a model's model.json."
        ) from error
    if "fine_tuned_from" in facts:
        raise RunError(
            f"{path} is of a model that was fine-tuned: it began as the model with weights "
            f"{str(facts['fine_tuned_from'])[:12]}. Train that one again, and repeat `landslip transfer` with it."
        )
    return run
