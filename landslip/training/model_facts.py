"""What model.json says, key by key, in the order in which it is written."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from landslip.dataset.channels import Kind

Choice = Literal["f1", "kappa", "miss"]  # what a threshold may be chosen by


class ChannelTable(TypedDict):
    """A `Channel`, field by field."""

    name: str
    factor: str
    group: Literal["band", "factor"]
    unit: str
    kind: Kind


class NetworkTable(TypedDict):
    """The network of a run: a name of NETWORKS or "ensemble", and the options that its builder was given."""

    name: str
    options: dict[str, object]


class BlocksTable(TypedDict, total=False):
    """The blocks that a network was trained on: the side of a window and the step between them, in pixels."""

    window: int
    step: int
    seeds: Literal["all"] | int
    background: float


class RunTable(TypedDict):
    """The run that a model was trained by; the choices of another version may be others."""

    network: NetworkTable
    blocks: BlocksTable
    training: NotRequired[dict[str, object]]


class SplitTable(TypedDict):
    """The split that a model was trained by; `guard` is in pixels, `carried_from` is set after a correction."""

    kind: str
    leaky: bool | None
    guard: int
    carried_from: NotRequired[str]


class PixelTable(TypedDict):
    """The training pixels beside a model: how many, in how many blocks of ground, and the SHA-256 of the file."""

    count: int
    blocks: int
    sha256: str


class Chosen(TypedDict, total=False):
    """What a threshold was chosen by.

    Only by "miss" there are the share that may be missed, the regions, the share missed in them and the guard between
    them in pixels.
    """

    by: Choice
    miss: float
    regions: int
    missed_here: float
    guard: int


class CalibrationTable(TypedDict):
    """A calibration; pairs of figures are those before and after it, and `pixels` are those it was fitted on."""

    pixels: int
    part: str
    temperature_before: float
    bias_before: float
    threshold_before: float
    threshold_chosen: Chosen
    log_loss: list[float]
    expected_calibration_error: list[float]
    scores: dict[str, float]
    precision: str
    notes: list[str]
    software: dict[str, str]
    promise: NotRequired[str]


class MachineTable(TypedDict):
    """The machine of a training, as the paper's Table V lists it."""

    system: str
    processor: str
    threads: int
    memory_gib: float | None
    gpu: str


class MemberTable(TypedDict):
    """A member of an ensemble: its network, what made it, its threshold and its scores on its own validation ground."""

    network: str
    weights_sha256: str
    threshold: float
    seed: int
    chosen_epoch: int
    validation: dict[str, float]
    folds: NotRequired[FoldsTable]


class FoldsTable(TypedDict):
    """The folds that a model on all ground was trained after: what each chose, and their pooled scores and intervals.

    `weights_sha256` are those of the folds' models.
    """

    chosen_epochs: list[int]
    thresholds: list[float]
    weights_sha256: list[str]
    scores: dict[str, float | None]
    intervals: dict[str, list[float]]


class TrainingFacts(TypedDict, total=False):
    """What a training adds to a model's own entries; earlier versions wrote fewer keys.

    `folds` are those whose scores stand for a model on all ground, which has no validation scores of its own.
    `members` are those of an ensemble, which has no seed, epoch or validation scores of its own. `pixel_size` is width
    and height in metres, None where the grid has none. Of inputs and files the SHA-256 is given, and
    `earlier_site_inputs` are those of the sites of the model that a fine-tuned one began as.
    """

    run: RunTable
    split: SplitTable
    members: list[MemberTable]
    folds: FoldsTable
    pixel_size: tuple[float, float] | None
    training_windows: int
    chosen_epoch: int
    validation: dict[str, float]
    precision: str
    seed: int
    training_seconds: float
    peak_mib: float
    peak_gpu_mib: float | None
    machine: MachineTable
    software: dict[str, str]
    site_inputs: dict[str, str]
    fine_tuned_from: str
    parts_sha256: str
    earlier_site_inputs: list[dict[str, str]]
    stopped: str
    split_sha256: str
    training_pixels: PixelTable
    temperature: float
    bias: float
    calibration: CalibrationTable


class _OwnEntries(TypedDict):
    format: int
    channels: list[ChannelTable]
    mean: list[float]
    std: list[float]
    threshold: float
    weights_sha256: str


class ModelFacts(_OwnEntries, TrainingFacts):
    """All of model.json: what the model is, then how it was trained and calibrated."""
