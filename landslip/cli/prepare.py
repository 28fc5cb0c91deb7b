"""The commands that bring data to a prepared site: check, prepare, import, and correct after a review."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from landslip.cli.options import Data, Overwrite, PreparedFolder, refuse_outputs, require_inputs
from landslip.runtime.progress import plural

SiteFile = Annotated[Path, typer.Argument(metavar="SITE.toml")]


def check_command(site: SiteFile, data: Data = None) -> None:
    """Read every input of a site and list what is wrong with it.

    All faults, warnings and notes come at once, with how far the DEM and the landslides lie from the image. The exit
    code is 1 if there is a fault.
    """
    from landslip.config.site import read_site

    choices = read_site(site, data)
    from landslip.preparation.check import check_site

    findings = check_site(choices)
    for finding in findings:
        typer.echo(f"{finding.severity}: {finding.text}")
    faults, warnings = (sum(finding.severity == kind for finding in findings) for kind in ("fault", "warning"))
    typer.echo(f"{plural(faults, 'fault')}, {plural(warnings, 'warning')}")
    if faults:
        raise typer.Exit(1)


def prepare_command(
    site: SiteFile,
    out: PreparedFolder,
    *,
    encoding: Annotated[
        Literal["planes", "paper"], typer.Option(help="planes: aspect as sine and cosine, a plane per class")
    ] = "planes",
    data: Data = None,
    no_figures: Annotated[
        bool, typer.Option("--no-figures", help="Leave out the pictures of the study area and of every factor.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Bring a site's inputs to one grid.

    Makes stack.tif, valid.tif, label.tif, table.csv and figures. The same command goes on after a kill or Ctrl-C.
    """
    from landslip.config.site import read_site

    choices = read_site(site, data)
    refuse_outputs(out, overwrite=overwrite, folder=True)
    from landslip.preparation.channel_summary import channel_table
    from landslip.preparation.prepare import prepare

    prepared = prepare(choices, out, encoding, overwrite, figures=not no_figures)
    typer.echo(channel_table(prepared))
    typer.echo(
        f"\n{prepared.grid.describe()}: {plural(prepared.valid_pixels, 'valid pixel')}, "
        f"{prepared.landslide_pixels:,} landslide"
    )


def import_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER/")],
    out: PreparedFolder,
    *,
    train: Annotated[str | None, typer.Option(metavar="NAME", help="default: train or TrainData")] = None,
    test: Annotated[
        str | None, typer.Option(metavar="NAME", help="what is scored; default: the test folder, else validation's")
    ] = None,
    validation: Annotated[
        str | None, typer.Option(metavar="NAME", help="default: a share of the training patches")
    ] = None,
    validation_share: Annotated[float, typer.Option(help="of the training patches, drawn at random")] = 0.15,
    seed: Annotated[int, typer.Option(help="of that draw", min=0)] = 0,
    resolution: Annotated[
        float | None, typer.Option(help="side of a pixel, metres; default: as the patches say, else 10")
    ] = None,
    channels: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="what the bands are: a patches.toml (default: that in FOLDER/), the stack.tif that the patches were "
            "cut from, or NAME,NAME in order; else as the patches say, or gray, RGB or Landslide4Sense's 14",
        ),
    ] = "",
    overwrite: Overwrite = False,
) -> None:
    """Lay a set of patches out as one prepared site.

    Patches are images and masks. Train on them with [split] kind = "given".
    """
    refuse_outputs(out, overwrite=overwrite, folder=True)
    from landslip.patches.import_patches import import_patches, table_of_parts
    from landslip.preparation.channel_summary import channel_table

    names: list[str] | Path = [name.strip() for name in channels.split(",")] if channels else []
    if Path(channels).suffix.lower() in (".toml", ".tif", ".tiff"):
        names = Path(channels)
    imported = import_patches(
        folder,
        out,
        train=train,
        test=test,
        validation=validation,
        validation_share=validation_share,
        seed=seed,
        resolution=resolution,
        names=names,
        overwrite=overwrite,
    )
    typer.echo(
        f"{channel_table(imported.prepared)}\n\n{table_of_parts(imported)}\n\n{imported.prepared.grid.describe()}"
    )


def correct_command(
    prepared: PreparedFolder,
    inventory: Annotated[Path, typer.Argument(metavar="INVENTORY.gpkg")],
    out: Annotated[Path, typer.Argument(metavar="OUT_PREPARED/")],
    model: Annotated[
        Path | None, typer.Option(metavar="MODEL/", help="whose parts are kept; default: the one that made the map")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Make labels of reviewed landslides, to train on again.

    The result is a prepared site.
    """
    require_inputs(prepared=prepared)
    refuse_outputs(out, overwrite=overwrite, folder=True)
    from landslip.inventory.correct import correct, parts_text

    corrected = correct(prepared, inventory, out, overwrite, model)
    states = ", ".join(f"{count} {state}" for state, count in sorted(corrected.states.items()))
    off_site = f"; off the site: {plural(corrected.outside, 'outline')}" if corrected.outside else ""
    typer.echo(
        f"{corrected.folder}: {states}; {plural(corrected.to_landslide, 'pixel')} became landslide, "
        f"{corrected.to_other:,} other ground{off_site}"
    )
    typer.echo(parts_text(corrected))
