"""A model in int8 beside its weights: int8.xml and int8.bin, an OpenVINO graph, and int8.json, what it was made of.

`landslip quantize` writes them, `landslip map --precision int8` reads them, and neither runs code that a file brings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict, cast

from landslip.errors import ModelError
from landslip.runtime.disk import file_hash
from landslip.runtime.text import read_json
from landslip.training.checkpoint import Model

GRAPH, GRAPH_WEIGHTS, QUANTIZED = "int8.xml", "int8.bin", "int8.json"


class Comparison(TypedDict):
    """How int8 compares with fp32 on `pixels` pixels, as int8.json holds it.

    Differences are of probability, `changed` is the share of pixels that change class at the threshold, and the scores
    are by precision.
    """

    pixels: int
    threshold: float
    max_difference: float
    mean_difference: float
    changed: float
    f1: dict[str, float]
    kappa: dict[str, float]


class CalibrationBlocks(TypedDict):
    """The blocks of training ground that an int8 model was calibrated on: how many, of which side, drawn from what."""

    count: int
    window: int
    seed: int


class QuantizedFacts(TypedDict):
    """What int8.json says of an int8 model; `files` are the SHA-256 of int8.xml and int8.bin."""

    weights_sha256: str
    blocks: CalibrationBlocks
    validation: Comparison
    files: dict[str, str]
    software: dict[str, str]


def quantized_graph(model: Model) -> Any:
    """The int8 graph of a model as OpenVINO reads it, of free shape.

    Raises ModelError where the model has none, where it was made of other weights, or where a file is altered.
    """
    facts = quantized_facts(model)
    again = _again(model)
    for name in (GRAPH, GRAPH_WEIGHTS):
        file, expected = model.folder / name, facts["files"][name]
        sha256 = file_hash(file) if file.exists() else "missing"
        if sha256 != expected:
            raise ModelError(
                f"{file} is not the file that {QUANTIZED} describes ({sha256[:12]}, not {str(expected)[:12]}). {again}"
            )
    try:
        return read_graph(model.folder / GRAPH)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{model.folder / GRAPH} is no graph that OpenVINO can read ({reason}). {again}") from error


def read_graph(path: Path) -> Any:
    """An OpenVINO graph from its .xml and the .bin beside it, held in memory: the files can be renamed."""
    import openvino

    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})
    return core.read_model(path)


def quantized_facts(model: Model) -> QuantizedFacts:
    """What int8.json says; ModelError where there is none, where it is of other weights, or not such a description."""
    path = model.folder / QUANTIZED
    again = _again(model)
    if not path.exists():
        raise ModelError(f"{model.folder} has no {QUANTIZED}: the model was not calibrated for int8. {again}")
    try:
        facts = read_json(path)
        of, _ = facts["weights_sha256"], [facts["files"][name] for name in (GRAPH, GRAPH_WEIGHTS)]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ModelError(f"{path} does not describe an int8 model ({str(error)[:200]}). {again}") from error
    if of != model.facts["weights_sha256"]:
        raise ModelError(
            f"{path} is of other weights (SHA-256 {str(of)[:12]}) than the model's "
            f"({str(model.facts['weights_sha256'])[:12]}): it was trained anew since. {again}"
        )
    return cast(QuantizedFacts, facts)


def _again(model: Model) -> str:
    """What to do about a model that is not calibrated, in words."""
    return f"Calibrate it with `landslip quantize {model.folder} PREPARED/`."
