"""The networks by name: (B, C, H, W) channels in, (B, 1, H, W) logits out.

What a network must be, so that training, mapping, importance and export work with it:

- its class takes `in_channels`, all else by keyword with a default, and has an int attribute `multiple`, of which H and
  W must be multiples (two to the number of its poolings). `forward` calls `check_input` first, and every part;
- an option that it cannot be built with is a RunError of its own where torch would say nothing or build for hours;
- its weights are those of Conv2d, Linear and BatchNorm2d layers, which one seed fills alike on every machine; others
  are refused by `initialization.py`;
- its output layer is called `head`, and the last bias of a single number that it registers is that of its output, which
  is set to the share of landslide;
- a pixel of its output depends on no more than 96 pixels around it, the halo that maps are read with, and not on the
  window's size or place: it pools nothing over the whole window, and interpolates without `align_corners`.

NETWORKS has a row for each. Nothing here imports torch until a network is built, so that `landslip --help` stays quick.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from landslip.errors import RunError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class NetworkFacts:
    """What landslip has to know of a network: the module and what builds it there, and what its run takes from it.

    `title` is its name for people, `rate` the learning rate of recipe "best". `torch_only` says what of it no other
    program can run: it is mapped by PyTorch, and has no int8 model and no ONNX file.
    """

    title: str
    module: str
    builder: str
    rate: float = 2e-3
    torch_only: str = ""


# By name, in the order of the paper's Table IX.
NETWORKS: dict[str, NetworkFacts] = {
    "fcn8s": NetworkFacts(title="FCN-8s", module="fcn8s", builder="FCN8s"),
    "segnet": NetworkFacts(title="SegNet", module="segnet", builder="SegNet", torch_only="unpooling"),
    # U-Net has no batch norm: at 2e-3 its activations grow until the head is dead everywhere.
    "unet": NetworkFacts(title="U-Net", module="unet", builder="UNet", rate=2e-4),
    "resunet": NetworkFacts(title="ResU-Net", module="resunet", builder="ResUNet"),
    "fc_densenet": NetworkFacts(title="FC-DenseNet", module="fc_densenet", builder="FCDenseNet"),
    "fc_densenet_shallow": NetworkFacts(
        title="FC-DenseNet (shallow)", module="fc_densenet", builder="fc_densenet_shallow"
    ),
}

# Not trained by itself, but put together of trained networks (`landslip ensemble`).
ENSEMBLE = "ensemble"
_ENSEMBLE = NetworkFacts(title="Ensemble", module="ensemble", builder="Ensemble")

CHANNELS = 65_535  # bands that a GeoTIFF can have
WIDEST = 4096  # maps or layers; beyond it a network is not refused by torch, but built for hours


def build_model(name: str, in_channels: int, **options: Any) -> torch.nn.Module:
    """Build a network by name, with torch's own initial weights (see `initialization.py` for the others).

    Its `forward` takes float (B, in_channels, H, W) and returns logits (B, 1, H, W); H and W must be a
    multiple of its int attribute `multiple`. `options` are the keyword arguments of the class, e.g.
    `growth_rate` of `fc_densenet`.

    Raises RunError for an unknown name, an unknown option or a value the network cannot be built with.
    """
    if name not in NETWORKS and name != ENSEMBLE:
        refuse_unknown("network", name, list(NETWORKS))
    if isinstance(in_channels, bool) or not isinstance(in_channels, int) or not 1 <= in_channels <= CHANNELS:
        channels = f"1 channel or more and at most {CHANNELS}"
        raise RunError(f"network {name} needs {channels}, not {in_channels!r}; check the run's channels")
    facts = NETWORKS.get(name, _ENSEMBLE)
    build = getattr(importlib.import_module(f"landslip.models.{facts.module}"), facts.builder)
    options_of_network = [key for key in inspect.signature(build).parameters if key != "in_channels"]
    for key, value in options.items():
        if key not in options_of_network:
            refuse_unknown(f"option of network {name}", key, options_of_network)
        values = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(number, int | float) and number > WIDEST for number in values):
            raise RunError(f"{name}: {key} is {value!r}, and no network is built of more than {WIDEST}. Give less.")
    try:
        model: torch.nn.Module = build(in_channels, **options)
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        given = ", ".join(f"{key} = {value!r}" for key, value in options.items())
        raise RunError(
            f"network {name} cannot be built with {given or 'its own options'} ({str(error)[:200]}). Mend its options."
        ) from error
    return model


def network_title(name: str, options: Mapping[str, Any] | None = None) -> str:
    """A network's name for people, an ensemble's with its members; its own where landslip does not know it."""
    if name != ENSEMBLE:
        return NETWORKS[name].title if name in NETWORKS else str(name)
    counts = Counter(network_title(member) for member in _member_names(options))
    each = [f"{count} x {title}" if count > 1 else title for title, count in counts.items()]
    return f"{_ENSEMBLE.title} ({', '.join(each)})"


def torch_only(name: str, options: Mapping[str, Any] | None = None) -> tuple[str, str]:
    """The title of a network that PyTorch alone can run and what of it, be it a member of an ensemble; else "", ""."""
    for one in _member_names(options) if name == ENSEMBLE else [name]:
        if NETWORKS[one].torch_only:
            return NETWORKS[one].title, NETWORKS[one].torch_only
    return "", ""


def _member_names(options: Mapping[str, Any] | None) -> list[str]:
    return [str(member["name"]) for member in (options or {}).get("members", [])]


def refuse_unknown(what: str, given: str, known: list[str]) -> NoReturn:
    """Raise RunError for a name that is not known, with the nearest that is."""
    nearest = difflib.get_close_matches(given, known, n=1, cutoff=0.4)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    raise RunError(f"{given!r} is no {what}: {hint}known are {', '.join(known) or 'none'}")
