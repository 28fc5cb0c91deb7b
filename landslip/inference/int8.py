"""A model in int8 beside its weights: int8.xml and int8.bin, an OpenVINO graph, and int8.json, what it was made of.

`landslip quantize` writes them, `landslip map --precision int8` reads them, and neither runs code that a file brings.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from landslip.errors import ModelError
from landslip.runtime.disk import file_hash
from landslip.runtime.text import read_json
from landslip.training.checkpoint import Model

GRAPH, GRAPH_WEIGHTS, QUANTIZED = "int8.xml", "int8.bin", "int8.json"
WHOLE: dict[str, type[np.signedinteger[Any]]] = {"i32": np.int32, "i64": np.int64}  # whole numbers, by OpenVINO's names
LARGEST = 2**24  # elements that a shape in a graph may claim; shapes that are left free are not held in it


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
        _require_bounded(model.folder)
        return read_graph(model.folder / GRAPH)
    except (RuntimeError, ValueError, TypeError, ElementTree.ParseError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{model.folder / GRAPH} is no graph that OpenVINO can read ({reason}). {again}") from error


def read_graph(path: Path) -> Any:
    """An OpenVINO graph from its .xml and the .bin beside it, held in memory: the files can be renamed."""
    import openvino

    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})
    return core.read_model(path)


def quantized_facts(model: Model) -> dict[str, Any]:
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
    return dict(facts)


def _require_bounded(folder: Path) -> None:
    """Raise ValueError where the graph holds a shape of more than LARGEST elements, which OpenVINO fills as it reads.

    All whole numbers of the graph are looked at, since nothing tells shapes from others. The largest of its type means
    "as far as it goes" and is left out.
    """
    weights = (folder / GRAPH_WEIGHTS).read_bytes()
    for data in ElementTree.parse(folder / GRAPH).iterfind(".//layer[@type='Const']/data"):
        dtype = WHOLE.get(data.get("element_type", ""))
        if dtype:
            start, size = int(data.get("offset", "")), int(data.get("size", ""))
            values = np.frombuffer(weights[start : start + size], dtype)
            claimed = math.prod(max(1, abs(value)) for value in values[values != np.iinfo(dtype).max].tolist())
            if claimed > LARGEST:
                raise ValueError(f"it holds a shape of {claimed:.3g} elements, more than {LARGEST:,}")


def _again(model: Model) -> str:
    """What to do about a model that is not calibrated, in words."""
    return f"Calibrate it with `landslip quantize {model.folder} PREPARED/`."
