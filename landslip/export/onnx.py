"""`landslip export`: a model as ONNX with its statistics inside, for programs without landslip, and as a STAC item.

OUT/ holds `model.onnx` (any number of blocks of any size that the poolings allow), `deepness.onnx` (the same network
for the QGIS plugin Deepness, which takes square blocks of one size), `item.json` (STAC, machine-learning-model
extension) and `manifest.json`. Both graphs take raw values in the channels' own units, (N, C, H, W) float32 with NaN,
infinity or a stated nodata value where undefined, and give the probability of landslide, (N, 1, H, W) float32. Inside
are the z-score, zeros for undefined values after it, the network, the scaling and the sigmoid.

A pixel with an undefined channel has no probability, as in landslip's own maps: NaN in `model.onnx`, and 0 in
`deepness.onnx`, since Deepness takes NaN for landslide. Aspect in degrees, undefined on flat ground, is exempt.

`onnx_graph` writes the graphs, `onnx_check` compares each with PyTorch before it gets its name: a file whose
probabilities differ by more than MOST_DIFFERENT is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landslip.dataset.label import LABEL_NAMES
from landslip.errors import RunError
from landslip.export.onnx_check import (
    deepness_input,
    deepness_statistics,
    largest_difference,
    random_blocks,
    real_blocks,
    require_close,
)
from landslip.export.onnx_graph import EXTRA, OPSET, RANDOM_SIDE, library_versions, written_graph
from landslip.export.stac_items import model_item, write_item
from landslip.geo.grid import Grid
from landslip.geo.raster import read_info
from landslip.geo.tiling import HALO
from landslip.runtime.atomic import atomic_folder, atomic_write, refuse_existing, refuse_input
from landslip.runtime.disk import file_hash
from landslip.runtime.extras import require_extra
from landslip.runtime.progress import say
from landslip.runtime.text import write_json
from landslip.training.checkpoint import FLOAT32_MAX, Model, load_model, require_portable, split_of
from landslip.training.model_files import SPLIT

ONNX, DEEPNESS, ITEM, MANIFEST = "model.onnx", "deepness.onnx", "item.json", "manifest.json"
WINDOW = 512  # pixels a side of Deepness's blocks: overlapping by 38 % they leave landslip's halo of 96 on each side


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an export made: its files' sizes in bytes and the largest differences from PyTorch, in probability.

    `differences` are those on "random" blocks, on "deepness" ones through Deepness's arithmetic, and on "real" ones
    where a stack was given. `resolution` in metres, None where unknown.
    """

    folder: Path
    sizes: dict[str, int]
    differences: dict[str, float]
    resolution: float | None


