"""TOML files read into validated values: unknown keys are refused with the nearest known one, all faults at once.

JSON files that landslip itself has written are read here too.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from landslip.errors import LandslipError
from landslip.output import is_stream


class Strict(BaseModel):
    """A frozen table whose unknown keys are errors, and whose numbers are finite unless a field says otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True, allow_inf_nan=False)


T = TypeVar("T", bound=BaseModel)
LONGEST_NUMBER = 300  # digits
MOST_SHOWN = 200  # characters of what a file says, in a message


def _text(path: Path) -> str:
    if is_stream(path):
        raise OSError("it is a pipe or a device; write it to a file first")
    return path.read_text(encoding="utf-8-sig")  # some editors put a byte-order mark first


def read_toml(path: Path, error_class: type[LandslipError]) -> dict[str, Any]:
    if path.is_dir():
        held = sorted(path.glob("*.toml"))
        hint = f", such as {held[0]}" if held else ""
        raise error_class(f"{path} is a folder, and a TOML file is wanted. Give the path of a file{hint}.")
    try:
        return tomllib.loads(_text(path))
    except FileNotFoundError as error:
        raise error_class(f"{path} does not exist. Check the path.") from error
    except (ValueError, RecursionError, OSError) as error:  # a number of 5000 digits, tables in tables in tables
        raise error_class(f"{path} is not a TOML file: {str(error)[:MOST_SHOWN]}.") from error


def read_json(path: Path) -> Any:
    """What a JSON file says; OSError or ValueError as `parse_json` has it where it is none."""
    return parse_json(_text(path))


def parse_json(text: str) -> Any:
    """What JSON says; ValueError where it is none, is nested too deeply, or holds half a character, of no encoding."""
    try:
        value = json.loads(text, parse_int=_whole)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _whole(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:  # no float holds it
        raise ValueError(f"it holds a number of {len(digits)} digits")
    return int(digits)


def validated(model: type[T], value: dict[str, Any], path: Path, error_class: type[LandslipError]) -> T:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        faults = [_explain(item, model) for item in error.errors()]
        raise error_class(f"{path}: " + "; ".join(faults) + ".") from error


def _explain(item: Any, model: type[BaseModel]) -> str:
    where = ".".join(str(part) for part in item["loc"] if part not in ("constrained-str",))
    if item["type"] == "extra_forbidden":
        known = list(_model_at(model, item["loc"][:-1]).model_fields)
        near = difflib.get_close_matches(str(item["loc"][-1]), known, 1, 0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        return f"unknown key {where!r} ({hint})"
    if item["type"] == "missing":
        return f"{where!r} is missing"
    message = item["msg"].removeprefix("Value error, ")
    given = repr(item["input"])
    given = given if len(given) <= MOST_SHOWN else f"{given[:MOST_SHOWN]} ..."
    shown = "" if isinstance(item["input"], dict) else f", not {given}"
    return f"{where}: {message}{shown}" if where else message


def _model_at(model: type[BaseModel], location: tuple[Any, ...]) -> type[BaseModel]:
    for part in location:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[str(part)].annotation
        found = _model_in(annotation)
        if found is not None:
            model = found
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_in(inner)
        if found is not None:
            return found
    return None
