"""What a result was made with: software versions, the machine as the paper's Table V lists it, and its memory."""

from __future__ import annotations

import math
import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, TypedDict

LIBRARIES = ("landslip", "numpy", "scipy", "numba", "torch", "rasterio", "geopandas", "shapely", "pyflwdir")
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def own_version() -> str:
    """The version of landslip that runs."""
    return version("landslip")


def software() -> dict[str, str]:
    """Versions of Python and of the libraries that shape a result."""
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


class Machine(TypedDict):
    """A workstation: `memory_gib` is None where the system does not tell."""

    system: str
    processor: str
    threads: int
    memory_gib: float | None
    gpu: str


def machine() -> Machine:
    """The workstation, as the paper's Table V lists it."""
    import torch

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    memory = _installed_memory()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "memory_gib": None if math.isnan(memory) else round(memory / 2**30, 1),
        "gpu": gpu,
    }


def repeated(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Whether a training that was repeated from its model.json has the same weights; else what may be the reason."""
    if before.get("weights_sha256") == now["weights_sha256"]:
        return "the same weights as before, bit for bit"
    reasons = [f"its {key} is another" for key in ("run", "precision") if before.get(key) != now[key]]
    for table in ("site_inputs", "software", "machine"):
        earlier = before.get(table) or {}
        for key, value in now[table].items():
            if earlier.get(key) != value:
                shown = "another" if table == "site_inputs" else f"{value}, and was {earlier.get(key)}"
                reasons.append(f"{key} is {shown}")
    return f"other weights than before: {'; '.join(reasons) or 'nothing else that model.json holds differs'}"


def machine_memory() -> float:
    """Bytes that processes may hold together here, as the machine or a container's limit has it; NaN where unknown."""
    limits = [_installed_memory()]
    for path in CGROUP_LIMITS:
        try:
            with open(path, encoding="ascii") as file:
                limits.append(float(file.read()))
        except (OSError, ValueError):  # There is no container, or it has no limit ("max").
            continue
    return min(limits)


def peak_memory() -> float:
    """The most memory this process has held so far, MiB; NaN where the system does not tell."""
    try:
        # Linux's own file first: by getrusage a new program starts with the peak of its parent.
        with open("/proc/self/status", encoding="utf-8") as file:
            return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _installed_memory() -> float:
    """Bytes of memory in this machine; NaN where the system (Windows) does not tell."""
    readable = hasattr(os, "sysconf")
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) if readable else math.nan


def _processor() -> str:
    """The processor's name, as Linux has it, else as Python does."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
