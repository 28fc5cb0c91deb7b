"""`landslip report`: what a run folder holds, as one HTML file that prints: figures, tables, scores and where from.

A section is made from its files where they are there, and says which command makes them where they are not. A file that
is damaged is named in its section; the rest of the report is made all the same. No clock is read, so that the same
files give the same bytes. Figures come from decimated reads: memory follows the figure, not the raster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from landslip.errors import LandslipError
from landslip.evaluation.result import cells, leakage
from landslip.geo.grid import crs_name
from landslip.geo.raster import read_info
from landslip.metrics.bootstrap import LEVEL
from landslip.metrics.confusion import SCORES
from landslip.models import network_title
from landslip.report.base import Workspace, km2, number, read_quietly, site_name, size_text, where
from landslip.report.html import Block, Facts, Section, Text, write_document
from landslip.report.provenance import agreement, provenance
from landslip.report.results import complexity, inventory, landslide_map, training
from landslip.report.scores import between, comparison, importance, intervals, loud_of, scores
from landslip.report.site import factors, split, study_area
from landslip.runtime.atomic import refuse_existing, refuse_input
from landslip.runtime.progress import plural, track
from landslip.runtime.provenance import software
from landslip.runtime.run_folder import open_run


def report(root: Path, out: Path, overwrite: bool = False) -> list[str]:
    """Write the report of a run folder to `out`, an HTML file; returns what could not be shown, a line each.

    Raises OutputError where `root` is no run folder, where `out` exists (unless `overwrite`), and where it
    is one of the folder's files.
    """
    run = open_run(root)
    refuse_existing(out, overwrite)
    refuse_input(out, (path for path in run.root.rglob("*") if path.is_file() and path.suffix != ".html"))
    with TemporaryDirectory(prefix="landslip-") as scratch:
        workspace = Workspace(run, Path(scratch))
        sections = [
            Section(name, title, make(workspace))
            for name, title, make in track(SECTIONS, len(SECTIONS), "report", "section")
        ]
    name = site_name(workspace)
    foot = f"Made by landslip {software()['landslip']}. All of it is in this one file."
    write_document(out, f"Landslides of {name}", _subtitle(workspace), sections, foot, overwrite=overwrite)
    texts = [block for section in sections for block in section.blocks if isinstance(block, Text)]
    return [text.text for text in texts if text.tone == "fault"]


def _subtitle(workspace: Workspace) -> str:
    parts = []
    if workspace.run.stack is not None:
        try:
            grid = read_info(workspace.run.stack).grid
            parts = [f"{grid.height:,} x {grid.width:,} pixels of {grid.x_size:g} m", crs_name(grid.crs)]
        except LandslipError:
            parts = []
    network = read_quietly(workspace.run.model).get("run", {})
    if isinstance(network, dict) and isinstance(network.get("network"), dict):
        parts.append(network_title(network["network"].get("name", ""), network["network"].get("options")))
    return "; ".join(part for part in parts if part)


def _summary(workspace: Workspace) -> list[Block]:
    """The headline score, the mapped landslides, and where and when."""
    run = workspace.run
    blocks: list[Block] = []
    if run.scores:
        read = [(path, read_quietly(path)) for path in run.scores]
        scored = [(path, content) for path, content in read if "f1" in content and "split" in content]
        if scored:
            path, scores = min(scored, key=lambda item: (_doubt(item[1]), item[1].get("part") != "test", item[0].name))
            blocks += workspace.attempt(path, lambda: _headline(workspace, path, scores))
    else:
        blocks.append(
            Text("The map has not been scored: landslip evaluate RUN/map/probability.tif RUN/prepared/label.tif "
                 "--split RUN/model/split.tif --json RUN/scores/test.json", "remedy")
        )  # fmt: skip
    if run.inventory is not None:
        blocks += workspace.attempt(run.inventory, lambda: [_found(workspace)])
    if run.probability is not None:
        blocks += workspace.attempt(run.probability, lambda: agreement(workspace))
    facts = [("Site", site_name(workspace))]
    if run.stack is not None:
        try:
            grid = read_info(run.stack).grid
            facts += [("Where", where(grid)), ("Grid", f"{size_text(grid)}, {crs_name(grid.crs)}")]
        except LandslipError:
            pass
    facts.append(("When", _when(workspace)))
    blocks.append(Facts(facts))
    return blocks


def _doubt(scores: Mapping[str, Any]) -> int:
    """How little scores say: 0 on ground that was kept apart, 1 where nobody knows, 2 on training ground."""
    leaky = scores.get("leaky")
    return 0 if leaky is False else 1 if leaky is None else 2


def _headline(workspace: Workspace, path: Path, scores: Mapping[str, Any]) -> Iterator[Block]:
    part = str(scores["part"])
    where = "all mapped ground" if part == "all" else f"the {part} part"
    warning = loud_of(scores)
    if warning:
        yield Text(warning, "warning")
    texts = cells(scores, between(scores))
    f1, kappa = texts[SCORES.index("f1")], texts[SCORES.index("kappa")]
    yield Text(
        f"F1-score {f1} %, kappa {kappa} % on {where}, {_area_of(workspace, scores)} (split {scores['split']}, leaky: "
        f"{leakage(scores.get('leaky'))}; {workspace.name(path)}). In brackets: {100 * LEVEL:g} % intervals, where "
        "drawn.",
        "plain" if warning else "good",
    )


def _area_of(workspace: Workspace, scores: Mapping[str, Any]) -> str:
    pixels = int(number(scores["pixels"]))
    for path in (workspace.run.probability, workspace.run.stack):
        if path is not None:
            return f"{pixels:,} pixels, {km2(pixels * read_info(path).grid.pixel_area)}"
    return f"{pixels:,} pixels"


def _found(workspace: Workspace) -> Text:
    frame = workspace.landslides
    area = float(frame["area_m2"].sum())
    of_all, valid = workspace.share
    share = f", {100 * of_all:.2f} % of the {km2(valid)} mapped" if valid else ""
    return Text(f"Mapped: {plural(len(frame), 'landslide')}, {km2(area)} in all{share}.")


def _when(workspace: Workspace) -> str:
    """Dates of the scenes, where the inventory carries them."""
    try:
        if workspace.run.inventory is not None:
            frame = workspace.landslides
            for column in ("date", "scene"):
                if column in frame and frame[column].notna().any():
                    values = sorted({str(value) for value in frame[column].dropna() if str(value)})
                    if values:
                        return ", ".join(values[:6]) + (" ..." if len(values) > 6 else "")
    except LandslipError:
        pass
    return "date of the images: not stated"


SECTIONS: Sequence[tuple[str, str, Callable[[Workspace], list[Block]]]] = (
    ("summary", "Summary", _summary),
    ("study-area", "Study area", study_area),
    ("factors", "Bands and factors", factors),
    ("training", "Training", training),
    ("split", "Split", split),
    ("map", "Landslide map", landslide_map),
    ("scores", "Scores", scores),
    ("inventory", "Inventory", inventory),
    ("complexity", "Complexity", complexity),
    ("comparison", "Comparison", comparison),
    ("importance", "Importance of the factors", importance),
    ("intervals", "Landslides by class of a factor", intervals),
    ("provenance", "Provenance", provenance),
)
