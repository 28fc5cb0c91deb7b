"""What one run of a comparison scored and cost, as result.json and comparison.json hold it."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict

Number = int | float | None  # None where undefined, as JSON has it


class TrialResult(BaseModel):
    """One run: its choices, then why it `failed` or its scores, what they stand on, and what it cost.

    Scores are fractions. Fields that a run has no value for are left out of its file: a baseline has no epochs, and a
    failed run no scores. `mapping_seconds` is None for a map that was stopped and gone on with.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    identity: dict[str, object] = {}
    split: str
    method: str
    channels: str
    seed: int
    network: bool
    failed: str | None = None
    accuracy: Number = None
    precision: Number = None
    recall: Number = None
    f1: Number = None
    kappa: Number = None
    miou: Number = None
    part: str | None = None
    leaky: bool | None = None
    pixels: int | None = None
    threshold: Number = None
    intervals: dict[str, tuple[Number, Number]] = {}
    bootstrap: dict[str, object] = {}
    audit: dict[str, Number] | None = None
    expected_calibration_error: Number = None
    reliability: list[dict[str, Number]] | None = None
    chosen_epoch: int | None = None
    validation: dict[str, Number] = {}
    training_windows: int | None = None
    training_pixels: int | None = None
    training_seconds: Number = None
    training_peak_mib: Number = None
    training_peak_gpu_mib: Number = None
    arithmetic: str | None = None  # `precision` is the name of a score.
    parameters: int | None = None
    macs: int | None = None
    model_mib: Number = None
    mapping_seconds: Number = None
    mapping_peak_mib: Number = None
    seconds: Number = None
    machine: dict[str, object] = {}
    software: dict[str, object] = {}

    def number(self, name: str) -> float:
        """A score or a cost by its name; NaN where it is undefined."""
        value = getattr(self, name)
        return math.nan if value is None else float(value)

    def json_fields(self) -> dict[str, object]:
        """The fields that this run has, as JSON holds them."""
        return self.model_dump(exclude_unset=True)
