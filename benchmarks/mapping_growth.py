"""Mapping rasters that grow, and the memory of a pixel: `python benchmarks/mapping.py --growth`, `--memory-table`.

A large raster is the stack repeated in a virtual raster, so that it takes no disk and every part of it is read. Time
per megapixel must stay level, and memory must follow the window and not the raster, with the model given, where the
network takes the time; growth.py has one of a layer, where reading, writing and putting together do.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from mapping_ways import measured
from virtual import repeated

from landslip.inference.engines import FLOAT, HELD_INPUTS, SHARE_HELD
from landslip.models import NETWORKS
from landslip.runtime.progress import say
from landslip.training.checkpoint import load_model

FIVE = [name for name in NETWORKS if name != "fc_densenet_shallow"]
CHANNELS = 16  # of the memory table: the paper's
SMALL = 256  # pixels a side: the memory of a pixel is what more of them take
GROWTH_COLUMNS = {
    "shown": ("network", ""),
    "megapixels": ("Mpx", "g"),
    "seconds": ("seconds", ",.1f"),
    "seconds_per_megapixel": ("s per Mpx", ".3f"),
    "processor_seconds_per_megapixel": ("processor s per Mpx", ".3f"),
    "against_first": ("s per Mpx, x first", ".3f"),
    "windows": ("windows", ",d"),
    "window": ("window", ""),
    "peak_mb": ("peak MiB", ",.0f"),
    "peak_against_first": ("peak, x first", ".3f"),
}
MEMORY_COLUMNS = {
    "shown": ("network and engine", ""),
    "seconds": ("seconds", ".2f"),
    "peak_mb": ("peak MiB", ",.0f"),
    "bytes": ("bytes a pixel", ",.0f"),
    "bytes_reckoned": ("reckoned", ",.0f"),
    "of_reckoned": ("held / reckoned", ".2f"),
    "share_held": ("share held", ".3f"),
    "share_allowed": ("SHARE_HELD", ".2f"),
    "base_mb": ("base MiB", ",.0f"),
}


def growth(given: dict[str, str], sizes: list[float], rounds: int, work: Path) -> dict[str, Any]:
    """Rows by size; sizes take turns in every round, medians are compared."""
    shown = str(load_model(Path(given["model"])).facts["run"]["network"]["name"])
    found: dict[float, list[dict[str, Any]]] = {size: [] for size in sizes}
    out = work / "grown.tif"
    for _ in range(rounds):
        for size in sizes:
            say(f"{shown}, {size:g} megapixels")
            parts = {key: str(repeated(Path(given[key]), work / f"{key}.vrt", size)) for key in ("stack", "valid")}
            one = measured("landslip", **given | parts, out=out)
            if "skipped" in one:
                raise RuntimeError(one["skipped"])
            found[size].append(one)
            out.unlink()
    rows: list[dict[str, Any]] = []
    for size, runs in found.items():
        row = {key: statistics.median(run[key] for run in runs) for key in ("seconds", "processor_seconds", "peak_mb")}
        row |= {f"{key}_per_megapixel": row[key] / size for key in ("seconds", "processor_seconds")}
        first = rows[0] if rows else row
        row["against_first"] = row["seconds_per_megapixel"] / first["seconds_per_megapixel"]
        row["peak_against_first"] = row["peak_mb"] / first["peak_mb"]
        same = {key: runs[0][key] for key in ("engine", "precision", "window", "windows")}
        rows.append({"name": f"{shown}, {size:g} Mpx", "shown": shown, "megapixels": size, **row, **same})
    return {"rows": rows, "rounds": rounds}


def memory_table(side: int, only: list[str] | None = None) -> dict[str, Any]:
    """Bytes that a pixel takes in a block of `side` x `side`, by network and engine, over what the engine reckons.

    A block of 256 x 256 in a process of its own tells what the rest of the process takes.
    """
    rows, notes = [], []
    for network in only or FIVE:
        for engine in SHARE_HELD:
            for how in ("fp32", "bf16"):
                name = f"{network} {engine} {how}"
                say(name)
                asked = {"network": network, "options": {}, "channels": CHANNELS, "engine": engine, "precision": how}
                few = measured("block", **asked, side=SMALL)
                if "skipped" in few:
                    notes.append(f"{name} skipped: {few['skipped']}")
                    continue
                many = measured("block", **asked, side=side)
                rows.append({"name": name, "shown": name, **_of_a_pixel(few, many, side)})
    return {"rows": rows, "side": side, "channels": CHANNELS, "notes": notes}


def _of_a_pixel(few: dict[str, Any], many: dict[str, Any], side: int) -> dict[str, float]:
    held = (many["running_mb"] - few["running_mb"]) * 2**20 / (side**2 - SMALL**2)
    reckoned, allowed = many["bytes_reckoned"], SHARE_HELD[many["engine"]]
    given_out = (reckoned - HELD_INPUTS * FLOAT * CHANNELS) / allowed  # by all layers, for a pixel
    return {
        "seconds": many["seconds"],
        "peak_mb": many["peak_mb"],
        "bytes": held,
        "bytes_reckoned": reckoned,
        "of_reckoned": held / reckoned,
        "share_held": (held - FLOAT * CHANNELS) / given_out,  # the block itself is no layer's
        "share_allowed": allowed,
        "base_mb": many["running_mb"] - held * side**2 / 2**20,
    }
