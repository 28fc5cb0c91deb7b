"""`landslip quantize`: an int8 model beside a model's weights, calibrated on its training ground.

The ranges of what flows between layers are taken from blocks of the ground that the model was trained on, which is what
post-training quantization needs (Jacob et al. 2018, CVPR, "Quantization and training of neural networks for efficient
integer-arithmetic-only inference"; here by NNCF). int8 is then held against fp32 on validation ground, the test part is
never looked at, and a model that loses more there than it may is not written.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landslip.dataset.blocks import Blocks
from landslip.dataset.label import LANDSLIDE, OTHER, UNKNOWN
from landslip.dataset.split import VALIDATION
from landslip.dataset.training_data import read_prepared, read_split
from landslip.errors import ModelError, OutputError, RunError, SplitError
from landslip.geo.grid import Window
from landslip.geo.raster import open_raster
from landslip.inference.engines import Engine, graph_engine, openvino_graph
from landslip.inference.int8 import GRAPH, GRAPH_WEIGHTS, QUANTIZED, Comparison, QuantizedFacts, read_graph
from landslip.metrics.confusion import Confusion
from landslip.models.forward import scaled
from landslip.runtime.atomic import atomic_write, refuse_existing
from landslip.runtime.disk import file_hash, require_space
from landslip.runtime.extras import require_extra
from landslip.runtime.progress import plural, say
from landslip.runtime.provenance import software
from landslip.runtime.text import screen_table, write_json
from landslip.training.checkpoint import Model, load_model, match_channels, require_portable, split_of
from landslip.training.model_files import WEIGHTS
from landslip.training.threshold import mapped_cores
from landslip.training.training_pixels import training_windows

MOST_BLOCKS = 64  # blocks of training ground that are calibrated on at most; from 32 on more change nothing that counts
BLOCKS_SEED = 0  # that they are drawn from
TOLERANCE = 0.01  # what int8 may lose of F1 and of kappa on validation ground


@dataclass(frozen=True)
class Quantized:
    """An int8 model: the folder it lies in, and what int8.json says of it."""

    folder: Path
    facts: QuantizedFacts


def quantize(folder: Path, prepared: Path, tolerance: float = TOLERANCE, overwrite: bool = False) -> Quantized:
    """Calibrate a model for int8 on the prepared site that it was trained on; write int8.xml, int8.bin, int8.json last.

    Up to 64 of its training windows are drawn from a fixed seed. `tolerance` is what int8 may lose of F1 and of kappa
    on the validation part at the model's threshold; int8.json holds the scores, differences and versions.

    Raises DependencyError where OpenVINO or NNCF is not installed, RunError for SegNet, which OpenVINO does not run,
    and for a tolerance outside 0 to 1, ModelError where split.tif is missing or another model's, where nothing was
    trained on there and where int8 loses more than `tolerance`, SplitError where the validation part cannot tell,
    GridError where the site lies on another grid, ChannelError where it lacks a channel, and OutputError where the
    model has an int8 model already (unless `overwrite`).
    """
    if not 0 <= tolerance <= 1:
        raise RunError(f"--tolerance {tolerance:g} is not between 0 and 1, as scores are.")
    model = load_model(folder)
    refuse_existing(folder / QUANTIZED, overwrite)
    require_portable(model)
    openvino, nncf = _libraries()
    split_path = split_of(model)
    stack, label, valid = read_prepared(prepared)
    positions = tuple(match_channels(model, stack))
    split = read_split(split_path, stack)
    scored = (split.parts == VALIDATION) & valid
    for code, name in ((LANDSLIDE, "landslide"), (OTHER, "other ground")):
        if not (label[scored] == code).any():
            raise SplitError(
                f"{split_path}: its validation part holds no known pixel of {name}, so that int8 cannot be compared "
                "with fp32 there. Train with another split."
            )
    windows = training_windows(model, prepared, split, label, valid)
    numbers = np.random.default_rng(BLOCKS_SEED).choice(len(windows), min(MOST_BLOCKS, len(windows)), replace=False)
    windows = [windows[i] for i in np.sort(numbers)]
    require_space(folder / GRAPH, 2 * (folder / WEIGHTS).stat().st_size)
    with open_raster(stack.path) as dataset:
        blocks = Blocks(dataset, positions, model.zscore, valid, label)
        say(f"quantize: calibrating on {plural(len(windows), 'block')} of {windows[0].height} px of training ground")
        graph = _calibrated(nncf, openvino_graph(model.network, len(model.channels)), blocks, windows)
        # A killed run leaves files without a description, which may be replaced.
        with atomic_write(folder / GRAPH, True) as xml, atomic_write(folder / GRAPH_WEIGHTS, True) as weights:
            _store(openvino, graph, xml, weights)
            say(f"quantize: comparing with fp32 on {int(scored.sum()):,} pixels of validation ground")
            plain = openvino_graph(model.network, len(model.channels))
            engines = graph_engine(plain, "fp32"), graph_engine(read_graph(xml), "int8")
            compared = _compare(model, *_mapped(model, engines, blocks, scored))
            _require_as_good(folder, compared, tolerance)
    facts: QuantizedFacts = {
        "weights_sha256": model.facts["weights_sha256"],
        "blocks": {"count": len(windows), "window": windows[0].height, "seed": BLOCKS_SEED},
        "validation": compared,
        "files": {name: file_hash(folder / name) for name in (GRAPH, GRAPH_WEIGHTS)},
        "software": software() | {name: version(name) for name in ("openvino", "nncf")},
    }
    write_json(folder / QUANTIZED, facts, overwrite=True)
    return Quantized(folder, facts)


def quantization_table(done: Quantized) -> str:
    """How int8 compares with fp32, as text."""
    facts, compared = done.facts, done.facts["validation"]
    rows = [
        [name, *(f"{100 * scores[precision]:.2f} %" for precision in ("fp32", "int8"))]
        for name, scores in (("F1", compared["f1"]), ("kappa", compared["kappa"]))
    ]
    return "\n".join(
        [
            f"Calibrated on {plural(facts['blocks']['count'], 'block')} of {facts['blocks']['window']} px of training "
            f"ground; compared on {compared['pixels']:,} pixels of validation ground, threshold "
            f"{compared['threshold']:g}:",
            screen_table(["", "fp32", "int8"], rows),
            f"Probability differs by {compared['max_difference']:.3f} at most, {compared['mean_difference']:.4f} in "
            f"the mean; {100 * compared['changed']:.2f} % of the pixels change class.",
            f"Map with it: landslip map {done.folder} STACK.tif PROBABILITY.tif --precision int8",
        ]
    )


def _libraries() -> tuple[Any, Any]:
    """OpenVINO and NNCF. The latter reports its use over the network unless it is told, before its import, not to."""
    before = os.environ.get("NNCF_CI")
    os.environ["NNCF_CI"] = "1"
    try:
        require_extra("int8", "landslip quantize", "openvino", "nncf")
    finally:
        if before is None:
            del os.environ["NNCF_CI"]
        else:
            os.environ["NNCF_CI"] = before
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    return openvino, nncf


def _calibrated(nncf: Any, graph: Any, blocks: Blocks, windows: Sequence[Window]) -> Any:
    """The graph in int8, with ranges of what it computes from blocks at `windows`, one after another."""

    def block(window: Window) -> NDArray[np.float32]:
        return blocks.cut(window)[0][None]

    from openvino._offline_transformations import apply_moc_transformations

    # Batch normalisation is folded into convolutions first, as OpenVINO's own converter does: quantized apart from them
    # FC-DenseNet is four times farther from fp32.
    apply_moc_transformations(graph, cf=True)
    with redirect_stdout(io.StringIO()):  # which hides its progress bars
        return nncf.quantize(graph, nncf.Dataset(windows, block), subset_size=len(windows))


def _store(openvino: Any, graph: Any, xml: Path, weights: Path) -> None:
    """Write a graph so that the same model gives the same bytes; OutputError where it cannot be written."""
    # Names count all that the process has made so far, and would not be the same another time.
    graph.set_friendly_name("int8")
    for i, op in enumerate(graph.get_ordered_ops()):
        op.set_friendly_name(f"{op.get_type_name()}_{i}")
        notes = op.get_rt_info()
        for key in [key for key in notes if key.startswith("fused_names")]:
            del notes[key]
    try:
        openvino.serialize(graph, str(xml), str(weights))
    except RuntimeError as error:
        raise OutputError(f"{xml} cannot be written: {' '.join(str(error).split())[:200]}. Free some space.") from error


def _mapped(
    model: Model, engines: tuple[Engine, Engine], blocks: Blocks, scored: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
    """The scored pixels' probabilities by fp32 and by int8, and their label, each (n,); mapped as `landslip map` does.

    Raises ModelError where a probability is not finite.
    """
    by_engine: tuple[list[Any], list[Any]] = [], []
    labels = []
    for core, x, inside in mapped_cores(blocks, scored, model.multiple):
        here = scored[core.slices]
        for engine, values in zip(engines, by_engine, strict=True):
            values.append(scaled(engine.logits(x)[0][inside][here], model.scaling))
        labels.append(blocks.label[core.slices][here])
    fp32, int8, label = map(np.concatenate, (*by_engine, labels))
    if not np.isfinite(fp32).all() or not np.isfinite(int8).all():
        raise ModelError(f"{model.folder} gives probabilities that are not finite on this site. Train the model again.")
    return fp32, int8, label


def _compare(
    model: Model, fp32: NDArray[np.float32], int8: NDArray[np.float32], label: NDArray[np.uint8]
) -> Comparison:
    """How (n,) probabilities differ over all pixels, and both scores over those of known label, at one threshold."""
    difference = np.abs(int8.astype(np.float64) - fp32)
    landslide = [p >= np.float32(model.threshold) for p in (fp32, int8)]
    known = label != UNKNOWN
    scores = [Confusion.from_arrays(mapped, label, known) for mapped in landslide]
    return {
        "pixels": len(label),
        "threshold": model.threshold,
        "max_difference": float(difference.max()),
        "mean_difference": float(difference.mean()),
        "changed": float(np.mean(landslide[0] != landslide[1])),
        "f1": {"fp32": scores[0].f1, "int8": scores[1].f1},
        "kappa": {"fp32": scores[0].kappa, "int8": scores[1].kappa},
    }


def _require_as_good(folder: Path, compared: Comparison, tolerance: float) -> None:
    """Raise ModelError where int8 loses more than `tolerance` of F1, or of kappa where much is landslide."""
    for name, score in (("F1", compared["f1"]), ("kappa", compared["kappa"])):
        fp32, int8 = score["fp32"], score["int8"]
        if not fp32 - int8 <= tolerance:
            raise ModelError(
                f"{folder} has {name} {fp32:.4f} on validation ground in fp32 and {int8:.4f} in int8, which loses more "
                f"than {tolerance:g}, so that no int8 model was written. Map in fp32 or bf16, or allow more with "
                "--tolerance."
            )
