"""Measure mapping: `python benchmarks/mapping.py [--quick] [--json]`, and, each instead of the table of engines,
`--networks`, `--fidelity`, `--growth`, `--memory-table`.

The table of engines maps one site in every way, file to file: sliding windows as everybody writes them, MONAI's
inferer, `landslip map` with each engine. Every row is a process of its own, rows take turns, and medians of several
rounds are compared: machines are shared and noisy, so read the ratios. Scores are of the split's test part, ground
never trained on; changed pixels and differences are against PyTorch in fp32 on the whole raster.

Without --model and --prepared a made-up site is prepared and a model trained on it first (--work keeps both for the
next run). `--fidelity` is the table for window plans: sizes of the windows by memory, halos, blending; `of windows` is
the largest difference from the first row of the same engine and precision, so what another size of windows makes.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mapping_growth
import numpy as np
from mapping_ways import measured, untrained
from process import show_table
from virtual import crop

from landslip.config.run import NetworkChoice, Run, read_run
from landslip.config.site import read_site
from landslip.dataset.channels import read_stack_info
from landslip.dataset.split import TEST
from landslip.dataset.zscore import fit
from landslip.demo.demo import FULL, FULL_RUN, QUICK, QUICK_RUN
from landslip.demo.synthetic_site import generate, write_site
from landslip.geo.grid import lattice
from landslip.geo.raster import open_raster, read, read_info, read_stored
from landslip.inference.int8 import QUANTIZED
from landslip.metrics.confusion import Confusion
from landslip.models.layers import macs
from landslip.preparation.prepare import prepare
from landslip.runtime.progress import say
from landslip.training.checkpoint import load_model, save_model
from landslip.training.model_files import FACTS
from landslip.training.train import train

EPOCHS, QUICK_EPOCHS = 3, 4  # enough to tell landslides from the rest
GIB = 2**30


@dataclass(frozen=True)
class Site:
    """A prepared site and the model to map it with; `split` None where scores have no ground of their own."""

    model: Path
    stack: Path
    valid: Path
    label: Path
    split: Path | None

    @property
    def given(self) -> dict[str, str]:
        """What every way of mapping takes."""
        return {"model": str(self.model), "stack": str(self.stack), "valid": str(self.valid)}


@dataclass(frozen=True)
class Row:
    """A row of a table: its name, the way of mapping_ways.py, and what that is given besides the site."""

    name: str
    way: str
    given: dict[str, Any]


ENGINE_CHOICES = ("engine_choice", "precision_choice")


def engine_row(engine: str, precision: str) -> Row:
    """`landslip map` by an engine in a precision."""
    return Row(f"{engine} {precision}", "landslip", {"engine_choice": engine, "precision_choice": precision})


NAIVE, DEFAULT = Row("naive", "naive", {}), Row("default", "landslip", {})
FLOATS = [engine_row(engine, how) for engine in ("torch", "openvino") for how in ("fp32", "bf16")]
INT8 = Row("int8", "landslip", {"engine_choice": "openvino", "precision_choice": "int8"})
PAPER = Row("paper", "landslip", {"method": "paper"})
ENGINES = [
    NAIVE,
    Row("naive batch 16", "naive", {"batch": 16}),
    Row("monai", "monai", {}),
    Row("monai gaussian 256", "monai", {"side": 256, "blend": "gaussian"}),
    PAPER,
    DEFAULT,
    *FLOATS,
    INT8,
]
QUICK_ENGINES = [NAIVE, Row("monai", "monai", {}), DEFAULT, *FLOATS[:1], INT8]
COLUMNS = {
    "shown": ("way", ""),
    "window": ("window", ""),
    "seconds": ("seconds", ".2f"),
    "loading_seconds": ("loading", ".2f"),
    "compute_seconds": ("computing", ".2f"),
    "megapixels_per_second": ("Mpx/s", ".3f"),
    "ratio": ("x naive", ".2f"),
    "share": ("of conv. rate", ".2f"),
    "peak_mb": ("peak MiB", ",.0f"),
    "f1": ("F1 test", ".4f"),
    "kappa": ("kappa test", ".4f"),
    "f1_all": ("F1 all", ".4f"),
    "changed": ("changed", ".3%"),
    "max_difference": ("max diff.", ".1e"),
    "mean_difference": ("mean diff.", ".1e"),
    "of_windows": ("of windows", ".1e"),
}


def fidelity_rows(memory: list[float], halos: list[int]) -> list[Row]:
    """Window plans: each engine, with sizes of windows by memory in GiB; halos in pixels; blending."""
    sizes = [
        Row(f"{row.name}, {size:g} GiB", row.way, {**row.given, "memory": size * GIB})
        for row in (*FLOATS, INT8)
        for size in memory
    ]
    wide = [
        Row(f"halo {halo}, {memory[0]:g} GiB", "landslip", {"memory": memory[0] * GIB, "halo": halo}) for halo in halos
    ]
    blends = [Row(f"monai gaussian {side}", "monai", {"side": side, "blend": "gaussian"}) for side in (64, 128, 256)]
    return [DEFAULT, *FLOATS, INT8, *sizes, *wide, PAPER, Row("monai constant 64", "monai", {}), *blends]


# ---- sites and models ----


def made_site(work: Path, quick: bool, epochs: int | None) -> Site:
    """The made-up site, prepared, with a model trained on it for a few epochs; what `work` holds already is kept."""
    folder = work / ("quick" if quick else "full")
    prepared, model, run = folder / "prepared", folder / "model", folder / "run.toml"
    if not (prepared / "manifest.json").exists():
        inputs = write_site(generate(shape=QUICK if quick else FULL), folder / "inputs", overwrite=True)
        prepare(read_site(inputs), prepared, overwrite=True)
    if not (model / FACTS).exists():
        run.write_text(QUICK_RUN if quick else FULL_RUN, encoding="utf-8")
        # the whole network on the small site too: with a shallow one, loading an engine would be most of the time
        chosen = {"training.epochs": epochs or (QUICK_EPOCHS if quick else EPOCHS), "network.options": {}}
        train(read_run(run, chosen), prepared, model)
    return site_of(model, prepared)


def site_of(model: Path, prepared: Path) -> Site:
    """A site of a prepared folder and a model folder."""
    split = model / "split.tif"
    stack, valid, label = (prepared / name for name in ("stack.tif", "valid.tif", "label.tif"))
    return Site(model, stack, valid, label, split if split.exists() else None)


def cropped(site: Site, megapixels: float, folder: Path) -> Site:
    """The square of so many megapixels that holds the most landslide of the test part, as virtual rasters."""
    assert site.split is not None, "a crop is chosen by the test part, and the model has no split.tif"
    wanted = (read_stored(site.label) == 1) & (read_stored(site.split) == TEST)
    side = min(round((megapixels * 1e6) ** 0.5), *wanted.shape)
    best = max(lattice(wanted.shape, side, max(side // 4, 1)), key=lambda w: int(wanted[w.slices].sum()))
    say(f"cropped to rows from {best.row}, columns from {best.column}, {side} x {side} pixels")
    files = (site.stack, site.valid, site.label, site.split)
    stack, valid, label, split = (crop(path, folder / f"{path.stem}.vrt", best) for path in files)
    return Site(site.model, stack, valid, label, split)


def untrained_site(site: Site, name: str, folder: Path) -> Site:
    """The site with a network by name, of the weights that training starts from."""
    stack = read_stack_info(site.stack)
    known = read_stored(site.valid) == 1
    with open_raster(stack.path) as dataset:
        zscore = fit(dataset, range(len(stack.channels)), stack.channels, lattice(known.shape, 64, 64), known)
    model = untrained(name, {}, stack.channels, zscore)
    run = Run(network=NetworkChoice(name=name)).model_dump(mode="json")
    save_model(folder, model.network.state_dict(), stack.channels, zscore, 0.5, facts={"run": run}, overwrite=True)
    return Site(folder, site.stack, site.valid, site.label, None)


def quantized(site: Site, prepared: Path, folder: Path) -> Site:
    """The site with a copy of its model that is calibrated for int8, where `landslip quantize` can do that here."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(site.model, folder)
    if not (folder / QUANTIZED).exists():
        command = [sys.executable, "-m", "landslip", "quantize", str(folder), str(prepared)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            say(f"no int8: {' '.join(done.stderr.split())[-300:]}")
    return Site(folder, site.stack, site.valid, site.label, site.split)


# ---- tables ----


def table(
    site: Site, rows: list[Row], rounds: int, work: Path, rates: dict[str, float], scores: bool = True
) -> dict[str, Any]:
    """Every row `rounds` times in turn, with `scores` held against the reference and the label: {"rows", "notes"}."""
    maps = work / "maps"
    maps.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[dict[str, Any]]] = {}
    notes: list[str] = []
    for at in range(rounds):
        for row in _first(DEFAULT, rows) if not at else [row for row in rows if row.name in found]:
            if _is_default(row, found):
                notes.append(f"{row.name} is the default")
                continue
            say(f"round {at + 1}: {row.name}")
            one = measured(row.way, **site.given, out=maps / f"{row.name}.tif", **row.given)
            if "skipped" in one:
                notes.append(f"{row.name} skipped: {one['skipped']}")
                continue
            found.setdefault(row.name, []).append(one)
    said: dict[str, Any] = {"notes": notes}
    if scores:
        say("reference")
        base = maps / "reference.tif"
        said["reference"] = measured("reference", **site.given, out=base)["reference"]
        scored = scorer(site, base)
    work_of = operations(site)
    results = []
    widest: dict[tuple[Any, ...], Path] = {}  # the first map by a way, to hold those of other windows against
    for row in rows:
        if row.name not in found:
            continue
        runs = found[row.name]
        result = {"name": row.name, **{key: _median([run[key] for run in runs]) for key in runs[0]}}
        result["shown"] = f"default ({result['engine']} {result['precision']})" if row == DEFAULT else row.name
        pixels = read_info(site.stack).grid.shape
        result["megapixels_per_second"] = pixels[0] * pixels[1] / 1e6 / result["seconds"]
        if "naive" in found:
            result["ratio"] = _median([run["seconds"] for run in found["naive"]]) / result["seconds"]
        if result["precision"] in rates:
            result["share"] = work_of / result["seconds"] / 1e9 / rates[result["precision"]]
        path = maps / f"{row.name}.tif"
        if scores:
            result |= scored(path)
            plan = {key: value for key, value in row.given.items() if key not in ("memory", *ENGINE_CHOICES)}
            first = widest.setdefault((row.way, result["engine"], result["precision"], str(plan)), path)
            if first != path:
                result["of_windows"] = float(np.nanmax(np.abs(read(path) - read(first))))
        results.append(result)
    return {"rows": results, **said}


