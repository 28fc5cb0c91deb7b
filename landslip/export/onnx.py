"""`landslip export`: a model as ONNX with its statistics inside, for programs without landslip, and as a STAC item.

OUT/ holds `model.onnx` (any number of blocks of any size that the poolings allow), `deepness.onnx` (the same network
for the QGIS plugin Deepness, which takes square blocks of one size), `item.json` (STAC, machine-learning-model
extension) and `manifest.json`. Both graphs take raw values in the channels' own units, (N, C, H, W) float32 with NaN,
infinity or a stated nodata value where undefined, and give the probability of landslide, (N, 1, H, W) float32. Inside
are the z-score, zeros for undefined values after it, the network, the temperature and the sigmoid.

A pixel with an undefined channel has no probability, as in landslip's own maps: NaN in `model.onnx`, and 0 in
`deepness.onnx`, since Deepness takes NaN for landslide. Aspect in degrees, undefined on flat ground, is exempt.

torch's TorchScript-based exporter is used, not the one on torch.export: it needs no further package (onnxscript) and
leaves H and W free without a proof that they are multiples of the poolings. Every file is compared with PyTorch before
it gets its name, and refused where a probability differs by more than MOST_DIFFERENT.

SegNet puts a value where a maximum was, and where two neighbours are equal but for rounding, that place depends on the
order in which a processor adds: PyTorch differs from itself then, by any amount, at single pixels. SegNet is therefore
compared with PyTorch given the graph's own places, each of which must be a maximum but for rounding; the share of
pixels that another place moves is reported.
"""

from __future__ import annotations

import io
import json
import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from landslip.dataset.channels import Channel, read_stack_info
from landslip.errors import DependencyError, ModelError, RunError
from landslip.export.stac import model_item, require_pystac, write_item
from landslip.geo.grid import Grid, tiles
from landslip.geo.raster import open_raster, read_info, read_window
from landslip.geo.tiling import HALO
from landslip.models.forward import probabilities
from landslip.models.segnet import SegNet
from landslip.runtime.atomic import atomic_folder, atomic_write, file_hash, refuse_existing, refuse_input
from landslip.runtime.progress import say
from landslip.runtime.provenance import software
from landslip.runtime.text import write_json
from landslip.training.checkpoint import BEYOND, FACTS, SPLIT, Model, load_model, match_channels, split_of

ONNX, DEEPNESS, ITEM, MANIFEST = "model.onnx", "deepness.onnx", "item.json", "manifest.json"
OPSET = 17  # onnxruntime 1.12 (2022) and later; all that the five networks need
MOST_DIFFERENT = 1e-4  # in probability, from PyTorch
ROUNDING = 1e-5  # of the largest value of a layer: what two orders of adding in float32 may differ by
WINDOW = 512  # pixels a side of Deepness's blocks: overlapping by 38 % they leave landslip's halo of 96 on each side
SIDE = 64  # of the random blocks, at least
REAL, REAL_SIDE = 4, 256  # blocks of a real stack, and their side
CLASSES = {0: "not landslide", 1: "landslide"}
EXTRA = ("onnx", "onnxruntime")


@dataclass(frozen=True)
class Exported:
    """What an export made: its files' sizes in bytes and the largest differences from PyTorch, in probability.

    `differences` are those on "random" blocks, on "deepness" ones through Deepness's arithmetic, and on "real" ones
    where a stack was given. `moved` is the largest share of pixels that SegNet gives otherwise than `landslip map` does
    on this machine; 0 for the others. `resolution` in metres, None where unknown.
    """

    folder: Path
    sizes: dict[str, int]
    differences: dict[str, float]
    moved: float
    resolution: float | None
    seconds: float


