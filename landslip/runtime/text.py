"""Text files: TOML and JSON read, text, JSON and tables written."""

from __future__ import annotations

import csv
import io
import json
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from landslip.errors import LandslipError
from landslip.runtime.atomic import atomic_write
from landslip.runtime.disk import is_stream
from landslip.runtime.run_folder import folder_given

MOST_SHOWN = 200  # characters of what a file says, in a message
WIDEST = 1000  # characters of a line of a table on the screen; the terminal wraps longer lines than its own


def read_toml(path: Path, error_class: type[LandslipError]) -> dict[str, Any]:
    """What a TOML file says. Raises `error_class` for what is not there or is none."""
    try:
        return tomllib.loads(_text(path))
    except FileNotFoundError as error:
        raise error_class(f"{path} does not exist. Check the path.") from error
    except IsADirectoryError as error:
        raise error_class(folder_given(path, (".toml",))) from error
    except (ValueError, RecursionError, OSError) as error:  # The second of tables nested too deeply.
        raise error_class(f"{path} is not a TOML file: {str(error)[:MOST_SHOWN]}.") from error


def read_json(path: Path) -> Any:
    """What a JSON file says. Raises OSError where it cannot be read, ValueError as `parse_json` does."""
    return parse_json(_text(path))


def parse_json(text: str) -> Any:
    """What JSON says. Raises ValueError where it is none, is nested too deeply, or holds half a character."""
    try:
        value = json.loads(text)
        if "\\u" in text:  # Half of a surrogate pair passes for text here, and no file can be written with it.
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def write_text(path: Path, text: str, overwrite: bool = False) -> None:
    """Write a UTF-8 text file aside and rename it."""
    with atomic_write(path, overwrite) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, overwrite: bool = False) -> None:
    """Write JSON aside and rename it. NaN is written as null, since JSON has no word for undefined."""
    write_text(path, json.dumps(_plain(value), indent=2, allow_nan=False) + "\n", overwrite)


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown that is also legible as plain text: the first column aligned left, the others right."""
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        first, *others = cells
        return (
            f"| {first:<{widths[0]}} | "
            + " | ".join(f"{c:>{w}}" for c, w in zip(others, widths[1:], strict=True))
            + " |"
        )

    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([line(heads), rule, *map(line, rows)])


def screen_table(heads: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> str:
    """A table for the screen: the first `text_columns` columns aligned left, the others right."""
    from rich.console import Console  # Imported here, so that training needs PyTorch and NumPy alone.
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, head in enumerate(heads):
        table.add_column(Text(head), justify="left" if i < text_columns else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    screen = io.StringIO()
    Console(file=screen, width=WIDEST, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in screen.getvalue().splitlines())


def csv_table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV under a line of column names; a cell is empty where a row has no such value, None or NaN."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: value for key, value in row.items() if value is not None and value == value})
    return text.getvalue()


def _text(path: Path) -> str:
    """The text of a UTF-8 file. Raises OSError for what has no end, as a pipe may have none."""
    if is_stream(path):
        raise OSError("it is a pipe or a device; write it to a file first")
    return path.read_text(encoding="utf-8-sig")  # Some editors put a byte-order mark first.


def _plain(value: Any) -> Any:
    """A value as JSON can hold it: no NaN, no numpy scalars, no paths."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, Path):
        return value.as_posix()
    if hasattr(value, "item"):  # It is a numpy scalar.
        return _plain(value.item())
    return value


def percent(share: float, digits: int = 2) -> str:
    """A share in per cent, with so many digits after the point; "undefined" where it is NaN."""
    return "undefined" if math.isnan(share) else f"{100 * share:.{digits}f} %"


def parse_number(text: str) -> float:
    """A number written as text; NaN where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