def _first(row: Row, rows: list[Row]) -> list[Row]:
    """The rows with one of them first, where it is among them."""
    return [r for r in rows if r == row] + [r for r in rows if r != row]


def _is_default(row: Row, found: dict[str, list[dict[str, Any]]]) -> bool:
    """Whether an engine in a precision is what the default row has just turned out to be."""
    if row not in FLOATS or "default" not in found:
        return False
    return row.name == f"{found['default'][0]['engine']} {found['default'][0]['precision']}"


def _median(values: list[Any]) -> Any:
    return statistics.median(values) if isinstance(values[0], float) else values[0]


def scorer(site: Site, reference: Path) -> Callable[[Path], dict[str, float | None]]:
    """What scores a map: F1 and kappa on the test part and on all ground, and how far it is from the reference."""
    base, truth = read(reference)[0], read_stored(site.label)
    at = load_model(site.model).threshold
    parts = None if site.split is None else read_stored(site.split)
    test = None if parts is None or not (parts == TEST).any() else parts == TEST

    def score(path: Path) -> dict[str, float | None]:
        p = read(path)[0]
        known = np.isfinite(p) & np.isfinite(base)
        apart = np.abs(p[known] - base[known])
        every = Confusion.from_arrays(p >= at, truth, np.isfinite(p))
        part = every if test is None else Confusion.from_arrays(p >= at, truth, np.isfinite(p) & test)
        figures = {
            "f1": part.f1,
            "kappa": part.kappa,
            "f1_all": every.f1,
            "kappa_all": every.kappa,
            "changed": float(np.mean((p[known] >= at) != (base[known] >= at))),
            "max_difference": float(apart.max()),
            "mean_difference": float(apart.mean()),
        }
        return {key: None if math.isnan(value) else value for key, value in figures.items()}

    return score