def export_model(
    folder: Path,
    out: Path,
    window: int = WINDOW,
    resolution: float | None = None,
    nodata: float | None = None,
    check: Path | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a model folder as OUT/model.onnx, deepness.onnx, item.json and manifest.json, all or nothing.

    `window` is the side of Deepness's square blocks, a multiple of the network's poolings. `resolution`, metres, is
    read from the model's split.tif where not given, and left out of the metadata where that is missing. `nodata` is a
    value that stands for undefined besides NaN and infinity. `check` names a stack whose blocks are compared too.

    Raises DependencyError without the libraries of landslip[export], ModelError for a model that cannot be read or
    whose graph does not say what PyTorch says, RunError for an impossible window, resolution or nodata, ChannelError
    for a stack without the model's channels, OutputError where `out` exists (unless `overwrite`).
    """
    _require_extra()
    refuse_existing(out, overwrite, folder=True)
    refuse_input(out, [folder])
    model = load_model(folder)
    nodata = None if nodata is not None and math.isnan(nodata) else nodata
    _require_sound(model, window, resolution, nodata)
    grid = read_info(split_of(model)).grid if (folder / SPLIT).exists() else None
    if resolution is None and grid is not None:
        resolution = grid.x_size
    if resolution is None:
        say(f"warning: {folder} has no {SPLIT} to read the size of a pixel from. Give --resolution METRES.")
    stack = [] if check is None else _real_blocks(model, check)
    began = time.perf_counter()
    plain = _graph(model, nodata, undefined=math.nan, window=None)
    fixed = _graph(model, nodata, undefined=0.0, window=window)
    telling = _graph(model, nodata, math.nan, None, tell=True) if isinstance(model.network, SegNet) else None
    sets = {"random": _random_blocks(model, nodata, SIDE), "real": stack}
    judged = {name: _judge(model, plain, telling, blocks, nodata, math.nan) for name, blocks in sets.items() if blocks}
    square = _random_blocks(model, nodata, window)[:1]
    judged["deepness"] = _judge(model, fixed, telling, square, nodata, 0.0, deepness_input)
    for what, (found, _) in judged.items():
        _require_close(model, f"on {what} blocks", found)
    differences = {what: found for what, (found, _) in judged.items()}
    moved = {what: share for what, (_, share) in judged.items()}
    about = _metadata(model, resolution, nodata, {"differences": differences, "moved": moved})
    sizes = {}
    with atomic_folder(out, overwrite) as aside:
        for name, graph, more in ((ONNX, plain, {}), (DEEPNESS, fixed, deepness_metadata(model, window, resolution))):
            with atomic_write(aside / name) as part:
                part.write_bytes(_with_metadata(graph, {**about, **more}))
            sizes[name] = (aside / name).stat().st_size
        write_item(aside / ITEM, _item(model, aside, window, grid, resolution, nodata))
        hashes = {name: file_hash(aside / name) for name in (ONNX, DEEPNESS, ITEM)}
        manifest = {
            "weights_sha256": model.facts["weights_sha256"],
            "files": hashes,
            "differences": differences,
            "moved": moved,
            "software": _versions(),
        }
        write_json(aside / MANIFEST, manifest)
    seconds = time.perf_counter() - began
    return Exported(out, sizes, differences, max(moved.values()), resolution, seconds)


def _require_extra() -> None:
    for name in EXTRA:
        try:
            __import__(name)
        except ImportError as error:
            raise DependencyError(
                f"landslip export needs {name}, which is not installed. Install it with landslip's extra: "
                "pip install landslip[export]."
            ) from error
    require_pystac("landslip export")


def _require_sound(model: Model, window: int, resolution: float | None, nodata: float | None) -> None:
    if window < model.multiple or window % model.multiple:
        raise RunError(
            f"--window {window} does not fit {_network(model)}, whose poolings need a multiple of {model.multiple}. "
            f"Give {max(1, round(window / model.multiple)) * model.multiple}, say."
        )
    if resolution is not None and not (math.isfinite(resolution) and resolution > 0):
        raise RunError(f"--resolution {resolution:g} is not the size of a pixel in metres. Give a number above 0.")
    if nodata is not None and not abs(nodata) <= BEYOND:
        raise RunError(f"--nodata {nodata:g} is no float32 value. NaN and infinity are undefined without it.")
    planes = [channel.name for channel in model.channels if not channel.standardised]
    if nodata is not None and abs(nodata) <= 1 and planes:
        raise RunError(f"--nodata {nodata:g} is a value that {', '.join(planes)} can have. Give NaN to these pixels.")


def _network(model: Model) -> str:
    return str(model.facts["run"]["network"]["name"])


def counts(channel: Channel) -> bool:
    """Whether a pixel without this channel is undefined: all but aspect in degrees, which flat ground does not have."""
    return channel.factor != "aspect" or channel.kind != "continuous"


class RawToProbability(nn.Module):
    """The whole of a model as one graph: raw (N, C, H, W) float32 to probabilities (N, 1, H, W) float32.

    `undefined` is what a pixel gets that lacks a channel, NaN or a number. `tell` adds SegNet's places to the outputs.
    """

    mean: Tensor
    std: Tensor
    temperature: Tensor
    undefined: Tensor
    zero: Tensor
    needed: Tensor

    def __init__(self, model: Model, nodata: float | None, undefined: float, tell: bool = False) -> None:
        super().__init__()
        shape = (1, len(model.channels), 1, 1)
        network = model.network
        self.network = _PlainSegNet(network, tell) if isinstance(network, SegNet) else network
        self.nodata = nodata
        self.register_buffer("mean", torch.tensor(model.zscore.mean, dtype=torch.float32).reshape(shape))
        self.register_buffer("std", torch.tensor(model.zscore.std, dtype=torch.float32).reshape(shape))
        self.register_buffer("temperature", torch.tensor(model.temperature, dtype=torch.float32))
        self.register_buffer("undefined", torch.tensor(undefined, dtype=torch.float32))
        self.register_buffer("zero", torch.tensor(0.0))
        needed = [i for i, channel in enumerate(model.channels) if counts(channel)]
        self.register_buffer("needed", torch.tensor(needed, dtype=torch.int64))

    def forward(self, raw: Tensor) -> Any:
        defined = raw.abs() <= BEYOND  # neither NaN nor infinite
        if self.nodata is not None:
            # Deepness's x / 255 / (1 / 255) moves the last digits of a value
            defined = defined & ((raw - self.nodata).abs() > 1e-6 * abs(self.nodata))
        x = (raw - self.mean) / self.std
        x = torch.where(defined & (x.abs() <= BEYOND), x, self.zero)
        found = self.network(x)
        logits, *places = found if isinstance(found, tuple) else (found,)
        p = torch.sigmoid(logits / self.temperature)
        if len(self.needed):
            valid = torch.amin(defined.index_select(1, self.needed).float(), 1, keepdim=True) > 0.5
            p = torch.where(valid, p, self.undefined)
        return (p, *places) if places else p


class _PlainSegNet(nn.Module):
    """SegNet with its unpooling in operators that every ONNX runtime has: torch exports no max_unpool2d.

    The place of a maximum is the first of the four, row by row, that equals it, as in torch's own pooling. With
    `tell` it also returns the places, five float tensors of 0 to 3.
    """

    def __init__(self, network: SegNet, tell: bool = False) -> None:
        super().__init__()
        self.network = network
        self.tell = tell

    def forward(self, x: Tensor) -> Any:
        places = []
        for stage in self.network.encoder:
            full = stage(x)
            x = F.max_pool2d(full, 2)
            places.append(_places(_corners(full), x))
        told = [sum(i * here.float() for i, here in enumerate(four)) for four in places]
        logits = _decode(self.network, x, places)
        return (logits, *told) if self.tell else logits


def _corners(full: Tensor) -> list[Tensor]:
    """The four pixels of each 2 x 2 window, row by row: four tensors of the pooled shape."""
    return [full[:, :, row::2, column::2] for row, column in ((0, 0), (0, 1), (1, 0), (1, 1))]


def _places(corners: list[Tensor], top: Tensor) -> list[Tensor]:
    """Which corner of each window is its maximum: four bool tensors, one of them True."""
    found: list[Tensor] = []
    taken = torch.zeros_like(top) > 1
    for corner in corners:
        here = (corner == top) & ~taken
        taken = taken | here
        found.append(here)
    return found


def _decode(network: SegNet, x: Tensor, places: list[list[Tensor]]) -> Tensor:
    for stage, four in zip(network.decoder, reversed(places), strict=True):
        x = stage(_unpool(x, four))
    logits: Tensor = network.head(x)
    return logits


def _unpool(x: Tensor, places: list[Tensor]) -> Tensor:
    """(N, C, H, W) values at their places in (N, C, 2 H, 2 W), zeros elsewhere."""
    n, c, h, w = x.shape
    four = [torch.where(here, x, torch.zeros_like(x)) for here in places]
    rows = [torch.stack(pair, -1).reshape(n, c, h, 2 * w) for pair in (four[:2], four[2:])]
    return torch.stack(rows, 3).reshape(n, c, 2 * h, 2 * w)


@torch.inference_mode()
def _with_places(
    network: SegNet, x: NDArray[np.float32], told: Sequence[NDArray[np.float32]], temperature: float
) -> NDArray[np.float32] | None:
    """PyTorch's probabilities (N, H, W) where the maxima lie as told; None where a place is no maximum."""
    y, places = torch.from_numpy(x), []
    for stage, where in zip(network.encoder, told, strict=True):
        full = stage(y)
        corners, y = _corners(full), F.max_pool2d(full, 2)
        four = [torch.from_numpy(where == i) for i in range(4)]
        chosen = sum(torch.where(here, corner, 0) for here, corner in zip(four, corners, strict=True))
        if float((y - chosen).max()) > ROUNDING * float(full.abs().max()):
            return None
        places.append(four)
    return torch.sigmoid(_decode(network, y, places) / temperature)[:, 0].numpy()


def _graph(model: Model, nodata: float | None, undefined: float, window: int | None, tell: bool = False) -> bytes:
    """The model as ONNX; H and W are free where `window` is None. ModelError where torch cannot export it."""
    import onnx

    module = RawToProbability(model, nodata, undefined, tell).eval()
    free = {0: "batch"} if window else {0: "batch", 2: "height", 3: "width"}
    side = window or max(SIDE, model.multiple)
    target = io.BytesIO()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # sizes seen as constants, and that another exporter is the default
            torch.onnx.export(
                module,
                (torch.zeros(1, len(model.channels), side, side),),
                target,  # type: ignore[arg-type]
                input_names=["channels"],
                output_names=["probability"],
                dynamic_axes={"channels": free, "probability": free},
                opset_version=OPSET,
                dynamo=False,
            )
        onnx.checker.check_model(onnx.load_from_string(target.getvalue()))
    except Exception as error:
        # Whatever the exporter meets, the remedy is another version of it.
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{model.folder}: {_network(model)} cannot be written as ONNX by {_written(_versions())} "
            f"({type(error).__name__}: {reason}). Try other versions of them."
        ) from error
    return target.getvalue()


