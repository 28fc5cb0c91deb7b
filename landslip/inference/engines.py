"""What turns standardised blocks into logits: PyTorch, or the processor's own compiler, OpenVINO.

Both give what the network gives, up to rounding in fp32. PyTorch runs everywhere and any shape; OpenVINO needs half the
memory and less time on a processor. SegNet stays with PyTorch, since OpenVINO lacks its unpooling (`torch_only` in the
table of networks). int8 is OpenVINO's too, after `landslip quantize` has calibrated the model on training ground.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray

from landslip.errors import RunError
from landslip.inference.int8 import QUANTIZED, quantized_graph
from landslip.models import torch_only
from landslip.models.ensemble import Ensemble
from landslip.models.forward import device, keep_memory, logits, precision
from landslip.runtime.disk import file_hash
from landslip.runtime.extras import require_extra
from landslip.runtime.progress import plural
from landslip.runtime.provenance import machine_memory
from landslip.training.checkpoint import Model, require_portable

EngineName = Literal["torch", "openvino"]

FLOAT = 4  # bytes of a number in single precision
HELD_INPUTS = 6  # copies of a block while it is read (and the next ahead of it), standardised and handed over
# Of the bytes that all layers of a network give out for a pixel, the share held at one time at most: the largest of
# the five networks at 512 x 512 px (benchmarks/mapping.py --memory-table), rounded up.
SHARE_HELD = {"torch": 0.9, "openvino": 0.25}
# Bytes of a process before its first block: libraries, weights, compiled kernels.
BASE = {"torch": 600 * 2**20, "openvino": 900 * 2**20}
DEFAULT_MEMORY = 4 * 2**30  # bytes, where half of the machine's memory is not less
FEW = 500_000  # pixels that PyTorch is done with before OpenVINO has begun
OF_A_GPU = 0.6  # share of a GPU's memory that is used by default


_traced: dict[str, Any] = {}  # at most one graph, by a hash of its network


@dataclass(frozen=True)
class Engine:
    """An engine ready to run: `logits` turns (B, C, H, W) float32 into (B, H, W) float32.

    H and W are multiples of the network's poolings. `threads` are those it uses; 0 where that means nothing.
    """

    name: EngineName
    precision: str
    threads: int
    version: str
    logits: Callable[[NDArray[np.float32]], NDArray[np.float32]]


def choose_engine(
    model: Model, name: str = "auto", precision_choice: str = "auto", pixels: int | None = None
) -> Engine:
    """The engine asked for, or the fastest here: OpenVINO on a processor where it is installed, else PyTorch.

    `pixels` is how many are to be computed: for few, OpenVINO saves less time than it takes to compile. Raises
    DependencyError where it is not installed, RunError where it cannot run this network or precision.
    """
    few = pixels is not None and pixels < FEW
    if name == "torch" or (name == "auto" and precision_choice != "int8" and (few or not _suits(model))):
        if precision_choice == "int8":
            raise RunError("--precision int8 goes with --engine openvino, not with torch. Leave out --engine.")
        return torch_engine(model, precision_choice)
    return openvino_engine(model, precision_choice)


def torch_engine(model: Model, precision_choice: str = "auto") -> Engine:
    """PyTorch on the first CUDA device or the processor."""
    arithmetic = precision(precision_choice)
    keep_memory()
    if device().type == "cuda":  # where fp32 is to be fp32, and the same on every run
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    network = model.network.to(device()).eval()
    threads = torch.get_num_threads() if device().type == "cpu" else 0

    def run(block: NDArray[np.float32]) -> NDArray[np.float32]:
        return logits(network, block, arithmetic)

    return Engine("torch", arithmetic, threads, str(torch.__version__), run)


def openvino_engine(model: Model, precision_choice: str = "auto") -> Engine:
    """OpenVINO on the processor, compiled for the shape of the blocks it is given (another shape: once more)."""
    require_extra("fast", "--engine openvino", "openvino")
    require_portable(model)
    if precision_choice == "int8":
        # Named by its calibration, since a model that is calibrated again gives other maps.
        return graph_engine(quantized_graph(model), "int8", f" int8 {file_hash(model.folder / QUANTIZED)[:12]}")
    return graph_engine(_graph_of(model.network, len(model.channels)), precision(precision_choice))


def graph_engine(graph: Any, precision: str, of: str = "") -> Engine:
    """An OpenVINO graph of free shape, compiled for the processor in a precision.

    `of` is added to the engine's version.
    """
    import openvino

    threads = torch.get_num_threads()
    # The precision is stated, since OpenVINO would choose bf16 by itself where the processor has it.
    choices = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # else several processes of one machine would all take its first processors
    }
    compiled: dict[tuple[int, ...], Any] = {}

    def run(block: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            if block.shape not in compiled:
                compiled.clear()  # each shape has activations in memory
                graph.reshape(list(block.shape))
                compiled[block.shape] = openvino.Core().compile_model(graph, "CPU", choices).create_infer_request()
            outputs = compiled[block.shape].infer([np.ascontiguousarray(block)], share_inputs=True)
        except RuntimeError as error:
            raise RunError(
                f"OpenVINO cannot run a window of {block.shape[2]} x {block.shape[3]} pixels "
                f"({' '.join(str(error).split())[:200]}). Give a smaller --memory, or --engine torch."
            ) from error
        return np.array(next(iter(outputs.values()))[:, 0], np.float32)

    return Engine("openvino", precision, threads, f"{openvino.__version__}{of}", run)


def openvino_graph(network: torch.nn.Module, channels: int) -> Any:
    """A network as an OpenVINO model of free shape: OpenVINO's frontend reads what torch has traced.

    `openvino.convert_model` would also report its use to Intel over the network.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    example = torch.zeros(1, channels, 64, 64)
    side = cast(int, network.multiple)
    if 64 % side:
        example = torch.zeros(1, channels, side, side)
    network.cpu().eval()
    learning = [tensor for tensor in network.parameters() if tensor.requires_grad]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch warns that the checks of the input's size are left out of the graph
        trace: Any = torch.jit.trace  # which torch has no types for
        try:
            # Weights become constants of the graph, which OpenVINO reads faster than a module's attributes.
            for tensor in learning:
                tensor.requires_grad_(False)
            traced = trace(lambda x: network(x), example, check_trace=False)
        finally:
            for tensor in learning:
                tensor.requires_grad_(True)
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced)  # has a name because it must outlive `load`
    loaded = frontend.load(decoder)
    graph = frontend.convert(loaded)
    graph.reshape([-1, channels, -1, -1])
    return graph


