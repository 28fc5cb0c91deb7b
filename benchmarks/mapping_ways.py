"""One way of mapping a site, in a process of its own: its seconds, its peak memory and its map. mapping.py starts it.

A process of its own, since the peak of memory and what was asked of the allocator hold for a whole process. Libraries
are loaded before the clock starts; the model, the engine and the compiling of its kernels belong to the time.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch

from landslip.dataset.channels import Channel, read_stack_info
from landslip.dataset.zscore import ZScore
from landslip.errors import LandslipError
from landslip.geo import tiling
from landslip.geo.geotiff import create_raster, write_raster, write_window
from landslip.geo.grid import Grid, Window, lattice, tiles
from landslip.geo.raster import PROBABILITY, open_raster, read, read_stored, read_window
from landslip.inference import mapping
from landslip.inference.engines import Engine, bytes_of_a_pixel, choose_engine, graph_engine, openvino_graph
from landslip.models import build_model
from landslip.models.forward import device, probabilities
from landslip.models.initialization import he_
from landslip.models.layers import macs
from landslip.runtime.provenance import machine, peak_memory
from landslip.training.checkpoint import Model, load_model, match_channels

SIZE, STEP = 64, 32  # pixels: the paper's windows
REFERENCE, MARGIN = 1024, 128  # pixels: windows of the reference where the raster does not fit as one
CONVOLUTIONS = 8  # layers of 3x3 that the rate is measured on


def measured(way: str, **given: Any) -> dict[str, Any]:
    """What a way prints about itself: {"seconds", "peak_mb", ..}, or {"skipped": why} where it cannot run here."""
    task = json.dumps({"way": way, **given}, default=str)
    done = subprocess.run([sys.executable, __file__, task], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{task}\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def untrained(name: str, options: dict[str, Any], channels: tuple[Channel, ...], zscore: ZScore | None = None) -> Model:
    """A model of the weights that training starts from: speed and memory do not depend on them."""
    network = build_model(name, len(channels), **options)
    he_(network, torch.Generator().manual_seed(0))
    return _model(network, channels, zscore)


def _model(network: torch.nn.Module, channels: tuple[Channel, ...], zscore: ZScore | None = None) -> Model:
    zscore = zscore or ZScore(np.zeros(len(channels)), np.ones(len(channels)))
    return Model(Path("untrained"), network.eval(), channels, zscore, 0.5, {})


def plain_channels(count: int) -> tuple[Channel, ...]:
    """So many channels, of no meaning."""
    return tuple(Channel(f"channel_{i}", f"channel_{i}", "band") for i in range(count))


# ---- the ways of mapping ----


def naive(model: str, stack: str, valid: str, out: str, batch: int = 1) -> dict[str, Any]:
    """Sliding windows as everybody writes them: 64 x 64 at step 32, torch eager, fp32, means of the probabilities."""
    began = time.perf_counter()
    loaded, x, known, grid = _whole(model, stack, valid)
    network, sums, counts = loaded.network.to(device()), np.zeros(known.shape), np.zeros(known.shape)
    windows = list(lattice(known.shape, SIZE, STEP))
    with torch.inference_mode():
        for first in range(0, len(windows), batch):
            some = windows[first : first + batch]
            block = torch.from_numpy(np.stack([x[:, w.slices[0], w.slices[1]] for w in some])).to(device())
            found = torch.sigmoid(network(block)[:, 0] / loaded.scaling.temperature + loaded.scaling.bias).cpu().numpy()
            for window, p in zip(some, found, strict=True):
                sums[window.slices] += p
                counts[window.slices] += 1
    _write(out, np.where(known, sums / counts, np.nan), grid)
    return {"seconds": time.perf_counter() - began, "peak_mb": peak_memory(), "engine": "torch", "precision": "fp32"}


def monai(model: str, stack: str, valid: str, out: str, side: int = SIZE, blend: str = "constant") -> dict[str, Any]:
    """MONAI's sliding window inferer at half a window's overlap, with what it takes by default otherwise."""
    if find_spec("monai") is None:
        return {"skipped": "monai is not installed (pip install monai)"}
    from monai.inferers import sliding_window_inference

    began = time.perf_counter()
    loaded, x, known, grid = _whole(model, stack, valid)
    network = loaded.network.to(device())

    def predict(block: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(network(block) / loaded.scaling.temperature + loaded.scaling.bias)

    with torch.inference_mode():
        image = torch.from_numpy(x[None]).to(device())
        found = sliding_window_inference(image, side, 4, predict, overlap=0.5, mode=blend)
        assert isinstance(found, torch.Tensor)
        p = found[0, 0].cpu().numpy()
    _write(out, np.where(known, p, np.nan), grid)
    return {"seconds": time.perf_counter() - began, "peak_mb": peak_memory(), "engine": "torch", "precision": "fp32"}


def landslip(
    model: str, stack: str, valid: str, out: str, memory: float | None = None, halo: int | None = None, **choices: Any
) -> dict[str, Any]:
    """`landslip map`, file to file; `choices` are those of `map_site`. `halo` replaces the plan's, in pixels."""
    if halo is not None:
        tiling.HALO = halo
    used: list[Engine] = []
    loading: list[float] = []
    calls: list[tuple[tuple[int, ...], float]] = []

    def timed(*given: Any) -> Engine:
        at = time.perf_counter()
        chosen = choose_engine(*given)
        loading.append(time.perf_counter() - at)
        used.append(chosen)

        def logits(block: np.ndarray) -> np.ndarray:
            at = time.perf_counter()
            found = chosen.logits(block)
            calls.append((block.shape, time.perf_counter() - at))
            return found

        return replace(chosen, logits=logits)

    mapping.choose_engine = timed  # type: ignore[assignment]
    began, began_processor = time.perf_counter(), time.process_time()
    done = mapping.map_site(
        load_model(Path(model)),
        Path(stack),
        Path(out),
        valid_path=Path(valid),
        overwrite=True,
        memory=memory,
        **choices,
    )
    found = {"seconds": time.perf_counter() - began, "peak_mb": peak_memory()}
    found["processor_seconds"] = time.process_time() - began_processor
    shape = calls[-1][0]
    block = np.random.default_rng(0).standard_normal(shape, np.float32)
    once = _seconds(lambda: used[0].logits(block))  # as a window is computed once its kernels are compiled
    found |= {"compute_seconds": once * len(calls), "window_seconds": once, "windows": done.windows}
    found["loading_seconds"] = loading[0] + max(calls[0][1] - once, 0.0)  # the engine, and compiling its kernels
    return found | {"engine": used[0].name, "precision": used[0].precision, "window": f"{shape[2]} x {shape[3]}"}


