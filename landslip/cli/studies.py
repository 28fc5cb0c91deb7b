"""The commands that weigh factors and scores: intervals, importance, compare, ladder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from landslip.cli.options import (
    AcceptRange,
    Change,
    OutFolder,
    Overwrite,
    Plan,
    PreparedFolder,
    RunFile,
    overrides,
    require_inputs,
)


def intervals_command(
    prepared: PreparedFolder,
    out: OutFolder,
    *,
    factor: Annotated[list[str] | None, typer.Option(metavar="NAME", help="May be repeated; default: all.")] = None,
    classes: Annotated[int, typer.Option(help="natural breaks of a continuous factor")] = 5,
    sample: Annotated[int, typer.Option(metavar="N", help="pixels that natural breaks are exact on")] = 10_000,
    seed: Annotated[int, typer.Option(help="of the sample", min=0)] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Count the landslides in each class of each factor.

    Prints frequency, area share and frequency ratio.
    """
    require_inputs(prepared=prepared)
    from landslip.importance.frequency_ratio import frequency_ratios, frequency_table

    frequencies = frequency_ratios(
        prepared, out, factors=factor or (), classes=classes, sample=sample, seed=seed, overwrite=overwrite
    )
    typer.echo(frequency_table(frequencies))


def importance_command(
    prepared: PreparedFolder,
    out: OutFolder,
    *,
    model: Annotated[Path | None, typer.Option(metavar="MODEL/", help="also what this network makes of them")] = None,
    repeats: Annotated[int, typer.Option(help="forests, and permutations of the network's factors")] = 20,
    block: Annotated[int, typer.Option(help="side of the spatial blocks that are drawn anew, pixels")] = 128,
    sample: Annotated[int, typer.Option(metavar="N", help="pixels of a forest, half of them landslide")] = 10_000,
    epochs: Annotated[
        int | None, typer.Option(metavar="E", help="also train the network anew without each factor, E epochs each")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(metavar="MINUTES", help="like --epochs, with as many epochs as fit into so many minutes"),
    ] = None,
    seed: Annotated[int, typer.Option(help="of all draws", min=0)] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Rank the factors by how well they tell landslides apart.

    They are ranked by random forest, information gain ratio and, with a model, by permutation; with intervals.
    """
    require_inputs(model, prepared)
    from landslip.importance.ablation import Budget
    from landslip.importance.importance import importance, importance_table

    rankings = importance(
        prepared,
        out,
        model=model,
        repeats=repeats,
        block=block,
        sample=sample,
        seed=seed,
        overwrite=overwrite,
        budget=None if epochs is None and budget is None else Budget(epochs, budget),
    )
    typer.echo(importance_table(rankings))


def compare_command(
    run: RunFile,
    prepared: PreparedFolder,
    out: OutFolder,
    *,
    change: Change = None,
    plan: Plan = False,
    overwrite: Overwrite = False,
) -> None:
    """Compare networks and baselines, with and without factors.

    All are trained on the same ground: tables, maps and curves side by side. The same command goes on where it was
    stopped.
    """
    from landslip.config.run import read_run

    choices = read_run(run, overrides(change))
    require_inputs(prepared=prepared)
    from landslip.experiments.compare import compare, plan_in_words
    from landslip.experiments.comparison_tables import write_comparison

    if plan:
        typer.echo(plan_in_words(choices, prepared, out, overwrite))
        return
    results = compare(choices, prepared, out, overwrite)
    typer.echo(write_comparison(results, prepared, out, overwrite))
    typer.echo(f"{out / 'comparison.md'}, comparison.csv, comparison.json and pictures are in {out}")
    if any(result.failed is not None for result in results):
        raise typer.Exit(1)


def ladder_command(
    run: RunFile,
    prepared: PreparedFolder,
    out: OutFolder,
    *,
    elsewhere: Annotated[
        list[Path] | None, typer.Option(metavar="PREPARED_B/", help="Another site to score on. May be repeated.")
    ] = None,
    change: Change = None,
    accept_range: AcceptRange = False,
    plan: Plan = False,
    overwrite: Overwrite = False,
) -> None:
    """Score a network ever more honestly, to see what scores flatter.

    It is scored as the paper does, on ground kept apart, and elsewhere: what the headline is worth.
    """
    from landslip.config.run import read_run

    choices = read_run(run, overrides(change))
    for folder in (prepared, *(elsewhere or ())):
        require_inputs(prepared=folder)
    from landslip.experiments.ladder import ladder, ladder_table, plan_in_words

    if plan:
        typer.echo(plan_in_words(choices, prepared, out, elsewhere or (), overwrite))
        return
    rungs = ladder(choices, prepared, out, elsewhere=elsewhere or (), overwrite=overwrite, accept_range=accept_range)
    typer.echo(ladder_table(rungs))
    if any(rung.failed for rung in rungs):
        raise typer.Exit(1)
