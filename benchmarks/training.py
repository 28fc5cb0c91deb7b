"""Blocks per second and peak memory of training: `python benchmarks/training.py [--network N] [--batch B] [--side S]`.

Each way of training runs in a process of its own, since what is asked of the allocator holds for a whole process. Ways
take turns, several rounds; medians are compared. `plain` is PyTorch as it comes: fp32, default layout, default
allocator, 1x1 convolutions as convolutions. `best` is what `landslip train` does on a processor without matrix units.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

WAYS = ("plain", "best", "best in bf16", "best, recomputing")
STEPS = 3


def steps(way: str, name: str, channels: int, batch: int, side: int) -> dict[str, float]:
    """Seconds of the median step and the process's peak memory in MiB, for one way in this process."""
    import torch

    from landslip.models import build_model
    from landslip.models.forward import autocast, keep_memory
    from landslip.models.layers import Pointwise
    from landslip.runtime.provenance import peak_memory
    from landslip.training.loop import masked_loss

    torch.manual_seed(0)
    options = {"checkpoint": True} if way == "best, recomputing" else {}
    network = build_model(name, channels, **options).train()
    x = torch.randn(batch, channels, side, side)
    y = (torch.rand(batch, side, side) > 0.9).to(torch.uint8)
    if way == "plain":
        Pointwise.forward = torch.nn.Conv2d.forward  # type: ignore[method-assign]
    else:
        keep_memory()
        network, x = network.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, fused=way != "plain")
    taken = []
    for _ in range(1 + STEPS):
        began = time.perf_counter()
        with autocast("bf16" if way == "best in bf16" else "fp32", x.device):
            logits = network(x)
        loss = masked_loss(logits[:, 0].float(), y, "bce")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        taken.append(time.perf_counter() - began)
    return {"seconds": statistics.median(taken[1:]), "peak_mib": peak_memory()}


def main() -> None:
    """Print a row for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="fc_densenet")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        print(json.dumps(steps(given.way, given.network, given.channels, given.batch, given.side)))
        return
    ways = [w for w in WAYS if w != "best, recomputing" or given.network.startswith("fc_densenet")]
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(given.rounds):
        for way in ways:
            command = [sys.executable, __file__, *sys.argv[1:], "--way", way]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[way].append(json.loads(done.stdout))
    plain = statistics.median(r["seconds"] for r in found["plain"])
    print(f"{given.network}, {given.channels} channels, batches of {given.batch} x {given.side} px")
    print("| way | blocks/s | against plain | peak memory (MiB) |\n|---|---|---|---|")
    for way, results in found.items():
        taken = statistics.median(r["seconds"] for r in results)
        peak = statistics.median(r["peak_mib"] for r in results)
        print(f"| {way} | {given.batch / taken:.2f} | {plain / taken:.2f} | {peak:,.0f} |")


if __name__ == "__main__":
    main()