def export_model(
    folder: Path,
    out: Path,
    *,
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

    Raises DependencyError without the extra, ModelError for a model that cannot be read or whose graph does not say
    what PyTorch says, RunError for SegNet, which only PyTorch runs, and for an impossible window, resolution or nodata,
    ChannelError for a stack without the model's channels, OutputError where `out` exists (unless `overwrite`).
    """
    require_extra("export", "landslip export", *EXTRA, "pystac")
    refuse_existing(out, overwrite, folder=True)
    refuse_input(out, [folder])
    model = load_model(folder)
    require_portable(model)
    nodata = None if nodata is not None and math.isnan(nodata) else nodata
    _require_sound(model, window, resolution, nodata)
    grid = read_info(split_of(model)).grid if (folder / SPLIT).exists() else None
    if resolution is None and grid is not None:
        resolution = grid.x_size
    if resolution is None:
        say(f"warning: {folder} has no {SPLIT} to read the size of a pixel from. Give --resolution METRES.")
    stack_blocks = [] if check is None else real_blocks(model, check)
    graph = written_graph(model, nodata, undefined=math.nan, window=None)
    square = written_graph(model, nodata, undefined=0.0, window=window)
    differences = _differences(model, graph, square, nodata=nodata, window=window, stack_blocks=stack_blocks)
    require_close(model, differences)
    metadata = _metadata(model, resolution, nodata, differences)
    contents = {
        ONNX: _with_metadata(graph, metadata),
        DEEPNESS: _with_metadata(square, metadata | deepness_metadata(model, window, resolution)),
    }
    with atomic_folder(out, overwrite) as aside:
        for name, content in contents.items():
            with atomic_write(aside / name) as part:
                part.write_bytes(content)
        write_item(aside / ITEM, _item(model, aside, window=window, grid=grid, resolution=resolution, nodata=nodata))
        manifest = {
            "weights_sha256": model.facts["weights_sha256"],
            "files": {name: file_hash(aside / name) for name in (ONNX, DEEPNESS, ITEM)},
            "differences": differences,
            "software": library_versions(),
        }
        write_json(aside / MANIFEST, manifest)
    return Exported(
        folder=out,
        sizes={name: len(content) for name, content in contents.items()},
        differences=differences,
        resolution=resolution,
    )


def _differences(
    model: Model,
    graph: bytes,
    square: bytes,
    *,
    nodata: float | None,
    window: int,
    stack_blocks: list[NDArray[np.float32]],
) -> dict[str, float]:
    """The largest difference of the graphs from PyTorch by kind of block; `square` is the graph for Deepness."""
    blocks = {"random": random_blocks(model, nodata, RANDOM_SIDE), "real": stack_blocks}
    differences = {
        kind: largest_difference(model, graph, of_kind, nodata=nodata, undefined=math.nan)
        for kind, of_kind in blocks.items()
        if of_kind
    }
    of_window = random_blocks(model, nodata, window)[:1]
    differences["deepness"] = largest_difference(
        model, square, of_window, nodata=nodata, undefined=0.0, altered=deepness_input
    )
    return differences


def _require_sound(model: Model, window: int, resolution: float | None, nodata: float | None) -> None:
    """Raise RunError for a window, a resolution or a nodata value that cannot be."""
    if window < model.multiple or window % model.multiple:
        raise RunError(
            f"--window {window} does not fit {model.network_name}, whose poolings need a multiple of "
            f"{model.multiple}. Give {max(1, round(window / model.multiple)) * model.multiple}, say."
        )
    if resolution is not None and not (math.isfinite(resolution) and resolution > 0):
        raise RunError(f"--resolution {resolution:g} is not the size of a pixel in metres. Give a number above 0.")
    if nodata is not None and not abs(nodata) <= FLOAT32_MAX:
        raise RunError(f"--nodata {nodata:g} is no float32 value. NaN and infinity are undefined without it.")
    planes = [channel.name for channel in model.channels if not channel.standardised]
    if nodata is not None and abs(nodata) <= 1 and planes:
        raise RunError(f"--nodata {nodata:g} is a value that {', '.join(planes)} can have. Give NaN to these pixels.")


def _metadata(
    model: Model, resolution: float | None, nodata: float | None, differences: dict[str, float]
) -> dict[str, object]:
    """What both files say of the model, each value as JSON under `landslip_...`."""
    facts: Mapping[str, object] = model.facts
    channels = [
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
    copied = ("site_inputs", "earlier_site_inputs", "split", "validation", "seed", "weights_sha256")
    metadata = {
        "channels": channels,
        "network": model.network_name,
        "options": model.facts["run"]["network"].get("options", {}),
        "multiple": model.multiple,
        "threshold": model.threshold,
        "temperature": model.scaling.temperature,
        "bias": model.scaling.bias,
        "nodata": nodata,
        "resolution_m": resolution,
        "opset": OPSET,
        "differences": differences,
        "trained_with": facts.get("software", {}),
        "exported_with": library_versions(),
        **{key: facts[key] for key in copied if key in facts},
    }
    return {f"landslip_{key}": value for key, value in metadata.items()}


def deepness_metadata(model: Model, window: int, resolution: float | None) -> dict[str, object]:
    """The keys that Deepness reads, each as JSON; `resolution` there is in centimetres, the overlap in per cent.

    See docs/source/creators/creators_add_metadata_to_model.rst of PUTvision/qgis-plugin-deepness; the two statistics
    and `tile_size` are as its model_base.py reads them.
    """
    mean, std = deepness_statistics(len(model.channels))
    return {
        "model_type": "Segmentor",
        "class_names": {str(key): name for key, name in LABEL_NAMES.items()},
        "tile_size": window,
        "tiles_overlap": min(50, round(100 * 2 * HALO / window)),
        "seg_thresh": model.threshold,
        "seg_small_segment": 0,
        "standardization_mean": mean,
        "standardization_std": std,
        **({} if resolution is None else {"resolution": 100 * resolution}),
    }


def _with_metadata(graph: bytes, metadata: dict[str, object]) -> bytes:
    """An ONNX graph with these entries, each value as JSON."""
    import onnx

    proto = onnx.load_from_string(graph)
    proto.producer_name, proto.producer_version = "landslip", version("landslip")
    proto.graph.doc_string = "Raw channels in, probability of landslide out; see landslip_channels."
    for key, value in metadata.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, json.dumps(value)
    return bytes(proto.SerializeToString())


def _item(
    model: Model, folder: Path, *, window: int, grid: Grid | None, resolution: float | None, nodata: float | None
) -> Any:
    """The STAC item of the files in `folder`, a pystac Item."""
    files = {
        folder / ONNX: ("Raw channels to probability, blocks of any size", [-1, -1]),
        folder / DEEPNESS: ("The same for the QGIS plugin Deepness, square blocks", [window, window]),
    }
    return model_item(model, files, grid=grid, resolution=resolution, nodata=nodata, onnx_version=version("onnx"))