def _versions() -> dict[str, str]:
    found = software()
    for name in EXTRA:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def _written(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {versions[name]}" for name in ("torch", *EXTRA))


def _random_blocks(model: Model, nodata: float | None, side: int) -> list[NDArray[np.float32]]:
    """Two batches (N, C, H, W) of raw values drawn from the model's statistics, with undefined ones of every kind."""
    rng = np.random.default_rng(0)
    side = -(-side // model.multiple) * model.multiple
    blocks = []
    for batch, height, width in ((1, side, side), (2, side, side + model.multiple)):
        shape = (batch, len(model.channels), height, width)
        mean, std = (a[:, None, None].astype(np.float32) for a in (model.zscore.mean, model.zscore.std))
        raw = mean + std * rng.standard_normal(shape, np.float32)
        for i, channel in enumerate(model.channels):
            if channel.kind == "class":
                raw[:, i] = rng.random((batch, height, width)) < 0.3
            elif channel.kind in ("sine", "cosine"):
                raw[:, i] = rng.uniform(-1, 1, (batch, height, width))
        missing = [math.nan, math.inf, -math.inf, *([] if nodata is None else [nodata])]
        for value in missing:
            raw[rng.random(shape) < 0.02 / len(model.channels)] = value
        raw[:, :, : height // 8, : width // 4] = missing[-1]  # a corner without anything
        blocks.append(raw)
    return blocks


def _real_blocks(model: Model, path: Path) -> list[NDArray[np.float32]]:
    """Up to REAL blocks (1, C, H, W) of a stack, those with most defined pixels; ModelError where none is defined."""
    stack = read_stack_info(path)
    bands = [position + 1 for position in match_channels(model, stack)]
    windows = list(tiles(stack.grid.shape, REAL_SIDE))
    windows = windows[:: max(1, len(windows) // (4 * REAL))]
    found: list[tuple[float, NDArray[np.float32]]] = []
    with open_raster(path) as dataset:
        for window in windows:
            block = read_window(dataset, window.round_up(model.multiple), bands)
            share = float(np.isfinite(block).all(0).mean())
            if share > 0:
                found = sorted([*found, (share, block[None])], key=lambda pair: -pair[0])[:REAL]
    if not found:
        raise ModelError(f"{path} has no pixel that is defined in every channel of {model.folder}: nothing to check.")
    return [block for _, block in found]


def deepness_input(raw: NDArray[np.float32]) -> NDArray[np.float32]:
    """What Deepness feeds a network of raw values, (N, C, H, W): (x / 255 - mean) / std, float32, with our metadata.

    The plugin's preprocessing: `np.float32(x * 1. / 255.)`, then minus mean and over std as float32 arrays (PUTvision,
    qgis-plugin-deepness, src/deepness/processing/models/preprocessing_utils.py).
    """
    mean, std = (np.array(values, np.float32)[:, None, None] for values in deepness_statistics(raw.shape[1]))
    return np.asarray((np.float32(raw * 1.0 / 255.0) - mean) / std, np.float32)


def deepness_statistics(channels: int) -> tuple[list[float], list[float]]:
    """The mean and deviation of each channel that make Deepness's arithmetic the identity, but for rounding."""
    return [0.0] * channels, [1 / 255] * channels


def _judge(
    model: Model,
    graph: bytes,
    telling: bytes | None,
    blocks: Sequence[NDArray[np.float32]],
    nodata: float | None,
    undefined: float,
    altered: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None,
) -> tuple[float, float]:
    """The largest difference in probability between a graph and PyTorch, and the share of pixels moved.

    PyTorch goes the way that `landslip map` goes, in fp32; `altered` changes what the graphs alone are given. `telling`
    is SegNet's graph that tells its places: then PyTorch is given these, and the graph must say what that one says.
    The difference is inf where the two disagree on what is defined.
    """
    session, teller = _session(graph), None if telling is None else _session(telling)
    needed = [counts(channel) for channel in model.channels]
    worst = moved = 0.0
    for raw in blocks:
        known = np.isfinite(raw) if nodata is None else np.isfinite(raw) & (raw != np.float32(nodata))
        clean = np.where(known, raw, np.float32(np.nan))
        x = np.stack([model.zscore.apply(block) for block in clean])
        valid = np.asarray(known[:, needed].all(1))
        expected = probabilities(model.network, x, "fp32", model.temperature)
        with np.errstate(invalid="ignore", over="ignore"):
            given = raw if altered is None else altered(raw)
        found = session.run(None, {"channels": given})[0][:, 0]
        if not np.array_equal(found[~valid], np.full(np.count_nonzero(~valid), undefined), equal_nan=True):
            return math.inf, moved
        if teller is not None and isinstance(model.network, SegNet):
            moved = max(moved, float((np.abs(found - expected)[valid] > MOST_DIFFERENT).mean()))
            told, *places = teller.run(None, {"channels": given})
            placed = _with_places(model.network, x, places, model.temperature)
            if placed is None:
                return math.inf, moved
            worst = max(worst, _farthest(found, told[:, 0], valid))
            expected = placed
        worst = max(worst, _farthest(found, expected, valid))
    return worst, moved


def _session(graph: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _farthest(a: NDArray[np.float32], b: NDArray[np.float32], valid: NDArray[np.bool_]) -> float:
    """The largest difference of valid pixels; inf where one of them is NaN."""
    far = float(np.max(np.abs(a - b)[valid], initial=0.0))
    return far if math.isfinite(far) else math.inf


def _require_close(model: Model, where: str, found: float) -> None:
    if not found <= MOST_DIFFERENT:
        raise ModelError(
            f"{model.folder}: written as ONNX it differs from PyTorch by {found:.2g} in probability {where}, and at "
            f"most {MOST_DIFFERENT:g} is allowed ({_written(_versions())}). Nothing is written; try other versions."
        )


def _metadata(
    model: Model, resolution: float | None, nodata: float | None, checked: dict[str, dict[str, float]]
) -> dict[str, Any]:
    """What both files say of the model, each value as JSON under `landslip_...`."""
    facts = model.facts
    described = [
        {
            "name": channel.name,
            "factor": channel.factor,
            "group": channel.group,
            "unit": channel.unit,
            "kind": channel.kind,
            "mean": float(mean),
            "std": float(std),
        }
        for channel, mean, std in zip(model.channels, model.zscore.mean, model.zscore.std, strict=True)
    ]
    kept = ("site_inputs", "earlier_site_inputs", "split", "validation", "seed", "weights_sha256")
    about = {
        "channels": described,
        "network": _network(model),
        "options": facts["run"]["network"].get("options", {}),
        "multiple": model.multiple,
        "threshold": model.threshold,
        "temperature": model.temperature,
        "nodata": nodata,
        "resolution_m": resolution,
        "opset": OPSET,
        **checked,
        "trained_with": facts.get("software", {}),
        "exported_with": _versions(),
        **{key: facts[key] for key in kept if key in facts},
    }
    return {f"landslip_{key}": value for key, value in about.items()}


def deepness_metadata(model: Model, window: int, resolution: float | None) -> dict[str, Any]:
    """The keys that Deepness reads, each as JSON; `resolution` there is in centimetres, the overlap in per cent.

    See docs/source/creators/creators_add_metadata_to_model.rst of PUTvision/qgis-plugin-deepness; the two statistics
    and `tile_size` are as its model_base.py reads them.
    """
    mean, std = deepness_statistics(len(model.channels))
    return {
        "model_type": "Segmentor",
        "class_names": {str(key): name for key, name in CLASSES.items()},
        "tile_size": window,
        "tiles_overlap": min(50, round(100 * 2 * HALO / window)),
        "seg_thresh": model.threshold,
        "seg_small_segment": 0,
        "standardization_mean": mean,
        "standardization_std": std,
        **({} if resolution is None else {"resolution": 100 * resolution}),
    }


def _with_metadata(graph: bytes, about: dict[str, Any]) -> bytes:
    import onnx

    proto = onnx.load_from_string(graph)
    proto.producer_name, proto.producer_version = "landslip", version("landslip")
    proto.graph.doc_string = "Raw channels in, probability of landslide out; see landslip_channels."
    for key, value in about.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, json.dumps(value)
    return bytes(proto.SerializeToString())


def _item(
    model: Model, folder: Path, window: int, grid: Grid | None, resolution: float | None, nodata: float | None
) -> Any:
    files = {
        ONNX: ("Raw channels to probability, blocks of any size", [-1, -1]),
        DEEPNESS: ("The same for the QGIS plugin Deepness, square blocks", [window, window]),
    }
    return model_item(
        model.facts,
        model.channels,
        {folder / name: about for name, about in files.items()},
        {
            "threshold": model.threshold,
            "temperature": model.temperature,
            "multiple": model.multiple,
            **({} if nodata is None else {"nodata": nodata}),
        },
        sum(parameter.numel() for parameter in model.network.parameters()),
        model.folder / FACTS,
        grid,
        resolution,
        f"{version('onnx')}",
    )