def operations(site: Site) -> float:
    """Floating point operations of the model's convolutions over the stack, every pixel once."""
    model = load_model(site.model)
    rows, columns = read_info(site.stack).grid.shape
    return 2 * macs(model.network, len(model.channels), 64) / 64**2 * rows * columns


def convolution_rates() -> dict[str, float]:
    """GFLOP/s of 3x3 convolutions by precision: the better of the engines that are here."""
    found: dict[str, float] = {}
    for engine, how in (
        ("torch", "fp32"),
        ("torch", "bf16"),
        ("openvino", "fp32"),
        ("openvino", "bf16"),
        ("openvino", "int8"),
    ):
        say(f"rate of convolutions: {engine} {how}")
        rate = measured("convolutions", engine=engine, precision=how).get("gflops")
        if rate is not None:
            found[how] = max(rate, found.get(how, 0.0))
    return found


def networks(
    site: Site, rounds: int, work: Path, rates: dict[str, float], only: list[str] | None = None
) -> dict[str, Any]:
    """The main rows for each of the five networks, of initial weights: speed and memory, no scores."""
    rows, notes = [], []
    for name in only or mapping_growth.FIVE:
        here = untrained_site(site, name, work / "untrained" / name)
        one = table(here, [NAIVE, DEFAULT, *FLOATS], rounds, work / "untrained" / name, rates, scores=False)
        rows += [{**row, "network": name, "shown": f"{name}: {row['shown']}"} for row in one["rows"]]
        notes += [f"{name}: {note}" for note in one["notes"]]
    return {"rows": rows, "notes": notes}


