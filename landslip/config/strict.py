"""Tables of a TOML file as validated values: all faults are said at once, an unknown key with the nearest known one."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from landslip.errors import LandslipError
from landslip.runtime.text import MOST_SHOWN


class Strict(BaseModel):
    """A frozen table whose unknown keys are errors, and whose numbers are finite unless a field says otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True, allow_inf_nan=False)


T = TypeVar("T", bound=BaseModel)
WORDS = {  # what a key takes, by how pydantic's name of the error begins
    "string": "a text in quotes",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "tuple": "a list",
    "list": "a list",
    "dict": "a table of names and values",
    "model": "a table",
    "date": "a date, such as 2015-07-01",
    "path": "a path in quotes",
    "finite": "a finite number",
}
LIMITS = {
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
}


def validated(model: type[T], value: Mapping[str, object], path: Path, error_class: type[LandslipError]) -> T:
    """What a file says, as a `model`. Raises `error_class`, which lists all faults, where it does not fit."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        faults = _explained(error.errors(), model)
        raise error_class(f"{path}: " + "; ".join(faults) + ".") from error


def _explained(errors: Sequence[Any], model: type[BaseModel]) -> list[str]:
    """Faults in the reader's words, one for each place, however many reasons pydantic has to refuse what is there."""
    places: dict[tuple[Any, ...], list[Any]] = {}
    for item in errors:
        places.setdefault(_place(item, model), []).append(item)
    # Where a list has a fault in it, a key that may be one word or a list is refused as a word too, which says nothing.
    deeper = {place[:depth] for place in places for depth in range(len(place))} - {()}
    return [_explain(place, items, model) for place, items in places.items() if place not in deeper]


def _place(item: Any, model: type[BaseModel]) -> tuple[Any, ...]:
    """Where in the file a fault lies: keys, and positions in lists, without the names of types that pydantic adds."""
    place: list[Any] = []
    table: type[BaseModel] | None = model
    free_keys = False  # whether the table's keys are the user's own
    for part in item["loc"]:
        if isinstance(part, int):
            place.append(part)
        elif table is not None and part in table.model_fields:
            annotation = table.model_fields[part].annotation
            table, free_keys = _model_in(annotation), "dict[" in str(annotation)
            place.append(part)
        elif (table is not None and item["type"] == "extra_forbidden") or (free_keys and part != "[key]"):
            place.append(part)
    return tuple(place)


def _explain(place: tuple[Any, ...], items: Sequence[Any], model: type[BaseModel]) -> str:
    """One fault in words, from all that pydantic says of a place."""
    item = items[0]
    table, keys = "", place
    if len(place) > 1 and isinstance(place[1], int) and _is_table(model, place[0]):
        table, keys = f"[[{place[0]}]] {place[1] + 1}", place[2:]
    where = ""
    for part in keys:
        where += f", item {part + 1}" if isinstance(part, int) else f".{part}" if where else str(part)
    if item["type"] == "extra_forbidden":
        known = list(_model_at(model, place[:-1]).model_fields)
        nearest = difflib.get_close_matches(str(place[-1]), known, 1, 0.5)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"known here: {', '.join(known)}"
        return f"unknown key {where!r}{table and f' in {table}'} ({hint})"
    if item["type"] == "missing":
        return f"{where!r}{table and f' in {table}'} is missing"
    at = " ".join(part for part in (table, where) if part)
    if item["type"] in ("value_error", "assertion_error"):
        message = item["msg"].removeprefix("Value error, ")
        return f"{at}: {message}" if at else message
    expected = ", or ".join(dict.fromkeys(_wanted(one, model, place) for one in items))
    shown_value = repr(item["input"])
    shown_value = shown_value if len(shown_value) <= MOST_SHOWN else f"{shown_value[:MOST_SHOWN]} ..."
    return f"{at}: it should be {expected}" + ("" if isinstance(item["input"], dict) else f", not {shown_value}")


def _is_table(model: type[BaseModel], key: Any) -> bool:
    """Whether a key of a model stands for a table, or for several."""
    return key in model.model_fields and _model_in(model.model_fields[key].annotation) is not None


def _wanted(item: Any, model: type[BaseModel], place: tuple[Any, ...]) -> str:
    """What a key takes, in words."""
    kind, about = item["type"], item.get("ctx", {})
    name = place[-1] if place else ""
    if kind in ("tuple_type", "list_type") and _is_table(model, name):
        return f"tables: write [[{name}]], with two brackets"
    if kind.startswith("model") and len(place) == 1:
        return f"a table: write [{name}], once, and its keys below it"
    if kind in LIMITS:
        plain = {name: int(at) if isinstance(at, float) and at.is_integer() else at for name, at in about.items()}
        return LIMITS[kind].format(**plain)
    return WORDS.get(kind.split("_")[0]) or str(item["msg"]).removeprefix("Input should be ")


def _model_at(model: type[BaseModel], location: tuple[Any, ...]) -> type[BaseModel]:
    """The model of the table at a place in a file."""
    for part in location:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[str(part)].annotation
        inner = _model_in(annotation)
        if inner is not None:
            model = inner
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation names, by itself or within a union or a list; None where it names none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        model = _model_in(inner)
        if model is not None:
            return model
    return None