@torch.inference_mode()
def bytes_of_a_pixel(model: Model, engine: str) -> float:
    """Bytes that one pixel of a block takes at most while `engine` runs it; the same on every machine.

    The members of an ensemble run one after another, so that the heaviest of them counts.
    """
    if isinstance(model.network, Ensemble):
        heaviest = max(_outputs_of_a_pixel(member, model) for member in model.network.members)
    else:
        heaviest = _outputs_of_a_pixel(model.network, model)
    return SHARE_HELD[engine] * heaviest + HELD_INPUTS * FLOAT * len(model.channels)


def _outputs_of_a_pixel(network: torch.nn.Module, model: Model) -> float:
    """Bytes of all that the layers of a network give out for a pixel."""
    outputs = 0

    def count(_: torch.nn.Module, __: Any, output: Any) -> None:
        nonlocal outputs
        outputs += (output[0] if isinstance(output, tuple) else output).numel() * FLOAT

    leaves = [layer for layer in network.modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(count) for layer in leaves]
    side = model.multiple
    try:
        here = next(network.parameters()).device
        network(torch.zeros(1, len(model.channels), side, side, device=here))
    finally:
        for hook in hooks:
            hook.remove()
    return outputs / side**2


def most_pixels(engine: str, of_a_pixel: float, memory: float | None, least: int) -> int:
    """Pixels of a block that keep a process within `memory` bytes (None: the default), each taking `of_a_pixel`.

    RunError where they are fewer than `least`, those of the smallest block.
    """
    ceiling = _default_memory() if memory is None else memory
    most = int((ceiling - BASE[engine]) / of_a_pixel)
    if most < least:
        raise RunError(
            f"--memory {_mebibytes(ceiling)} holds no window: with the smallest, of {least} pixels, a process takes "
            f"{_mebibytes(BASE[engine] + least * of_a_pixel)}. Give at least that."
        )
    return most


def require_memory(engine: str, of_a_pixel: float, pixels: int, processes: int) -> None:
    """Raise RunError where so many processes, each with blocks of so many pixels, need more than this machine has."""
    each, have = BASE[engine] + pixels * of_a_pixel, machine_memory()
    need = "needs" if processes == 1 else "need"
    if device().type == "cpu" and processes * each > have:
        raise RunError(
            f"{plural(processes, 'process')} of {_mebibytes(each)} {need} more than the {_mebibytes(have)} of this "
            "machine. Give a smaller --memory" + (", or fewer workers." if processes > 1 else ".")
        )


def size_in_bytes(text: str) -> float:
    """The bytes of a size as people write it: 800MB, 2GB, 1.5 GiB; GB and GiB are both 2^30. RunError for no size."""
    size = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*", text.lower())
    if not size:
        raise RunError(f"--memory {text} is not a size. Give one such as 2GB or 800MB.")
    return float(size[1]) * 1024.0 ** " kmgt".index(size[2] or " ")


def _suits(model: Model) -> bool:
    """Whether OpenVINO is installed and runs the model's network on what this machine computes with."""
    installed = find_spec("openvino") is not None
    return installed and device().type == "cpu" and not any(torch_only(model.network_name, model.network_options))


def _graph_of(network: torch.nn.Module, channels: int) -> Any:
    """A network's graph, as a copy for the caller; the last one is kept, since torch never frees what it has traced."""
    content = hashlib.blake2b(str(network).encode())
    for tensor in network.state_dict().values():
        content.update(tensor.cpu().contiguous().numpy())
    graph = _traced.get(content.hexdigest())
    if graph is None:
        graph = openvino_graph(network, channels)
        _traced.clear()
        _traced[content.hexdigest()] = graph
    return graph.clone()


def _mebibytes(count: float) -> str:
    """A number of bytes in MiB, in words."""
    return f"{count / 2**20:,.0f} MiB"


def _default_memory() -> float:
    """Bytes that a process may take where nobody says."""
    if device().type == "cuda":
        return OF_A_GPU * torch.cuda.get_device_properties(0).total_memory + BASE["torch"]
    return min(DEFAULT_MEMORY, machine_memory() / 2)  # of the two the first where the machine's is NaN
