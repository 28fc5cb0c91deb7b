"""The arguments and options that several commands share, and what they check before anything heavy is imported."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from landslip.errors import RunError

ModelFolder = Annotated[Path, typer.Argument(metavar="MODEL/")]
PreparedFolder = Annotated[Path, typer.Argument(metavar="PREPARED/")]
OutFolder = Annotated[Path, typer.Argument(metavar="OUT/")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN/")]
RunFile = Annotated[Path, typer.Argument(metavar="RUN.toml")]
ProbabilityFile = Annotated[Path, typer.Argument(metavar="PROBABILITY.tif")]

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
Change = Annotated[
    list[str] | None, typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Override a choice of the run file.")
]
AcceptRange = Annotated[
    bool, typer.Option("--accept-range", help="Go on where bands or indices lie outside what the model was trained on.")
]
Plan = Annotated[bool, typer.Option("--plan", help="Say how long it will take, and train nothing.")]
Data = Annotated[Path | None, typer.Option(help="Folder that the site file's paths start at.")]
Threshold = Annotated[float | None, typer.Option(help="default: the one the raster carries, else 0.5")]


def overrides(changes: Sequence[str] | None) -> dict[str, object]:
    """The values of the `--set TABLE.KEY=VALUE` options by their TABLE.KEY.

    A value is read as TOML has it, or as bare text where it is no TOML. RunError names an option that is not written
    so.
    """
    return dict(map(_override, changes or []))


def require_inputs(model: Path | None = None, prepared: Path | None = None, run: Path | None = None) -> None:
    """Refuse a folder that is no model, no prepared site or no run folder.

    It reads small files only, so that a slip of the pen is named before PyTorch and rasterio take seconds to import.
    """
    from landslip.runtime.run_folder import open_run, prepared_file

    if run is not None:
        open_run(run)
    if prepared is not None:
        prepared_file(prepared, "stack.tif")
    if model is not None:
        from landslip.training.checkpoint import read_facts

        read_facts(model)


def refuse_outputs(*outputs: Path | None, overwrite: bool, inputs: Sequence[Path] = (), folder: bool = False) -> None:
    """Refuse outputs that exist without --overwrite, and those that are inputs too; `folder`: outputs are folders."""
    from landslip.runtime.atomic import refuse_existing, refuse_input

    for path in outputs:
        if path is not None:
            refuse_existing(path, overwrite, folder=folder)
            refuse_input(path, inputs)


def _override(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not equals or key.count(".") != 1:
        raise RunError(f"--set {text}: write TABLE.KEY=VALUE, such as --set training.epochs=20.")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()
