"""One self-contained HTML document from sections of text, tables and figures: nothing in it is fetched from elsewhere.

Every text is escaped by the template (templates/document.html), whatever file it came from.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from landslip.runtime.text import write_text

Cell = str | tuple[str, int]  # a text, or a text over several columns
PALETTE_SIZE = 256  # of a picture stored by a palette
LONG = 48  # letters of a cell that is broken into lines where the page is narrow


@dataclass(frozen=True)
class Text:
    """A paragraph; a warning is loud, a fault says what could not be read, a remedy which command adds what lacks.

    A head stands above what is shown of one of several.
    """

    text: str
    tone: Literal["plain", "warning", "fault", "remedy", "good", "head"] = "plain"
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Table:
    """Rows under heads: `left` columns of words, then figures, then one more column of words where `ends`.

    `**` around a cell makes it bold.
    """

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    left: int = 1
    ends: bool = False
    kind: ClassVar[str] = "table"

    def cells(self) -> list[list[tuple[str, int, bool, str]]]:
        """(text, columns it spans, bold, "word" or "word long" or "" of a number) of every cell, row by row."""
        rows = []
        for row in self.rows:
            cells, column = [], 0
            for cell in row:
                text, span = (cell, 1) if isinstance(cell, str) else cell
                bold = len(text) > 4 and text.startswith("**") and text.endswith("**")
                word = column < self.left or span > 1 or (self.ends and column == len(self.heads) - 1)
                look = ["word"] * word + ["long"] * (len(text) > LONG)
                cells.append((text[2:-2] if bold else text, span, bold, " ".join(look)))
                column += span
            rows.append(cells)
        return rows


@dataclass(frozen=True)
class Facts:
    """Names and what they are."""

    rows: Sequence[tuple[str, str]]
    kind: ClassVar[str] = "facts"


@dataclass(frozen=True)
class Notes:
    """A list of remarks."""

    rows: Sequence[str]
    kind: ClassVar[str] = "notes"


@dataclass(frozen=True)
class Picture:
    """A figure, inside the document: its data, size in pixels, what it shows in words, and its caption."""

    data: str
    width: int
    height: int
    alt: str
    caption: str
    kind: ClassVar[str] = "picture"

    @property
    def tall(self) -> bool:
        """Whether it is a drawing higher than wide, which need not fill the page."""
        return self.data.startswith("data:image/svg") and self.height > self.width


@dataclass(frozen=True)
class Listing:
    """Text as it stands in a file."""

    caption: str
    text: str
    kind: ClassVar[str] = "listing"


Block = Text | Table | Facts | Notes | Picture | Listing


@dataclass(frozen=True)
class Section:
    """A part of the document with a title, and the name that the table of contents leads to."""

    name: str
    title: str
    blocks: Sequence[Block]


def picture(path: Path, alt: str, caption: str, palette: bool = False) -> Picture:
    """A PNG or SVG file as a figure; `palette` stores a PNG in 256 colours, for images of noise."""
    stored = path.read_bytes()
    if path.suffix == ".svg":
        box = re.search(rb'viewBox="0 0 ([\d.]+) ([\d.]+)"', stored[:2000])
        width, height = (round(float(v) * 4 / 3) for v in box.groups()) if box is not None else (0, 0)
        data = base64.b64encode(stored).decode()
        return Picture(f"data:image/svg+xml;base64,{data}", width, height, alt, caption)
    with Image.open(io.BytesIO(stored)) as image:
        width, height = image.size
        if palette:
            few = image.convert("RGB").quantize(
                PALETTE_SIZE, Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG
            )
            out = io.BytesIO()
            few.save(out, "PNG", optimize=True)
            stored = out.getvalue()
    return Picture(f"data:image/png;base64,{base64.b64encode(stored).decode()}", width, height, alt, caption)


def render(title: str, subtitle: str, sections: Sequence[Section], foot: str) -> str:
    """The document as HTML."""
    environment = Environment(
        loader=PackageLoader("landslip.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("document.html")
    return template.render(title=title, subtitle=subtitle, sections=sections, foot=foot)


def write_document(
    out: Path, title: str, subtitle: str, sections: Sequence[Section], foot: str, *, overwrite: bool = False
) -> None:
    """Write the document aside and rename it. Raises OutputError where `out` exists (unless `overwrite`)."""
    write_text(out, render(title, subtitle, sections, foot), overwrite)
