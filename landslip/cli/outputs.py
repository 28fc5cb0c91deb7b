"""The commands that show a run or hand it over: report, serve, qgis, export, stac, and demo and info."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from landslip.cli.options import ModelFolder, OutFolder, Overwrite, RunFolder, refuse_outputs, require_inputs
from landslip.errors import DependencyError, RunError


class EndedByCtrlC(SystemExit):
    """Ctrl-C ended a command as it should, such as `serve`; its text is what there is to say of it."""


def report_command(
    run: RunFolder, out: Annotated[Path, typer.Argument(metavar="OUT.html")], overwrite: Overwrite = False
) -> None:
    """Put a run folder into one HTML file that prints.

    It holds figures, tables, scores and where they come from.
    """
    require_inputs(run=run)
    refuse_outputs(out, overwrite=overwrite)
    from landslip.report.report import report

    for fault in report(run, out, overwrite):
        typer.echo(f"not shown: {fault}", err=True)
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


def serve_command(
    run: RunFolder,
    port: Annotated[int, typer.Option(help="0: any that is free", min=0, max=65535)] = 8008,
    host: Annotated[str, typer.Option(help="address to listen on; 0.0.0.0 lets other computers in")] = "127.0.0.1",
    browser: Annotated[bool, typer.Option("--open", help="open the page in this computer's browser too")] = False,
) -> None:
    """Look at a run in the browser, and review its landslides.

    It prints the address of a page where each landslide can be accepted, rejected or redrawn, and new ones drawn.
    """
    require_inputs(run=run)
    try:
        from landslip.serve.app import serve
    except ModuleNotFoundError as error:
        raise DependencyError(f"the page needs {error.name}: pip install 'landslip[serve]'.") from error
    try:
        serve(run, port, host, browser)
    except KeyboardInterrupt:
        raise EndedByCtrlC(f"{run} is served no more. Every decision that the page showed as saved is kept.") from None


def qgis_command(
    run: RunFolder, out: Annotated[Path | None, typer.Argument(metavar="OUT.qgs")] = None, overwrite: Overwrite = False
) -> None:
    """Write a QGIS project of a run folder.

    It opens all layers, styled and grouped. Default: RUN/landslip.qgs.
    """
    require_inputs(run=run)
    from landslip.export.qgis import write_project

    typer.echo(f"{write_project(run, out, overwrite)}")


def export_command(
    model: ModelFolder,
    out: OutFolder,
    *,
    window: Annotated[int, typer.Option(help="side of the square blocks that Deepness will cut, pixels", min=1)] = 512,
    resolution: Annotated[
        float | None, typer.Option(metavar="METRES", help="side of a pixel; default: that of the model's split.tif")
    ] = None,
    nodata: Annotated[
        float | None, typer.Option(help="a value that stands for undefined, besides NaN and infinity")
    ] = None,
    check: Annotated[
        Path | None, typer.Option(metavar="STACK.tif", help="also compare with PyTorch on blocks of this stack")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a model as ONNX, for other programs and for QGIS.

    Its statistics are inside; Deepness runs it in QGIS. A STAC item lies beside it.
    """
    require_inputs(model)
    refuse_outputs(out, overwrite=overwrite, folder=True)
    from landslip.export.onnx import export_model

    exported = export_model(
        model, out, window=window, resolution=resolution, nodata=nodata, check=check, overwrite=overwrite
    )
    for name, size in exported.sizes.items():
        typer.echo(f"{out / name}: {size / 1e6:.1f} MB")
    names = {"random": "random blocks", "deepness": "random blocks through Deepness's arithmetic", "real": f"{check}"}
    differences = ", ".join(f"{value:.1e} on {names[what]}" for what, value in exported.differences.items())
    typer.echo(f"largest difference from PyTorch in probability: {differences}")


def stac_command(
    run: RunFolder,
    out: OutFolder,
    copy: Annotated[bool, typer.Option("--copy", help="Copy the files too, so that OUT/ can be moved alone.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write a run's map and model as a static STAC catalogue.

    Makes catalog.json and an item for each.
    """
    require_inputs(run=run)
    refuse_outputs(out, overwrite=overwrite, folder=True)
    from landslip.export.stac import catalogue

    items = catalogue(run, out, copy, overwrite)
    typer.echo(f"{out / 'catalog.json'}: {', '.join(items)}")


def demo_command(
    out: OutFolder = Path("demo"),
    *,
    quick: Annotated[bool, typer.Option("--quick", help="A smaller site, in at most 90 seconds.")] = False,
    seed: Annotated[int, typer.Option(help="Of the made-up site.", min=0)] = 2021,
    kind: Annotated[
        Literal["rule", "scars"],
        typer.Option(help="Landslides told by a rule on factors, or by shape among bare look-alikes."),
    ] = "rule",
    without_factors: Annotated[bool, typer.Option("--without-factors", help="Train on the bands alone.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Make up a site with known landslides, and map and score it.

    Runs prepare, train, map, inventory and evaluate, with pictures. The same command goes on where it was stopped.
    """
    from landslip.demo.demo import demo

    demo(out, quick, seed, kind=kind, factors=not without_factors, overwrite=overwrite)


def info_command(
    path: Annotated[Path | None, typer.Argument(metavar="FILE_OR_FOLDER")] = None,
    network: Annotated[str | None, typer.Option(help="Print this network's layers instead.")] = None,
    channels: Annotated[int, typer.Option(help="Input channels of the network.", min=1)] = 7,
) -> None:
    """Say what a stack, a model or a map is.

    With --network, list a network's layers instead.
    """
    from landslip.cli.info import describe, network_table

    if network is not None:
        typer.echo(network_table(network, channels))
    elif path is not None:
        typer.echo(describe(path))
    else:
        raise RunError("landslip info needs a file, a folder or --network NAME.")
