"""The options that several commands share, and what they check before anything heavy is imported."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from landslip.errors import RunError

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
Change = Annotated[
    list[str] | None, typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Override a choice of the run file.")
]
AcceptRange = Annotated[
    bool,
    typer.Option("--accept-range", help="Go on where bands or indices lie outside what the model was trained on."),
]
Plan = Annotated[bool, typer.Option("--plan", help="Say how long it will take, and train nothing.")]
Data = Annotated[Path | None, typer.Option(help="Folder that the site file's paths start at.")]


def overrides(changes: Sequence[str] | None) -> dict[str, Any]:
    """The values of the `--set TABLE.KEY=VALUE` options by their TABLE.KEY.

    A value is read as TOML has it, or as bare text where it is no TOML. RunError names an option that is not written
    so.
    """
    return dict(map(_override, changes or []))


def require_inputs(model: Path | None = None, prepared: Path | None = None) -> None:
    """Refuse a folder that is no model, or one that is no prepared site.

    It reads small files only, so that a slip of the pen is named before PyTorch and rasterio take seconds to import.
    """
    if prepared is not None:
        from landslip.runtime.run_folder import prepared_file

        prepared_file(prepared, "stack.tif")
    if model is not None:
        from landslip.training.checkpoint import read_facts

        read_facts(model)


def _override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or key.count(".") != 1:
        raise RunError(f"--set {text}: write TABLE.KEY=VALUE, such as --set training.epochs=20.")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()
