"""What another machine changes: `python benchmarks/machines.py MODEL/ PREPARED/ [--train RUN.toml]`.

One model maps one site in processes that are told to use fewer threads and older instructions (PyTorch and its oneDNN;
OpenVINO chooses its own), and each map is compared with the first. With `--train` a network is trained in each as well:
its weights, and its kappa on validation ground. On one machine, in one way, nothing differs: that is a row too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from process import show_table

from landslip.geo.raster import read, read_info

OLDER = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
OLDEST = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}
WAYS: dict[str, tuple[str, dict[str, str]]] = {
    "PyTorch, one thread": ("torch", {}),
    "again": ("torch", {}),
    "two threads": ("torch", {"OMP_NUM_THREADS": "2"}),
    "AVX2": ("torch", OLDER),
    "SSE4.1": ("torch", OLDEST),
    "OpenVINO, one thread": ("openvino", {}),
    "OpenVINO, again": ("openvino", {}),
    "OpenVINO, two threads": ("openvino", {"OMP_NUM_THREADS": "2"}),
}
COLUMNS = {
    "shown": ("machine", ""),
    "largest": ("largest difference of a probability", ".1e"),
    "mean": ("in the mean", ".1e"),
    "changed": ("pixels that change class, %", ".4f"),
    "weights": ("weights of a training", ""),
    "kappa": ("their validation kappa, %", ".2f"),
}


def landslip(environment: dict[str, str], *words: object) -> None:
    """Run `landslip WORDS` with these variables; raises CalledProcessError where it fails."""
    given = os.environ | {"OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-m", "landslip", *map(str, words)]
    subprocess.run(command, check=True, env=given, stdout=subprocess.DEVNULL)


def map_row(model: Path, prepared: Path, work: Path, engine: str, environment: dict[str, str]) -> dict[str, Any]:
    """A map of the site compared with the first, which the first call makes."""
    first, out = work / "first.tif", work / "map.tif"
    made = out if first.exists() else first
    landslip(environment, "map", model, prepared / "stack.tif", made, "--engine", engine, "--overwrite")
    values, wanted = read(made)[0], read(first)[0]
    threshold = float(read_info(first).tags["threshold"])
    away = np.abs(values - wanted)[~np.isnan(wanted)]
    changed = ((values >= threshold) != (wanted >= threshold))[~np.isnan(wanted)]
    return {"largest": float(away.max()), "mean": float(away.mean(dtype=float)), "changed": 100 * float(changed.mean())}


def train_row(run: Path, prepared: Path, work: Path, environment: dict[str, str]) -> dict[str, Any]:
    """A network's kappa on validation ground, and whether its weights are the first's, bit for bit."""
    first, out = work / "first", work / "model"
    made = out if first.exists() else first
    landslip(environment, "train", run, prepared, made, "--overwrite")
    facts, wanted = (json.loads((folder / "model.json").read_text(encoding="utf-8")) for folder in (made, first))
    same = facts["weights_sha256"] == wanted["weights_sha256"]
    return {"kappa": 100 * facts["validation"]["validation_kappa"], "weights": "the same" if same else "others"}


def main() -> None:
    """Print the table, as text or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--train", type=Path, metavar="RUN.toml")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for shown, (engine, environment) in WAYS.items():
            row = {"shown": shown, **map_row(given.model, given.prepared, Path(folder), engine, environment)}
            if given.train and engine == "torch":
                row |= train_row(given.train, given.prepared, Path(folder), environment)
            rows.append(row)
    print(json.dumps(rows, indent=2)) if given.json else show_table(rows, COLUMNS)


if __name__ == "__main__":
    main()