def main() -> None:
    """Print the table asked for, as text or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--networks", action="store_true", help="the main rows for the five networks, untrained")
    what.add_argument("--fidelity", action="store_true", help="window plans and blending by score and difference")
    what.add_argument("--growth", action="store_true", help="time and memory on rasters that grow")
    what.add_argument("--memory-table", action="store_true", help="bytes of a pixel by network and engine")
    parser.add_argument("--quick", action="store_true", help="a small site, one round: under five minutes")
    parser.add_argument("--model", type=Path, help="default: trained on the made-up site")
    parser.add_argument("--prepared", type=Path, help="default: the made-up site")
    parser.add_argument("--work", type=Path, help="keep what is made here, and go on with it; default: nothing is kept")
    parser.add_argument("--rounds", type=int, help="default: 3; 1 with --quick, --networks, --fidelity, --growth")
    parser.add_argument("--epochs", type=int, help=f"of the model on the made-up site; default: {EPOCHS}")
    parser.add_argument("--crop", type=float, metavar="MPX", help="map only a square of so many megapixels")
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="only these rows, or networks")
    parser.add_argument("--memory", type=float, nargs="+", default=[1.2, 1.6, 2.5, 4.0], metavar="GIB")
    parser.add_argument("--halos", type=int, nargs="*", default=[32, 128], metavar="PX")
    parser.add_argument("--megapixels", type=float, nargs="*", default=[10, 100], help="of --growth")
    parser.add_argument("--side", type=int, default=512, help="pixels, of --memory-table")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if (given.model is None) != (given.prepared is None):
        parser.error("--model and --prepared go together")
    with tempfile.TemporaryDirectory() as folder:
        work = (given.work or Path(folder)).resolve()
        found, columns = measure(given, work)
    if given.json:
        print(json.dumps(found, indent=2))
        return
    show_table(found["rows"], columns)
    for key, value in found.items():
        if key not in ("rows", "notes"):
            print(f"{key}: {value}")
    for note in found.get("notes", []):
        print(f"note: {note}")


def measure(given: argparse.Namespace, work: Path) -> tuple[dict[str, Any], dict[str, tuple[str, str]]]:
    """The table that was asked for, and its columns."""
    if given.memory_table:
        return mapping_growth.memory_table(given.side, given.rows), mapping_growth.MEMORY_COLUMNS
    site = site_of(given.model, given.prepared) if given.model else made_site(work, given.quick, given.epochs)
    prepared = given.prepared or site.stack.parent
    if given.crop:
        site = cropped(site, given.crop, work / "crop")
    rounds = given.rounds or (1 if given.quick or given.networks or given.fidelity or given.growth else 3)
    if given.growth:
        grown = mapping_growth.growth(site.given, given.megapixels, rounds, work)
        return grown, mapping_growth.GROWTH_COLUMNS
    rates = {} if given.fidelity or given.quick else convolution_rates()
    if given.networks:
        found = networks(site, rounds, work, rates, given.rows)
    else:
        if not given.quick:
            site = quantized(site, prepared, work / "model_int8")
        rows = QUICK_ENGINES if given.quick else ENGINES
        rows = fidelity_rows(given.memory, given.halos) if given.fidelity else rows
        found = table(site, [row for row in rows if not given.rows or row.name in given.rows], rounds, work, rates)
    shape = read_info(site.stack).grid.shape
    found |= {"rounds": rounds, "site": f"{shape[0]} x {shape[1]} px"} | ({"gflops": rates} if rates else {})
    held = {key for row in found["rows"] for key, value in row.items() if value is not None}
    return found, {key: column for key, column in COLUMNS.items() if key in held}


if __name__ == "__main__":
    main()