def reference(model: str, stack: str, valid: str, out: str, share: float = 0.5) -> dict[str, Any]:
    """PyTorch in fp32 on the whole raster where it fits `share` of the machine's memory, else windows of 1024 px.

    It knows nothing of plans and engines: what they are held against.
    """
    began = time.perf_counter()
    loaded, info = load_model(Path(model)), read_stack_info(Path(stack))
    bands = [at + 1 for at in match_channels(loaded, info)]
    known, step = read_stored(Path(valid)) == 1, loaded.multiple
    shape = info.grid.shape[0] + -info.grid.shape[0] % step, info.grid.shape[1] + -info.grid.shape[1] % step
    total = (machine()["memory_gib"] or 4) * 2**30
    whole = bytes_of_a_pixel(loaded, "torch") * shape[0] * shape[1] < share * total
    cores = [Window(0, 0, *info.grid.shape)] if whole else list(tiles(info.grid.shape, REFERENCE - 2 * MARGIN))
    network = loaded.network.to(device())
    with open_raster(info.path) as dataset, create_raster(
        Path(out), info.grid, "float32", [PROBABILITY], float("nan"), overwrite=True
    ) as target:  # fmt: skip
        for core in cores:
            if not known[core.slices].any():
                write_window(target, np.full((1, core.height, core.width), np.nan, np.float32), core)
                continue
            around = Window(core.row - MARGIN, core.column - MARGIN, core.height + 2 * MARGIN, core.width + 2 * MARGIN)
            window = _to_multiple(around, step).clip(shape)
            x = loaded.zscore.apply(read_window(dataset, window, bands))
            p = probabilities(network, x[None], "fp32", loaded.scaling)[0][core.within(window)]
            write_window(target, np.where(known[core.slices], p, np.nan)[None].astype(np.float32), core)
    named = "whole raster" if whole else f"windows of {REFERENCE} px, halo {MARGIN}"
    return {"seconds": time.perf_counter() - began, "peak_mb": peak_memory(), "reference": f"PyTorch fp32, {named}"}


