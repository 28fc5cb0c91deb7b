"""How fast `landslip serve` sends tiles of a large map, and how soon the first one is on the screen.

A probability raster is repeated until it has the size asked for, as a COG and as a tiled GeoTIFF without overviews.
A walk over the map (a view of 6 x 4 tiles, moved by two tiles or zoomed by one level at random) asks one server for
tiles, one after the other, over one connection: every tile of the walk once, so that none comes from a cache.

    python benchmarks/serve.py RUN/ [--side 15400] [--tiles 1500] [--json OUT.json]
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.shutil import copy

ACROSS, DOWN = 6, 4  # tiles of a view


def write_map(source: Path, plain: Path, side: int) -> None:
    """Repeat a probability raster over `side` x `side` pixels: a tiled GeoTIFF without compression or overviews."""
    with rasterio.open(source) as dataset:
        piece, tags = dataset.read(1), dataset.tags()
        profile = dataset.profile | {
            "width": side, "height": side, "count": 1, "compress": None, "tiled": True, "blockxsize": 512,
            "blockysize": 512, "bigtiff": "if_safer",
        }  # fmt: skip
        names = dataset.descriptions[:1]
    for key in ("predictor", "zlevel", "interleave"):
        profile.pop(key, None)
    across = -(-side // piece.shape[1])
    with rasterio.open(plain, "w", **profile) as dataset:
        dataset.descriptions = names
        dataset.update_tags(**tags)
        for top in range(0, side, 512):
            rows = np.arange(top, min(top + 512, side)) % piece.shape[0]
            strip = np.tile(piece[rows], (1, across))[:, :side]
            dataset.write(strip, 1, window=rasterio.windows.Window(0, top, side, len(rows)))


def start(run: Path) -> tuple[subprocess.Popen[str], int]:
    """A server of a run folder, and its port."""
    command = [sys.executable, "-m", "landslip", "serve", str(run), "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    return server, int(server.stderr.readline().split("http://127.0.0.1:")[1].split("/")[0])


def busy(server: subprocess.Popen[str]) -> float:
    """Processor time of a process so far, ms: what a tile costs however busy the machine is."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak(server: subprocess.Popen[str]) -> float:
    """The most memory that a process has held, MiB."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def walk(levels: int, side: int, number: int) -> list[tuple[int, int, int]]:
    """Tiles (z, x, y) in the order of a walk from the whole map, each once."""
    rng = np.random.default_rng(0)
    z, x, y = 0, 0, 0
    found: dict[tuple[int, int, int], None] = {}
    stuck = 0
    while len(found) < number and stuck < 2000:
        before = len(found)
        last = -(-side // (256 << (levels - z))) - 1
        for row in range(y, min(y + DOWN, last + 1)):
            for column in range(x, min(x + ACROSS, last + 1)):
                found[(z, column, row)] = None
        stuck = stuck + 1 if len(found) == before else 0
        if rng.random() < 0.25:
            new = int(np.clip(z + rng.choice([-1, 1], p=[0.35, 0.65]), 0, levels))
            x, y, z = (x << 1, y << 1, new) if new > z else (x >> 1, y >> 1, new) if new < z else (x, y, z)
            last = -(-side // (256 << (levels - z))) - 1
        x = int(np.clip(x + rng.integers(-2, 3), 0, max(0, last - ACROSS + 1)))
        y = int(np.clip(y + rng.integers(-2, 3), 0, max(0, last - DOWN + 1)))
    return list(found)[:number]


def ask(server: subprocess.Popen[str], port: int, side: int, number: int) -> dict[str, Any]:
    """Times of the tiles of a walk, ms, by zoom and together."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)

    def get(path: str) -> tuple[float, bytes]:
        begin = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == 200, (path, answer.status, content[:200])
        return 1000 * (time.perf_counter() - begin), content

    levels = json.loads(get("/api/run")[1])["grid"]["levels"]
    first = get("/api/tiles/probability/0/0/0.png")[0]
    times, sizes, before = [], [], busy(server)
    for z, x, y in walk(levels, side, number):
        taken, content = get(f"/api/tiles/probability/{z}/{x}/{y}.png")
        times.append(taken)
        sizes.append(len(content))
    return {
        "tiles": len(times),
        "first_tile_ms": round(first, 1),
        "median_ms": round(statistics.median(times), 1),
        "p99_ms": round(float(np.percentile(times, 99)), 1),
        "most_ms": round(max(times), 1),
        "tiles_per_second": round(1000 * len(times) / sum(times), 1),
        "tiles_per_second_median": round(1000 / statistics.median(times), 1),
        "tiles_per_second_p99": round(1000 / float(np.percentile(times, 99)), 1),
        "processor_ms_per_tile": round((busy(server) - before) / len(times), 2),
        "median_bytes": int(statistics.median(sizes)),
    }


def first_map(run: Path, times: int = 3) -> dict[str, Any] | None:
    """Seconds from starting the server to the first tile painted and to a ready page; None without a browser."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    if browser is None:
        return None
    painted, ready = [], []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for _ in range(times):
            page = chromium.new_context(viewport={"width": 1360, "height": 860}).new_page()
            begin = time.perf_counter()
            server, port = start(run)
            try:
                page.goto(f"http://127.0.0.1:{port}/", wait_until="commit")
                page.wait_for_selector("img.leaflet-tile-loaded", timeout=120_000)
                painted.append(time.perf_counter() - begin)
                page.wait_for_selector("body[data-ready=yes]", timeout=120_000)
                ready.append(time.perf_counter() - begin)
            finally:
                server.kill()
                server.wait()
                page.context.close()
        chromium.close()
    return {
        "first_tile_painted_s": round(statistics.median(painted), 2),
        "ready_s": round(statistics.median(ready), 2),
        "times": times,
    }


def measure(run: Path, side: int, number: int, browse: bool = True) -> dict[str, Any]:
    """Tiles of one run folder over HTTP, the server's peak memory and the first map in a browser."""
    server, port = start(run)
    try:
        found = ask(server, port, side, number) | {"peak_mib": round(peak(server))}
    finally:
        server.kill()
        server.wait()
    path = run / "map" / "probability.tif"
    return found | {"file_mib": round(path.stat().st_size / 2**20), "first_map": first_map(run) if browse else None}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a run folder whose probability raster is repeated")
    parser.add_argument("--side", type=int, default=15_400)
    parser.add_argument("--tiles", type=int, default=1500)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    results: dict[str, Any] = {"side": given.side, "run": {"first_map": first_map(given.run)}}
    with tempfile.TemporaryDirectory() as folder:
        plain, cog = Path(folder) / "plain", Path(folder) / "cog"
        for run in (plain, cog):
            (run / "map").mkdir(parents=True)
        write_map(given.run / "map" / "probability.tif", plain / "map" / "probability.tif", given.side)
        results["plain"] = measure(plain, given.side, given.tiles)
        begin = time.perf_counter()
        options = {"driver": "COG", "compress": "deflate", "predictor": "3", "blocksize": 256, "bigtiff": "if_safer"}
        copy(plain / "map" / "probability.tif", cog / "map" / "probability.tif", **options)
        results["cog_written_s"] = round(time.perf_counter() - begin, 1)
        (plain / "map" / "probability.tif").unlink()
        results["cog"] = measure(cog, given.side, given.tiles)
    print(json.dumps(results, indent=2))
    if given.json is not None:
        given.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
