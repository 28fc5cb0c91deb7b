"""What training and mapping share: memory, device and precision, and windows turned into probabilities."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from landslip.models.ensemble import Ensemble
from landslip.models.scaling import AS_LEARNT, Scaling

Precision = Literal["fp32", "bf16"]
# glibc's numbers for mallopt: keep freed memory (trim), get it in large steps (top pad), map only giants by themselves.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3


def keep_memory() -> None:
    """Ask glibc to keep freed memory for the next batch instead of giving it back and faulting it in again.

    The big activations of a network are otherwise mapped anew for every layer. Elsewhere than on glibc: nothing.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(MMAP_THRESHOLD, 1 << 30)
    libc.mallopt(TRIM_THRESHOLD, (1 << 31) - 1)
    libc.mallopt(TOP_PAD, 256 << 20)


def device() -> torch.device:
    """The first CUDA device where there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def kind_of_machine() -> str:
    """What decides which kernels run, and so the last digits: the processor's kind, or the GPU's."""
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}"
    amx = " with AMX" if torch.cpu._is_amx_tile_supported() else ""
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}{amx}"


def precision(choice: str) -> Precision:
    """`auto` is bf16 where there are matrix units for it (a GPU's, a processor's AMX), else fp32.

    A processor that only has bf16 vectors gains nothing: U-Net trains at 0.6 of its speed in fp32 there.
    """
    if choice == "fp32":
        return "fp32"
    if choice == "bf16":
        return "bf16"
    native = torch.cuda.is_bf16_supported() if torch.cuda.is_available() else torch.cpu._is_amx_tile_supported()
    return "bf16" if native else "fp32"


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """The context in which a network runs in a precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def to_network(x: NDArray[np.float32], device: torch.device) -> torch.Tensor:
    """(B, C, H, W) float32 as a channels-last tensor: convolutions on the processor are about twice as fast so."""
    return torch.from_numpy(x).to(device, memory_format=torch.channels_last)


@torch.inference_mode()
def probabilities(
    network: torch.nn.Module, x: NDArray[np.float32], precision: Precision, scaling: Scaling = AS_LEARNT
) -> NDArray[np.float32]:
    """Probability of landslide (B, H, W) for standardised blocks (B, C, H, W), H and W multiples of the poolings.

    Logits that are not scaled stay what they are, to the bit.
    """
    return _sigmoid(_logits(network, x, precision), scaling)


@torch.inference_mode()
def logits(network: torch.nn.Module, x: NDArray[np.float32], precision: Precision) -> NDArray[np.float32]:
    """What `probabilities` takes the sigmoid of, (B, H, W)."""
    return _logits(network, x, precision).cpu().numpy()


@torch.inference_mode()
def scaled(logits: NDArray[np.float32], scaling: Scaling) -> NDArray[np.float32]:
    """The probabilities of logits of any shape, as `probabilities` makes them."""
    return _sigmoid(torch.from_numpy(logits).to(device()), scaling)


def disagreement(
    network: torch.nn.Module,
    x: NDArray[np.float32],
    precision: Precision,
    samples: int,
    seed: int,
    *,
    scaling: Scaling = AS_LEARNT,
) -> NDArray[np.float32]:
    """Standard deviation (B, H, W) of the probability over `samples` (0, or 2 or more) networks drawn by dropout.

    Of an ensemble it is that over its members, however many samples are asked for. Of another network it is by Monte
    Carlo dropout (Gal and Ghahramani 2016, "Dropout as a Bayesian approximation"): dropout as in training, batch
    normalisation as in mapping. All follows from `seed`; the stream that others draw from is left as it was. NaN where
    the network has no dropout, which is not the same as agreement, and where no sample is asked for.
    """
    if isinstance(network, Ensemble) and samples:
        return _spread(_member_probabilities(network, x, precision, scaling))
    layers = dropout_layers(network)
    if not layers or not samples:
        return np.full((len(x), *x.shape[2:]), np.nan, np.float32)
    device = next(network.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        try:
            for layer in layers:
                layer.train()
            samples_drawn = [probabilities(network, x, precision, scaling) for _ in range(samples)]
        finally:
            for layer in layers:
                layer.eval()
    return _spread(samples_drawn)


def dropout_layers(network: torch.nn.Module) -> list[torch.nn.Module]:
    """The layers of a network that drop values in training; none where its dropout is 0."""
    kinds = (torch.nn.Dropout, torch.nn.Dropout1d, torch.nn.Dropout2d, torch.nn.Dropout3d)
    return [layer for layer in network.modules() if isinstance(layer, kinds) and layer.p > 0]


@torch.inference_mode()
def _member_probabilities(
    ensemble: Ensemble, x: NDArray[np.float32], precision: Precision, scaling: Scaling
) -> list[NDArray[np.float32]]:
    """The probability (B, H, W) by each member of an ensemble alone."""
    device = next(ensemble.parameters()).device
    with autocast(precision, device):
        each = ensemble.each(to_network(x, device))
    return [_sigmoid(logits[:, 0].float(), scaling) for logits in each]


def _spread(probabilities: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The standard deviation of probabilities that several networks give, pixel by pixel."""
    return np.asarray(np.std(probabilities, axis=0, ddof=1, dtype=np.float64), np.float32)


def _sigmoid(logits: torch.Tensor, scaling: Scaling) -> NDArray[np.float32]:
    logits = logits / scaling.temperature
    return torch.sigmoid(logits + scaling.bias if scaling.bias else logits).cpu().numpy()


def _logits(network: torch.nn.Module, x: NDArray[np.float32], precision: Precision) -> torch.Tensor:
    device = next(network.parameters()).device
    with autocast(precision, device):
        maps = network(to_network(x, device))
    return torch.as_tensor(maps.float()[:, 0])