def _to_multiple(window: Window, step: int) -> Window:
    row, column = window.row // step * step, window.column // step * step
    height, width = window.row + window.height - row, window.column + window.width - column
    return Window(row, column, height + -height % step, width + -width % step)


def _whole(model: str, stack: str, valid: str) -> tuple[Model, np.ndarray, np.ndarray, Grid]:
    """A model, the standardised stack (C, H, W), which pixels are valid (H, W), and the grid."""
    loaded, info = load_model(Path(model)), read_stack_info(Path(stack))
    x = loaded.zscore.apply(read(info.path, [at + 1 for at in match_channels(loaded, info)]))
    return loaded, x, read_stored(Path(valid)) == 1, info.grid


def _write(out: str, p: np.ndarray, grid: Grid) -> None:
    write_raster(Path(out), p[None].astype(np.float32), grid, [PROBABILITY], float("nan"), overwrite=True)


# ---- what engines hold and what they could reach ----


def block(
    network: str, options: dict[str, Any], channels: int, engine: str, precision: str, side: int
) -> dict[str, Any]:
    """Peak memory of one block of `side` x `side` pixels, run twice, and what the engine reckons a pixel takes."""
    model = untrained(network, options, plain_channels(channels))
    chosen = choose_engine(model, engine, precision)
    x = np.random.default_rng(0).standard_normal((1, channels, side, side), np.float32)
    chosen.logits(x)
    found = {"peak_mb": peak_memory()}
    if Path("/proc/self/clear_refs").exists():  # Linux forgets the peak: that of loading may be the higher one
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    found |= {"seconds": _seconds(lambda: chosen.logits(x)), "running_mb": peak_memory()}
    return found | {"bytes_reckoned": bytes_of_a_pixel(model, chosen.name), "engine": chosen.name}


def convolutions(engine: str, precision: str, width: int = 64, side: int = 384, runs: int = 5) -> dict[str, Any]:
    """GFLOP/s that an engine reaches on 3x3 convolutions alone: the ceiling of a network made of them."""
    network = torch.nn.Sequential(*(torch.nn.Conv2d(width, width, 3, padding=1) for _ in range(CONVOLUTIONS)))
    network.multiple = 1  # type: ignore[assignment]
    he_(network, torch.Generator().manual_seed(0))
    x = np.random.default_rng(0).standard_normal((1, width, side, side), np.float32)
    if precision == "int8":
        if find_spec("nncf") is None:
            return {"skipped": "nncf is not installed"}
        os.environ.setdefault("NNCF_CI", "1")  # else it reports its use over the network
        import nncf

        graph = nncf.quantize(openvino_graph(network, width), nncf.Dataset([x]), subset_size=1)
        chosen = graph_engine(graph, precision)
    else:
        chosen = choose_engine(_model(network, plain_channels(width)), engine, precision)
    chosen.logits(x)
    took = statistics.median(_seconds(lambda: chosen.logits(x)) for _ in range(runs))
    return {"gflops": 2 * macs(network, width, side) / took / 1e9, "peak_mb": peak_memory()}


def _seconds(step: Callable[[], Any]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


WAYS: dict[str, Callable[..., dict[str, Any]]] = {
    way.__name__: way for way in (naive, monai, landslip, reference, block, convolutions)
}


if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    try:
        found = WAYS[task.pop("way")](**task)
    except LandslipError as error:  # an engine that is not installed, a network that it cannot run
        found = {"skipped": str(error)}
    print(json.dumps(found))
