"""How long landslip takes to say no, and what memory it takes for that: slips of the pen, and what is said at once.

Each command runs as a process of its own, `--rounds` times, and the best of each figure is kept. OMP_NUM_THREADS=1
makes figures of several machines alike.

    OMP_NUM_THREADS=1 python benchmarks/refusals.py RUN/ [--rounds 5] [--json OUT.json]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from process import measured_command, show_table

COLUMNS = {
    "command": ("command", "<"),
    "seconds": ("s", ".2f"),
    "processor_seconds": ("processor s", ".2f"),
    "peak_mib": ("peak MiB", ",.0f"),
    "said": ("last line", "<"),
}


def slips(run: Path, folder: Path) -> dict[str, list[Path | str]]:
    """The commands by what is shown of them; files with the slips are written into `folder`."""
    (folder / "typo.toml").write_text("[training]\nepoch = 3\n", encoding="utf-8")
    (folder / "site.toml").write_text('name = "x"\n[dem]\npth = "dem.tif"\n', encoding="utf-8")
    with rasterio.open(run / "prepared" / "stack.tif") as stack:
        profile = {"driver": "GTiff", "dtype": "float32", "count": 1, "height": 64, "width": 64}
        with rasterio.open(folder / "other.tif", "w", crs=stack.crs, transform=stack.transform, **profile) as other:
            other.write(np.zeros((1, 64, 64), np.float32))
            other.descriptions = ("thermal",)
    prepared, model, out = run / "prepared", run / "model", folder / "out"
    return {
        "--help": ["--help"],
        "train typo.toml prepared/ model/": ["train", folder / "typo.toml", prepared, out],
        "compare typo.toml prepared/ out/": ["compare", folder / "typo.toml", prepared, out],
        "check typo.toml": ["check", folder / "site.toml"],
        "map model/ other_stack.tif x.tif": ["map", model, folder / "other.tif", folder / "x.tif"],
        "report no_run/ out.html": ["report", folder / "none", folder / "x.html"],
        "info prepared/stack.tif": ["info", prepared / "stack.tif"],
    }


def measure(command: list[Path | str], rounds: int) -> dict[str, Any]:
    """The best of each figure, and the last line that was said."""
    found = [measured_command([sys.executable, "-m", "landslip", *command]) for _ in range(rounds)]
    best = {key: min(getattr(one, key) for one in found) for key in ("seconds", "processor_seconds", "peak_mib")}
    lines = found[0].said.strip().splitlines() or [""]
    return {**best, "said": lines[-1][:60]}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder with run.toml, prepared/ and model/")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        commands = slips(given.run, Path(folder))
        rows = [{"command": name, **measure(command, given.rounds)} for name, command in commands.items()]
    show_table(rows, COLUMNS)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
