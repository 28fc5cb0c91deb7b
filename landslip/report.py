"""`landslip report`: what a run folder holds, as one HTML file that prints: figures, tables, scores and where from.

A section is made from its files where they are there, and says which command makes them where they are not. A file that
is damaged is named in its section; the rest of the report is made all the same. No clock is read, so that the same
files give the same bytes. Figures come from decimated reads: memory follows the figure, not the raster.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from landslip import draw, figures
from landslip.bootstrap import LEVEL
from landslip.calibration import Reliability
from landslip.checkpoint import WEIGHTS
from landslip.comparison import PICTURES, cost_sheet, ground, score_sheet, summary, trust_sheet
from landslip.document import Block, Cell, Facts, Listing, Notes, Picture, Section, Table, Text, picture, write_document
from landslip.errors import LandslipError
from landslip.evaluate import HEADS, cells, leakage
from landslip.folder import PLACES, RunFolder, open_run
from landslip.grid import Grid, crs_name, tiles
from landslip.inventory import LAYER
from landslip.inventory_scores import InventoryScores, SizeClass, area_text
from landslip.label import LANDSLIDE
from landslip.metrics import SCORES, choose_threshold
from landslip.output import file_hash, refuse_existing, refuse_input
from landslip.powerlaw import SURE, Tail, fit_tail
from landslip.progress import track
from landslip.provenance import software
from landslip.ranking import MEASURES
from landslip.raster import RasterInfo, cut_stored, opening, read_info
from landslip.site import Site, read_site
from landslip.split import PARTS, leakage_note, leaky_of
from landslip.stack import StackInfo, read_stack_info
from landslip.vector import layers, read_vector

SIDE = 2048  # pixels a side of what is counted at a time
LARGEST = 15  # landslides that are listed
MOST_BYTES = 1_000_000  # of a picture made elsewhere, beyond which it is stored by a palette
# what a file that was changed or cut short may raise when it is read as if it were whole
DAMAGE = (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, OSError, RuntimeError)
Step = Callable[[], Iterable[Block]]


@dataclass(frozen=True)
class _Report:
    """The run folder, and a folder that figures are drawn in."""

    run: RunFolder
    scratch: Path

    def name(self, path: Path) -> str:
        """A file as the report calls it: from the run folder on."""
        return path.relative_to(self.run.root).as_posix()

    def lacks(self, *names: str) -> list[Block]:
        """A line for each of these files that is not there, with the command that makes it."""
        lines = dict.fromkeys(PLACES[name][1] for name in names if getattr(self.run, name) is None)
        missing = {PLACES[name][1]: PLACES[name][0] for name in reversed(names) if getattr(self.run, name) is None}
        return [Text(f"This run holds no {missing[line]}. It is made by: {line}", "remedy") for line in lines]

    def tried(self, path: Path, step: Step) -> list[Block]:
        """What a step makes of a file; where the file is damaged, what was made before and a line that names it."""
        made: list[Block] = []
        try:
            made.extend(_kept(step(), made))
        except LandslipError as error:
            made.append(Text(str(error).replace(f"{self.run.root}/", ""), "fault"))
        except DAMAGE as error:
            why = f"no {error}" if isinstance(error, KeyError) else f"{type(error).__name__}: {str(error)[:160]}"
            made.append(
                Text(
                    f"{self.name(path)} is damaged, or is not what landslip writes there ({why}). Make it again.",
                    "fault",
                )
            )
        return made

    def drawn(self, name: str, step: Callable[[Path], None], alt: str, caption: str, palette: bool = False) -> Picture:
        """A figure that `step` writes to the path it is given."""
        path = self.scratch / name
        step(path)
        return picture(path, alt, caption, palette)


def _kept(blocks: Iterable[Block], made: list[Block]) -> Iterator[Block]:
    """The blocks one by one, so that those before an error stay."""
    for block in blocks:
        made.append(block)
    return iter(())


def report(root: Path, out: Path, overwrite: bool = False) -> list[str]:
    """Write the report of a run folder to `out`, an HTML file; returns what could not be shown, a line each.

    Raises OutputError where `root` is no run folder, and where `out` exists (unless `overwrite`) or is one of its files.
    """
    run = open_run(root)
    refuse_existing(out, overwrite)
    refuse_input(out, (path for path in run.root.rglob("*") if path.is_file() and path.suffix != ".html"))
    with TemporaryDirectory(prefix="landslip-") as scratch:
        made = _Report(run, Path(scratch))
        sections = [
            Section(name, title, make(made))
            for name, title, make in track(SECTIONS, len(SECTIONS), "report", "sections")
        ]
    name = _site_name(made)
    foot = f"Made by landslip {software()['landslip']}. All of it is in this one file."
    write_document(out, f"Landslides of {name}", _subtitle(made), sections, foot, overwrite)
    return [block.text for section in sections for block in section.blocks if _is_fault(block)]


def _is_fault(block: Block) -> bool:
    return isinstance(block, Text) and block.tone == "fault"


# ---- reading ----


def _json(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise TypeError(f"a {type(value).__name__} where a table of names is due")
    return value


def _quietly(path: Path | None) -> dict[str, Any]:
    """A JSON file where it can be read; its own section says so where it cannot."""
    try:
        return {} if path is None else _json(path)
    except (OSError, ValueError, TypeError, RecursionError):
        return {}


def _site_name(made: _Report) -> str:
    site = _quietly(made.run.manifest).get("site")
    name = site.get("name") if isinstance(site, dict) else None
    if not name and (given := _site(made)) is not None:
        name = given.name
    return str(name or "an unnamed site")


def _site(made: _Report) -> Site | None:
    """The site file of the run, where there is one that can be read."""
    try:
        return None if made.run.site is None else read_site(made.run.site)
    except LandslipError:
        return None


def _number(value: Any) -> float:
    """A number of a JSON file, where null stands for undefined."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{str(value)[:40]!r} where a number is due")
    return float(value)


def _figure(value: Any, digits: int = 4) -> str:
    number = _number(value)
    if math.isnan(number):
        return "undefined"
    return f"{number:,.0f}" if abs(number) >= 10**digits else f"{number:.{digits}g}"


def _percent(value: Any, digits: int = 2) -> str:
    number = _number(value)
    return "undefined" if math.isnan(number) else f"{100 * number:.{digits}f} %"


def _km2(square_metres: float) -> str:
    return f"{square_metres / 1e6:,.4g} km²" if square_metres >= 1e4 else f"{square_metres:,.0f} m²"


# ---- summary ----


def _subtitle(made: _Report) -> str:
    parts = []
    if made.run.stack is not None:
        try:
            grid = read_info(made.run.stack).grid
            parts = [f"{grid.height:,} x {grid.width:,} pixels of {grid.x_size:g} m", crs_name(grid.crs)]
        except LandslipError:
            parts = []
    network = _quietly(made.run.model).get("run", {})
    if isinstance(network, dict) and isinstance(network.get("network"), dict):
        parts.append(str(network["network"].get("name", "")))
    return "; ".join(part for part in parts if part)


def _summary(made: _Report) -> list[Block]:
    run = made.run
    blocks: list[Block] = []
    if run.scores:
        read = [(path, _quietly(path)) for path in run.scores]
        held = [(path, found) for path, found in read if "f1" in found and "split" in found]
        if held:
            path, best = min(held, key=lambda item: (_doubt(item[1]), item[1].get("part") != "test", item[0].name))
            blocks += made.tried(path, lambda: _headline(made, path, best))
    else:
        blocks.append(
            Text("The map has not been scored: landslip evaluate RUN/map/probability.tif RUN/prepared/label.tif --split "
                 "RUN/model/split.tif --json RUN/scores/test.json", "remedy")
        )  # fmt: skip
    for path in (run.inventory,):
        if path is not None:
            blocks += made.tried(path, lambda path=path: [_found(made, path)])  # type: ignore[misc]
    if run.probability is not None:
        blocks += made.tried(run.probability, lambda: _agreement(made))
    facts = [("Site", _site_name(made))]
    if run.stack is not None:
        try:
            grid = read_info(run.stack).grid
            facts += [("Where", _where(grid)), ("Grid", f"{_size(grid)}, {crs_name(grid.crs)}")]
        except LandslipError:
            pass
    facts.append(("When", _when(made)))
    blocks.append(Facts(facts))
    return blocks


def _doubt(found: Mapping[str, Any]) -> int:
    return {False: 0, None: 1}.get(found.get("leaky"), 2)


def _headline(made: _Report, path: Path, found: Mapping[str, Any]) -> Iterator[Block]:
    part = str(found["part"])
    where = "all mapped ground" if part == "all" else f"the {part} part"
    loud = _loud(found)
    if loud:
        yield Text(loud, "warning")
    shown = cells(found, _between(found))
    f1, kappa = shown[SCORES.index("f1")], shown[SCORES.index("kappa")]
    yield Text(
        f"F1-score {f1} %, kappa {kappa} % on {where}, {_area_of(made, found)} (split {found['split']}, leaky: "
        f"{leakage(found.get('leaky'))}; {made.name(path)}). In brackets: {100 * LEVEL:g} % intervals, where drawn.",
        "plain" if loud else "good",
    )


def _loud(found: Mapping[str, Any]) -> str:
    """What must be said before a score is read; "" where nothing is."""
    if found.get("leaky") is True:
        return (
            "LEAKY. The ground that was scored, or its surroundings, was trained on: these scores say how well the "
            "network remembers, not what it makes of ground it has not seen."
        )
    if found.get("leaky") is not False:
        return (
            "LEAKY OR NOT: UNKNOWN. Nothing says which ground was trained on, so that the scores may be those of the "
            "training ground. Score again with --split RUN/model/split.tif."
        )
    return ""


def _area_of(made: _Report, found: Mapping[str, Any]) -> str:
    pixels = int(_number(found["pixels"]))
    for path in (made.run.probability, made.run.stack):
        if path is not None:
            return f"{pixels:,} pixels, {_km2(pixels * read_info(path).grid.pixel_area)}"
    return f"{pixels:,} pixels"


def _found(made: _Report, path: Path) -> Text:
    frame = read_vector(path, _layer(path))
    area = float(frame["area_m2"].sum())
    valid = _mapped_area(made)
    share = f", {100 * area / valid:.2f} % of the {_km2(valid)} mapped" if valid else ""
    return Text(f"{len(frame):,} landslides were mapped, {_km2(area)} in all{share}.")


def _agreement(made: _Report) -> Iterator[Block]:
    """A warning where the map is not of this folder's model, or the inventory not of this map's."""
    model = _quietly(made.run.model).get("weights_sha256")
    paths = [path for path in (made.run.probability, made.run.landslide_map) if path is not None]
    for path in paths:
        own = read_info(path).tags.get("model_sha256")
        if model and own and own != model:
            yield Text(
                f"{made.name(path)} was made by another model ({own[:12]}...) than the one in this folder "
                f"({str(model)[:12]}...): the training below is not that of the map.",
                "warning",
            )


def _size(grid: Grid) -> str:
    return f"{grid.height:,} rows x {grid.width:,} columns of {grid.x_size:g} x {grid.y_size:g} m"


def _where(grid: Grid) -> str:
    left, bottom, right, top = grid.bounds
    found = figures.to_degrees(grid, [left, (left + right) / 2, right], [bottom, (bottom + top) / 2, top])
    if found is None:
        return "a grid of its own: where it lies is not known"
    x, y = ([figures.degree_text(float(v), axis) for v in values] for values, axis in zip(found, "xy", strict=True))
    return f"{x[1]}, {y[1]} (centre); {x[0]} to {x[2]}, {y[0]} to {y[2]}"


def _when(made: _Report) -> str:
    """Dates of the scenes, where the inventory carries them."""
    try:
        if made.run.inventory is not None:
            frame = read_vector(made.run.inventory, _layer(made.run.inventory))
            for column in ("date", "scene"):
                if column in frame and frame[column].notna().any():
                    values = sorted({str(value) for value in frame[column].dropna() if str(value)})
                    if values:
                        return ", ".join(values[:6]) + (" ..." if len(values) > 6 else "")
    except LandslipError:
        pass
    return "date of the images: not stated"


# ---- study area, factors ----


def _study_area(made: _Report) -> list[Block]:
    run = made.run
    if run.stack is None or run.valid is None or run.label is None:
        return made.lacks("stack", "valid", "label")
    prepared = run.stack.parent
    stack = run.stack

    def figure() -> Iterator[Block]:
        grid = read_info(stack).grid
        yield made.drawn(
            "area.png",
            lambda path: figures.draw_study_area(prepared, path),
            f"Map of the study area {_site_name(made)}, {_where(grid)}: image, relief and drawn landslides.",
            f"The study area: image, relief in tints of elevation, and landslides as drawn. {_ticks(grid)}{_thinned(grid)}",
            palette=True,
        )

    return made.tried(stack, lambda: [_ground_facts(made, stack)]) + made.tried(stack, figure)


def _ticks(grid: Grid) -> str:
    degrees = figures.to_degrees(grid, [grid.bounds[0]], [grid.bounds[1]]) is not None
    return f"Kilometres of {crs_name(grid.crs)}" + (", degrees at the top and right. " if degrees else ". ")


def _thinned(grid: Grid, most: int = draw.MOST) -> str:
    every = max(1, -(-max(grid.shape) // most))
    return "" if every == 1 else f"Every {every}th pixel is shown."


def _ground_facts(made: _Report, path: Path) -> Block:
    stack = read_stack_info(path)
    grid, counts = stack.grid, _counted(made)
    valid, landslide, known = (int(v) for v in counts[0])
    groups = {group: sum(channel.group == group for channel in stack.channels) for group in ("band", "factor")}
    left, bottom, right, top = grid.bounds
    rows = [
        ("Name", _site_name(made)),
        ("Grid", _size(grid)),
        ("Coordinates", f"{crs_name(grid.crs)}: easting {left:,.0f} to {right:,.0f} m, northing {bottom:,.0f} to {top:,.0f} m"),
        ("In degrees", _where(grid)),
        ("Valid ground", f"{valid:,} pixels, {_km2(valid * grid.pixel_area)} of {_km2(grid.height * grid.width * grid.pixel_area)}"),
        (
            "Landslides, as drawn",
            f"{landslide:,} pixels, {_km2(landslide * grid.pixel_area)}"
            + (f", {100 * landslide / known:.2f} % of the valid ground whose label is known" if known else ""),
        ),
        ("Channels", f"{len(stack.channels)}: {groups['band']} of bands, {groups['factor']} of factors"),
    ]  # fmt: skip
    return Facts(rows)


def _counted(made: _Report) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(4, 3) valid pixels, of them landslide and of known label: of all ground, train, validation and test."""
    run = made.run
    assert run.valid is not None and run.label is not None
    with opening(run.valid) as valid, opening(run.label) as label:
        shape = valid.height, valid.width
        found = np.zeros((4, 3), np.int64)
        split = None if run.split is None or _shape(run.split) != shape else run.split
        for window in tiles(shape, SIDE):
            inside, drawn = cut_stored(valid, window) == 1, cut_stored(label, window)
            masks = [inside, inside & (drawn == LANDSLIDE), inside & (drawn <= LANDSLIDE)]
            found[0] += [np.count_nonzero(mask) for mask in masks]
            if split is not None:
                with opening(split) as parts:
                    own = cut_stored(parts, window)
                for i, code in enumerate(PARTS.values(), start=1):
                    found[i] += [np.count_nonzero(mask & (own == code)) for mask in masks]
        return found


def _shape(path: Path) -> tuple[int, int]:
    info = read_info(path)
    return info.height, info.width


def _factors(made: _Report) -> list[Block]:
    run = made.run
    if run.stack is None:
        return made.lacks("stack")
    path = run.stack

    def maps() -> Iterator[Block]:
        stack = read_stack_info(path)
        names = [name.replace("_", " ") for name in figures.factor_names(stack)]
        yield made.drawn(
            "factors.png",
            lambda out: figures.draw_factors(path.parent, out),
            f"Maps of {', '.join(names)}, each with a scale.",
            "The factors. Scales run from the 2nd to the 98th percentile; grey is undefined. Scale bar, north and "
            f"kilometres of {crs_name(stack.grid.crs)} on each. {_thinned(stack.grid, figures.SMALL)}",
            palette=True,
        )

    blocks = made.tried(path, maps)
    if run.channels is None:
        return blocks + made.lacks("channels")
    table = run.channels
    return blocks + made.tried(table, lambda: [_table_ii(made, read_stack_info(path), table)])


def _table_ii(made: _Report, stack: StackInfo, path: Path) -> Block:
    """Table II: a row per band and factor, over the valid pixels."""
    by_name = {row["name"]: row for row in _json(path)["channels"]}
    site = _quietly(made.run.manifest).get("site")
    sources = _Sources(made, site if isinstance(site, dict) else {})
    rows: list[list[Cell]] = []
    for factor in dict.fromkeys(channel.factor for channel in stack.channels):
        own = [channel for channel in stack.channels if channel.factor == factor]
        found = [by_name[channel.name] for channel in own]
        source, resolution, how = sources.of(factor)
        undefined = f"{100 * max(_number(row['undefined_share']) for row in found):.2f}"
        unit = {"degree": "°", "": "-", "class": "class", "stored": "as stored"}.get(own[0].unit, own[0].unit)
        middle: list[Cell]
        if len(own) == 2 and {channel.kind for channel in own} == {"sine", "cosine"}:
            unit, middle = "°", [("0 to 360: its sine and cosine are the channels; flat ground 0, 0", 3)]
        elif own[0].kind == "class":
            shares = (
                f"{channel.name.removeprefix(factor + '_').replace('_', ' ')} {100 * _number(row['mean']):.1f} %"
                for channel, row in zip(own, found, strict=True)
            )
            unit, middle = "class", [(", ".join(shares), 3)]
        else:
            low, high = found[0]["range"]
            middle = [_figure(low), _figure(found[0]["mean"]), _figure(high)]
        rows.append([factor.replace("_", " "), own[0].group, source, resolution, unit, *middle, undefined, how])
    return Table(
        "Bands and factors over the valid pixels (Table II of the paper).",
        ["Channel", "Kind", "Source", "Resolution", "Unit", "Minimum", "Mean", "Maximum", "Undefined (%)", "Brought to the grid"],
        rows,
        "Classes: their share of the valid pixels. Undefined: share of the outline, outside of which nothing is valid.",
        left=5,
    )  # fmt: skip


@dataclass(frozen=True)
class _Sources:
    """Where a factor comes from, by the site as the manifest holds it."""

    made: _Report
    site: Mapping[str, Any]

    def of(self, factor: str) -> tuple[str, str, str]:
        """(source, its resolution, how it was brought to the grid) of a band or factor; "-" where it is not known."""
        images = [(image, "") for image in self._tables("image")]
        for image, _ in images:
            if factor in image.get("bands", {}):
                path = str(image["path"])
                return f"{_base(path)}, band {image['bands'][factor]}", self._resolution(path), "bilinear, or cut"
        if factor in ("elevation", "slope", "curvature", "aspect") and self._table("dem"):
            dem = self._table("dem")
            how = "bilinear, or cut" if factor == "elevation" else "at the DEM's resolution, then bilinear"
            if dem.get("dem_resolution"):
                return _base(dem["path"]), f"{_figure(dem['dem_resolution'])} m", f"cubic, {how}"
            return _base(dem["path"]), self._resolution(str(dem["path"])), how
        made_of = {"ndvi": "red, nir", "mndwi": "green, swir1", "dndvi": "red, nir; before and after"}
        if factor in made_of:
            return f"bands {made_of[factor]}", "grid", "computed on the grid"
        if factor == "distance_to_river" and self._table("rivers"):
            rivers = self._table("rivers")
            if rivers.get("from_dem_km2"):
                where = self._table("dem").get("path", "")
                return f"{_base(where)}, from {_figure(rivers['from_dem_km2'])} km² drained", "DEM", "bilinear"
            return _base(rivers["path"]), "vector", "exact distance on the grid"
        if factor == "distance_to_fault" and self._table("faults"):
            return _base(self._table("faults")["path"]), "vector", "exact distance on the grid"
        named = [table for table in self._tables("factor") if table.get("name") == factor]
        table = named[0] if named else self._table(factor)
        if not table.get("path"):
            return "-", "-", "-"
        if table.get("field"):
            return f"{_base(table['path'])}, field {table['field']}", "vector", "burnt by pixel centre"
        classes = factor == "lithology" or table.get("kind") == "classes"
        return _base(table["path"]), self._resolution(str(table["path"])), "nearest" if classes else "bilinear, or cut"

    def _table(self, name: str) -> Mapping[str, Any]:
        table = self.site.get(name)
        return table if isinstance(table, dict) else {}

    def _tables(self, name: str) -> list[Mapping[str, Any]]:
        found = self.site.get(name)
        return [table for table in found if isinstance(table, dict)] if isinstance(found, list) else []

    def _resolution(self, path: str) -> str:
        """Pixel size from the header of an input, where the file is still there."""
        site = _site(self.made)
        known = [] if site is None else [own for _, own in site.inputs() if own.name == Path(path).name]
        for place in (Path(path), *known):
            try:
                info = read_info(place)
            except (LandslipError, OSError, ValueError):
                continue
            size, unit = abs(info.transform.a), "°" if info.crs is not None and info.crs.is_geographic else " m"
            return f"{size:.6g}{unit}"
        return "-"


def _base(path: Any) -> str:
    return Path(str(path)).name


# ---- training, split ----


def _training(made: _Report) -> list[Block]:
    blocks: list[Block] = []
    if made.run.model is not None:
        path = made.run.model
        blocks += made.tried(path, lambda: [_model_facts(_json(path))])
    if made.run.history is None:
        return blocks + made.lacks("history")
    history = made.run.history

    def curves() -> Iterator[Block]:
        with history.open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if not rows:
            raise ValueError("it holds no epoch")
        best = max((float(row["validation_kappa"] or "nan") for row in rows), default=math.nan)
        yield made.drawn(
            "history.svg",
            lambda out: draw.draw_history(history, out),
            f"Curves of training and validation loss, validation kappa and F1 over {len(rows)} epochs.",
            f"Training over {len(rows)} epochs; the best kappa on validation ground is {_figure(best)}. Validation "
            "ground chose the epoch and the threshold and is no test.",
        )

    return blocks + made.tried(history, curves)


def _model_facts(facts: Mapping[str, Any]) -> Block:
    run = facts["run"]
    chosen, validation = run["training"], facts["validation"]
    names = [channel["name"] for channel in facts["channels"]]
    rows = [
        ("Network", str(run["network"]["name"])),
        ("Channels", f"{len(names)}: {', '.join(map(str, names))}"),
        ("Windows", f"{_figure(facts['training_windows'], 9)} of {run['blocks']['window']} pixels a side"),
        ("Loss, epochs, batch", f"{chosen['loss']}, {chosen['epochs']} epochs, batches of {chosen['batch']}"),
        ("Epoch kept", f"{facts['chosen_epoch']} (choose: {chosen['choose']})"),
        ("Validation ground", ", ".join(f"{k.removeprefix('validation_')} {_figure(v)}" for k, v in validation.items())),
        ("Threshold", f"{_figure(facts['threshold'])}, by {chosen['threshold']} on validation ground"),
    ]  # fmt: skip
    return Facts(rows)


def _split(made: _Report) -> list[Block]:
    run = made.run
    if run.split is None:
        return made.lacks("split")
    path = run.split

    def shown() -> Iterator[Block]:
        info = read_info(path)
        tags, grid = info.tags, info.grid
        note = leakage_note(tags, "test")
        if note:
            yield Text(f"{note}.", "warning")
        yield Facts(
            [
                ("Split", tags.get("split", "unknown") + (f", fold {tags['fold']}" if tags.get("fold") else "")),
                ("Leaky", leakage(leaky_of(tags))),
                ("Guard between the parts", f"{tags.get('guard', 'unknown')} pixels"),
            ]
        )
        if run.valid is not None and run.label is not None:
            yield _parts(made, grid)
        if run.stack is not None:
            stack = run.stack
            yield made.drawn(
                "split.png",
                lambda out: draw.draw_split(stack, path, out),
                "Map of the training, validation and test parts over the relief.",
                f"Which ground was trained on, which chose the epoch, and which was kept for the test. {_thinned(grid)}",
            )

    return made.tried(path, shown)


def _parts(made: _Report, grid: Grid) -> Block:
    counts = _counted(made)
    rows = []
    for name, (valid, landslide, known) in zip(("all valid ground", *PARTS), counts.tolist(), strict=True):
        share = f"{100 * landslide / known:.2f}" if known else "-"
        of_all = f"{100 * valid / counts[0, 0]:.1f}" if counts[0, 0] else "-"
        area = [f"{pixels * grid.pixel_area / 1e6:,.3f}" for pixels in (valid, landslide)]
        rows.append([name, f"{valid:,}", area[0], of_all, area[1], share])
    heads = ["Part", "Pixels", "Area (km²)", "Of the ground (%)", "Landslide (km²)", "Landslide (%)"]
    return Table(
        "Ground and landslides of the parts.", heads, rows, "What is missing to all is the guard between them."
    )


# ---- maps ----


def _map(made: _Report) -> list[Block]:
    run = made.run
    if run.probability is None:
        return made.lacks("probability")
    path = run.probability

    def shown() -> Iterator[Block]:
        info = read_info(path)
        threshold, source = choose_threshold(None, info.tags.get("threshold"), path.name)
        yield Facts(_map_facts(info, threshold, source))
        if run.label is not None and run.stack is not None:
            label, stack = run.label, run.stack
            framed = "Only the framed test part was kept from training: what lies elsewhere flatters the map. "
            yield made.drawn(
                "judged.png",
                lambda out: draw.draw_judged(
                    path, label, stack, threshold, out, f"Landslide map, threshold {threshold:g}", run.split
                ),
                "Map of hits, misses and false alarms over the relief.",
                "The map against the drawn landslides: hits, misses and false alarms. "
                + (framed if run.split is not None and "test" in _parts_held(run.split) else "")
                + _thinned(info.grid),
            )
        else:
            yield from made.lacks("label", "stack")
        yield made.drawn(
            "probability.png",
            lambda out: draw.draw_probability(path, out),
            "Map of the landslide probability from 0 to 1.",
            f"Landslide probability; grey where it is undefined. {_thinned(info.grid)}",
            palette=True,
        )
        if info.count >= 4:
            yield made.drawn(
                "uncertainty.png",
                lambda out: draw.draw_uncertainty(path, out),
                "Maps of probability, dissimilarity index and disagreement; hatched outside the area of applicability.",
                "Where not to trust the map: probability, how unlike the training ground (dissimilarity index), and how "
                f"far draws of the network disagree. {_thinned(info.grid, draw.MOST // 2)}",
                palette=True,
            )
        else:
            yield Text(
                "The map carries no bands of uncertainty. They are added by: landslip map RUN/model "
                "RUN/prepared/stack.tif RUN/map/probability.tif --uncertainty --overwrite",
                "remedy",
            )

    return made.tried(path, shown)


def _parts_held(split: Path) -> list[str]:
    """The parts that a split.tif may hold: a paper split has no test part."""
    return [name for name in PARTS if name != "test" or read_info(split).tags.get("split") != "paper"]


def _map_facts(info: RasterInfo, threshold: float, source: str) -> list[tuple[str, str]]:
    tags = info.tags
    rows = [
        ("Threshold", f"{threshold:g} ({source})"),
        ("Mapped by", f"{tags.get('method', 'unknown')}, {tags.get('precision', 'unknown precision')}"),
    ]
    if "temperature" in tags:
        rows.append(("Temperature", tags["temperature"]))
    if "applicability_threshold" in tags:
        rows.append(
            ("Area of applicability", f"dissimilarity index up to {_figure(float(tags['applicability_threshold']))}")
        )
    return rows


# ---- scores ----


def _scores(made: _Report) -> list[Block]:
    if not made.run.scores:
        return [
            Text("This run holds no scores. They are made by: landslip evaluate RUN/map/probability.tif "
                 "RUN/prepared/label.tif --split RUN/model/split.tif --json RUN/scores/test.json", "remedy")
        ]  # fmt: skip
    rows: list[list[Cell]] = []
    audits: list[list[Cell]] = []
    faults: list[Block] = []
    details: list[Block] = []
    loud: dict[str, list[str]] = {}
    for path in made.run.scores:
        found: dict[str, Any] = {}
        faults += made.tried(path, lambda path=path, found=found: _read_scores(path, found, rows, audits))  # type: ignore[misc]
        if found:
            details += made.tried(path, lambda path=path, found=found: _score_details(made, path, found))  # type: ignore[misc]
            if said := _loud(found):
                loud.setdefault(said, []).append(made.name(path))
    blocks: list[Block] = [Text(f"{', '.join(names)}: {said}", "warning") for said, names in loud.items()] + faults
    if rows:
        blocks.append(
            Table(
                "Scores with their ground, per cent.",
                ["Scores", "Part", "Split", "Leaky", *HEADS],
                rows,
                f"In brackets: {100 * LEVEL:g} % intervals from blocks of ground drawn anew; without them none were drawn.",
                left=4,
            )
        )
        blocks.append(
            Table(
                "What the scores stand on: size of the ground, and how near it lies to training ground.",
                ["Scores", "Pixels", "Hits", "False alarms", "Misses", "True negatives", "Threshold", "Nearest training ground, least (m)",
                 "Median (m)", "On it (%)", "Near it (%)", "Not scored (%)"],
                audits,
                "Near: less than one training window away, or on it. Not scored: share of the landslide area of the part.",
            )
        )  # fmt: skip
    return blocks + details


def _read_scores(path: Path, found: dict[str, Any], rows: list[list[Cell]], audits: list[list[Cell]]) -> list[Block]:
    read = _json(path)
    row = [path.stem, str(read["part"]), str(read["split"]), leakage(read["leaky"])]
    shown = cells({name: _number(read[name]) for name in SCORES}, _between(read))
    counts, audit = read["confusion"], read.get("audit") or {}
    near = [
        f"{_number(audit.get(key)):,.0f}" if audit.get(key) is not None else "-" for key in ("minimum_m", "median_m")
    ]
    near += [
        f"{100 * _number(audit.get(key)):.1f}" if audit.get(key) is not None else "-"
        for key in ("share_inside", "share_near")
    ]
    pixels = [f"{int(_number(v)):,}" for v in (read["pixels"], *(counts[key] for key in ("tp", "fp", "fn", "tn")))]
    lost = read.get("landslide_share_not_scored")
    audits.append(
        [path.stem, *pixels, _figure(read["threshold"]), *near, "-" if lost is None else f"{100 * _number(lost):.2f}"]
    )
    rows.append([*row, *shown])
    found.update(read)
    return []


def _between(found: Mapping[str, Any]) -> dict[str, tuple[float | None, float | None]]:
    held = found.get("intervals") or {}
    out: dict[str, tuple[float | None, float | None]] = {}
    for name in SCORES:
        low, high = held.get(name, (None, None))
        out[name] = (None if low is None else _number(low), None if high is None else _number(high))
    return out


def _score_details(made: _Report, path: Path, found: Mapping[str, Any]) -> Iterator[Block]:
    notes = [str(note) for note in found.get("notes") or []]
    if notes:
        yield Notes([f"{path.stem}: {note}." for note in notes])
    if found.get("reliability"):
        table = [Reliability(**{key: _number(value) for key, value in row.items()}) for row in found["reliability"]]  # type: ignore[arg-type]
        error = _percent(found.get("expected_calibration_error"))
        ground_ = "all mapped ground" if found["part"] == "all" else f"the {found['part']} part"
        yield made.drawn(
            f"reliability_{path.stem}.svg",
            lambda out: draw.draw_reliability({path.stem: table}, out, f"Reliability on {ground_}"),
            f"Share of landslide against probability on {ground_}; expected calibration error {error}.",
            f"{path.stem}: how far probabilities can be taken at their word on {ground_}; on the dotted line they can. "
            f"Expected calibration error {error}.",
        )
    if found.get("inventory"):
        scores = _inventory_scores(found["inventory"])
        yield _matched(path.stem, scores)
        if scores.classes:
            yield made.drawn(
                f"areas_{path.stem}.svg",
                lambda out: draw.draw_areas(scores, out),
                "Frequency of landslide areas, map beside reference, and the share found by size.",
                f"{path.stem}: landslide by landslide. Completeness limit (80 % found from it on): "
                + ("none." if math.isnan(scores.completeness_m2) else f"{area_text(scores.completeness_m2)}."),
            )


def _inventory_scores(found: Mapping[str, Any]) -> InventoryScores:
    """Scores of an inventory as a scores file holds them: null is NaN, and the single areas are not kept."""
    plain: dict[str, Any] = dict(found)
    plain["classes"] = [SizeClass(**{key: _number(value) for key, value in row.items()}) for row in found["classes"]]  # type: ignore[arg-type]
    for name in ("reference_tail", "mapped_tail"):
        plain[name] = Tail(**{key: _number(value) for key, value in found[name].items()})  # type: ignore[arg-type]
    for name in ("number_bias", "area_bias", "completeness_m2", "reference_area_m2", "mapped_area_m2"):
        plain[name] = _number(found[name])
    plain |= {"reference_areas": np.empty(0), "mapped_areas": np.empty(0), "boundary": []}
    known = {field.name for field in fields(InventoryScores)}
    return InventoryScores(**{key: value for key, value in plain.items() if key in known})


def _matched(name: str, scores: InventoryScores) -> Block:
    def times(bias: float) -> str:
        return "undefined" if math.isnan(bias) else f"{bias:.2f}"

    rows: list[list[Cell]] = [
        [f"{area_text(c.low)} to {area_text(c.high)}", *(f"{v:,.0f}" for v in (c.reference, c.found, c.reference - c.found, c.mapped, c.invented))]
        for c in scores.classes
    ]  # fmt: skip
    rows.append(
        ["all", *(f"{v:,.0f}" for v in (scores.reference, scores.found, scores.missed, scores.mapped, scores.invented))]
    )
    return Table(
        f"{name}: landslides of the inventory against the reference, matched where {_percent(scores.overlap, 0)} of the area is covered.",
        ["Size", "Reference", "Found", "Missed", "Mapped", "Invented"],
        rows,
        f"Number {times(scores.number_bias)} and area {times(scores.area_bias)} times the reference's. Split {scores.split:,} "
        f"landslides, mapped as {scores.split_pieces:,}; merged {scores.merged:,}, {scores.merged_landslides:,} in truth.",
    )  # fmt: skip


# ---- complexity, comparison ----


def _complexity(made: _Report) -> list[Block]:
    if made.run.model is None:
        return made.lacks("model")
    path = made.run.model

    def shown() -> Iterator[Block]:
        from landslip.models import build_model  # torch, which only this section needs
        from landslip.models.layers import macs, parameter_count

        facts = _json(path)
        network, channels = facts["run"]["network"], len(facts["channels"])
        built = build_model(network["name"], channels, **(network.get("options") or {}))
        learnt, statistics, both = parameter_count(built)
        machine = facts["machine"]
        weights = path.with_name(WEIGHTS)
        rows = [
            ("Network", f"{network['name']}, {channels} channels"),
            ("Parameters", f"{learnt:,} learnt and {statistics:,} running statistics, {both:,} together"),
            (
                "Model file",
                f"{weights.stat().st_size / 2**20:.1f} MiB" if weights.exists() else f"{WEIGHTS} is missing",
            ),
            ("Multiply-adds", f"{macs(built, channels) / 1e9:.3f} G for one block of 64 x 64 pixels"),
            ("Training", f"{_number(facts['training_seconds']):,.0f} s in batches"),
            ("Peak memory", f"{_number(facts['peak_mib']):,.0f} MiB of the whole process"),
            ("Machine", f"{machine['processor']}, {machine['threads']} thread(s), GPU {machine['gpu']}"),
        ]
        if facts.get("peak_gpu_mib") is not None:
            rows.insert(6, ("Peak GPU memory", f"{_number(facts['peak_gpu_mib']):,.0f} MiB"))
        yield Facts(rows)

    blocks = made.tried(path, shown)
    if made.run.comparison is not None:
        comparison = made.run.comparison
        blocks += made.tried(
            comparison,
            lambda: _sheet("Complexity of all methods (Table IX of the paper).", cost_sheet(_runs(comparison))),
        )
    return blocks


def _runs(path: Path) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = _json(path)["runs"]
    return runs


def _sheet(caption: str, sheet: Any) -> list[Block]:
    return [Table(caption, sheet.heads, sheet.rows, sheet.note)] if sheet.rows else []


def _comparison(made: _Report) -> list[Block]:
    if made.run.comparison is None:
        return made.lacks("comparison")
    path = made.run.comparison

    def shown() -> Iterator[Block]:
        results = _runs(path)
        every = summary(results)
        for split in dict.fromkeys(row["split"] for row in every):
            rows = [row for row in every if row["split"] == split]
            if rows[0]["leaky"] is not False:
                yield Text(f"{ground(rows[0])}.", "warning")
            yield from _sheet(f"{ground(rows[0])} (Tables VII and VIII of the paper).", score_sheet(rows))
            own = [result for result in results if result["split"] == split and "failed" not in result]
            if own:
                yield from _sheet(f"Split {split}: what the scores stand on.", trust_sheet(own))
        failed = [f"{r['method']}, {r['channels']}, seed {r['seed']}: {r['failed']}" for r in results if "failed" in r]
        if failed:
            yield Text("Some runs failed; the same command tries them again.", "warning")
            yield Notes(failed)

    blocks = made.tried(path, shown)
    titles = {
        "maps": "Maps on bands, and the last network's on bands and factors.",
        "maps_factors": "Maps on bands and factors.",
        "maps_baselines": "Maps of the pixel baselines.",
        "curves": "Learning curves.",
    }
    for name in PICTURES:
        for drawn in sorted(path.parent.glob(f"{name}_*.png")):
            if drawn.stem.removeprefix(f"{name}_") in ("apart", "paper", "given"):
                title = f"{titles[name][:-1]}, split {drawn.stem.removeprefix(f'{name}_')}."
                large = drawn.stat().st_size > MOST_BYTES
                blocks += made.tried(drawn, lambda d=drawn, t=title, p=large: [picture(d, t, t, p)])  # type: ignore[misc]
    return blocks


# ---- importance, intervals ----


def _importance(made: _Report) -> list[Block]:
    if made.run.importance is None:
        return made.lacks("importance")
    path = made.run.importance

    def shown() -> Iterator[Block]:
        found = _json(path)
        by_measure = {m: [s for s in found["scores"] if s["measure"] == m] for m in MEASURES}
        held = {m: scores for m, scores in by_measure.items() if scores}
        panels = {
            MEASURES[m]: [
                draw.Whisker(
                    str(s["factor"]), _number(s["estimate"]), _number(s["low"]), _number(s["high"]), s["effect"], bool(s["unstable"])
                )
                for s in scores
            ]
            for m, scores in held.items()
            if not m.endswith("_f1")
        }  # fmt: skip
        yield made.drawn(
            "importance.svg",
            lambda out: draw.draw_ranking(panels, out),
            "Bars of the importance of each factor with intervals: " + "; ".join(panels) + ".",
            "Which factors tell landslides from other ground, with 95 % intervals (Fig. 9 of the paper).",
        )
        for m, scores in held.items():
            rows = [
                [str(s["factor"]).replace("_", " "), "-" if s["rank"] is None else str(s["rank"]), _figure(s["estimate"]),
                 f"{_figure(s['low'])} to {_figure(s['high'])}", _doubts(s)]
                for s in scores
            ]  # fmt: skip
            title = MEASURES[m][0].upper() + MEASURES[m][1:]
            yield Table(f"{title}.", ["Factor", "Rank", "Estimate", "95 % interval", "Doubt"], rows)
        yield Notes([f"{note}." for note in found["notes"]])

    return made.tried(path, shown)


def _doubts(score: Mapping[str, Any]) -> str:
    said = ["no effect shown"] if score["effect"] is False else []
    said += ["place unstable"] if score["unstable"] else []
    return ", ".join([*said, *([str(score["note"])] if score.get("note") else [])]) or "-"


def _intervals(made: _Report) -> list[Block]:
    if made.run.intervals is None:
        return made.lacks("intervals")
    path = made.run.intervals

    def shown() -> Iterator[Block]:
        found = _json(path)
        panels: dict[str, list[tuple[str, float, float]]] = {}
        table: list[list[Cell]] = []
        for row in found["rows"]:
            plain = row["unit"] in ("", "class") or row["factor"] == "aspect"
            unit = "" if plain else f" ({'°' if row['unit'] == 'degree' else row['unit']})"
            title = str(row["factor"]).replace("_", " ") + unit
            panels.setdefault(title, []).append(
                (str(row["name"]), _number(row["frequency"]), _number(row["area_share"]))
            )
            shares = (_percent(row[key], 1) for key in ("area_share", "landslide_share"))
            ratio = _number(row["frequency_ratio"])
            table.append(
                [title, str(row["name"]), f"{int(_number(row['pixels'])):,}", *shares, _percent(row["frequency"]),
                 "undefined" if math.isnan(ratio) else f"{ratio:.2f}"]
            )  # fmt: skip
        mean = _number(found["landslides"]) / _number(found["pixels"])
        yield made.drawn(
            "intervals.svg",
            lambda out: draw.draw_intervals(panels, mean, out),
            "Bars of landslide frequency and area share by class of each factor.",
            f"How often landslides lie in each class of a factor; dashed: the site's {_percent(mean)} (Fig. 10 of the paper).",
        )
        heads = ["Factor", "Class", "Pixels", "Of the ground", "Of the landslides", "Frequency", "Ratio"]
        yield Table("Landslides by class of each factor.", heads, table, left=2)
        yield Notes([f"{note}." for note in found["notes"]])

    return made.tried(path, shown)


# ---- inventory ----

COLUMNS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("area_m2", "Area (m²)", lambda v: f"{v:,.0f}"),
    ("area_low_m2", "at least", lambda v: f"{v:,.0f}"),
    ("area_high_m2", "at most", lambda v: f"{v:,.0f}"),
    ("perimeter_m", "Perimeter (m)", lambda v: f"{v:,.0f}"),
    ("length_m", "Length (m)", lambda v: f"{v:,.0f}"),
    ("width_m", "Width (m)", lambda v: f"{v:,.0f}"),
    ("height_drop_m", "Drop (m)", lambda v: f"{v:,.0f}"),
    ("slope_mean", "Mean slope (°)", lambda v: f"{v:.1f}"),
    ("lithology", "Lithology", str),
    ("distance_to_river", "To river (m)", lambda v: f"{v:,.0f}"),
    ("distance_to_fault", "To fault (m)", lambda v: f"{v:,.0f}"),
    ("probability_mean", "Mean probability", lambda v: f"{v:.2f}"),
    ("review", "Review", str),
)


def _layer(path: Path) -> str | None:
    return LAYER if LAYER in layers(path) else None


def _mapped_area(made: _Report) -> float:
    """Square metres that were mapped, landslide or not; 0 where no landslide map says so."""
    if made.run.landslide_map is None:
        return 0.0
    info = read_info(made.run.landslide_map)
    pixels = 0
    with opening(made.run.landslide_map) as dataset:
        for window in tiles((info.height, info.width), SIDE):
            pixels += int(np.count_nonzero(cut_stored(dataset, window) <= LANDSLIDE))
    return pixels * info.grid.pixel_area


def _inventory(made: _Report) -> list[Block]:
    if made.run.inventory is None:
        return made.lacks("inventory")
    path = made.run.inventory

    def shown() -> Iterator[Block]:
        frame = read_vector(path, _layer(path))
        areas = frame["area_m2"].to_numpy(float)
        mapped = _mapped_area(made)
        rows = [("Landslides", f"{len(frame):,}"), ("Area", _km2(float(areas.sum())))]
        if mapped:
            rows.append(("Share", f"{100 * areas.sum() / mapped:.2f} % of the {_km2(mapped)} mapped"))
        if {"area_low_m2", "area_high_m2"} <= set(frame):
            low, high = (float(frame[name].sum()) for name in ("area_low_m2", "area_high_m2"))
            rows.append(("Area, by the probabilities", f"{_km2(low)} to {_km2(high)}"))
        if "review" in frame:
            states = frame["review"].fillna("open").astype(str).value_counts(sort=False).sort_index()
            rows.append(("Review", ", ".join(f"{count:,} {state}" for state, count in states.items())))
        if not len(frame):
            yield Facts(rows)
            return
        rows.append(("Smallest, median, mean, largest", ", ".join(
            f"{v:,.0f} m²" for v in (areas.min(), float(np.median(areas)), areas.mean(), areas.max())
        )))  # fmt: skip
        tail = fit_tail(areas)
        if not math.isnan(tail.exponent):
            rough = f"; fewer than {SURE}: rough" if tail.count < SURE else ""
            rows.append(
                ("Power-law tail", f"exponent {tail.exponent:.2f} ± {tail.standard_error:.2f} from {area_text(tail.x_min)} on "
                 f"({tail.count:,} landslides{rough})")
            )  # fmt: skip
        yield Facts(rows)
        yield made.drawn(
            "inventory.svg",
            lambda out: figures.draw_inventory_areas(areas, tail, out),
            f"Frequency density of {len(areas):,} landslide areas, and how many are as large or larger.",
            "Areas of the mapped landslides: frequency density with its power-law tail (bars: 1 sigma of counts), and "
            "how many are as large or larger.",
        )
        yield _largest(made, frame)

    return made.tried(path, shown)


def _largest(made: _Report, frame: Any) -> Block:
    held = [(name, head, text) for name, head, text in COLUMNS if name in frame and frame[name].notna().any()]
    # equal areas in the order of their ids, whatever the order of the file
    ordered = frame.sort_values(
        ["area_m2", "id"] if "id" in frame else ["area_m2"], ascending=[False, True][: 1 + ("id" in frame)]
    )
    chosen = ordered.head(LARGEST)
    points = chosen.geometry.representative_point()
    rows: list[list[Cell]] = []
    for (_, row), point in zip(chosen.iterrows(), points, strict=True):
        texts = ["-" if row[name] is None or row[name] != row[name] else text(row[name]) for name, _, text in held]
        rows.append([str(row["id"]) if "id" in row else "-", f"{point.x:,.0f}", f"{point.y:,.0f}", *texts])
    return Table(
        f"The {len(rows)} largest of {len(frame):,} landslides.",
        ["Id", "Easting (m)", "Northing (m)", *(head for _, head, _ in held)],
        rows,
        f"A point inside each, in {frame.crs.name}.",
    )


# ---- provenance ----


def _provenance(made: _Report) -> list[Block]:
    run = made.run
    blocks: list[Block] = []
    if run.manifest is not None:
        manifest = run.manifest
        blocks += made.tried(manifest, lambda: _prepared_from(_json(manifest)))
    else:
        blocks += made.lacks("manifest")
    if run.model is not None:
        model = run.model
        blocks += made.tried(model, lambda: _trained_from(_json(model)))
        blocks += made.tried(model, lambda: _weights(made, model))
    if run.probability is not None:
        probability = run.probability
        blocks += made.tried(probability, lambda: _tags(made, probability))
    for path, what in ((run.site, "The site file"), (run.run, "The run file")):
        if path is not None:
            text = f"{what}, {path.name}."
            blocks += made.tried(path, lambda p=path, t=text: [Listing(t, p.read_text(encoding="utf-8-sig").rstrip())])  # type: ignore[misc]
    blocks.append(Listing("Commands that make this run again; RUN is its folder.", "\n".join(_commands(made))))
    return blocks


def _prepared_from(manifest: Mapping[str, Any]) -> Iterator[Block]:
    rows = [
        [str(item.get("what", item.get("file"))), str(item.get("file", "-")), str(item["sha256"])]
        for item in _items(manifest["inputs"])
    ]
    if rows:
        yield Table("Inputs, by their SHA-256.", ["Input", "File", "SHA-256"], rows, left=3)
    yield Facts([("Prepared with", _versions(manifest["software"])), ("Encoding", str(manifest["encoding"]))])
    lost = manifest.get("landslides_that_burn_to_no_pixel") or []
    if lost:
        yield Text(f"{len(lost):,} drawn landslide(s) are smaller than what burns to a pixel: {', '.join(map(str, lost[:20]))}"
                   + (" ..." if len(lost) > 20 else ""))  # fmt: skip


def _items(inputs: Any) -> list[Mapping[str, Any]]:
    """The inputs of a manifest: a list of them, or (of imported patches) hashes by name."""
    if isinstance(inputs, dict):
        return [{"what": name, "file": name, "sha256": value} for name, value in inputs.items()]
    return list(inputs)


def _trained_from(facts: Mapping[str, Any]) -> Iterator[Block]:
    machine = facts["machine"]
    rows = [
        ("Trained with", _versions(facts["software"])),
        ("On", f"{machine['system']}, {machine['processor']}, {machine['threads']} thread(s), {machine['memory_gib']} GiB, GPU {machine['gpu']}"),
        ("Precision, seed", f"{facts['precision']}, {facts['seed']}"),
        *((f"{name}, when trained", f"SHA-256 {value}") for name, value in facts["site_inputs"].items()),
        ("Model", f"SHA-256 {facts['weights_sha256']}"),
    ]  # fmt: skip
    yield Facts([(str(name), str(value)) for name, value in rows])


def _weights(made: _Report, path: Path) -> Iterator[Block]:
    weights = path.with_name(WEIGHTS)
    if weights.exists() and file_hash(weights) != _json(path)["weights_sha256"]:
        yield Text(f"{made.name(weights)} is not the file that training wrote: its SHA-256 differs.", "warning")


def _tags(made: _Report, path: Path) -> Iterator[Block]:
    kept = {key: value for key, value in sorted(read_info(path).tags.items()) if key != "AREA_OR_POINT"}
    if kept:
        yield Facts([(f"Map, {key}", value) for key, value in kept.items()])
    yield from _agreement(made)


def _versions(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())


def _commands(made: _Report) -> list[str]:
    run = made.run
    encoding = _quietly(run.channels).get("encoding")
    lines = []
    if run.stack is not None:
        lines.append(
            "landslip prepare RUN/site.toml RUN/prepared" + (" --encoding paper" if encoding == "paper" else "")
        )
    if run.model is not None:
        lines.append("landslip train RUN/run.toml RUN/prepared RUN/model")
    if run.probability is not None:
        tags = _tags_of(run.probability)
        further = (" --method paper" if tags.get("method") == "paper" else "") + (
            f" --uncertainty --samples {tags['samples']}" if tags.get("samples") else ""
        )
        lines.append(f"landslip map RUN/model RUN/prepared/stack.tif RUN/map/probability.tif{further}")
    if run.inventory is not None:
        tags = {} if run.landslide_map is None else _tags_of(run.landslide_map)
        further = f" --min-area {tags['min_area']}" if tags.get("min_area") else ""
        if tags.get("threshold") and not tags.get("threshold_source", "").startswith("tag"):
            further += f" --threshold {tags['threshold']}"
        lines.append(f"landslip inventory RUN/map/probability.tif RUN/inventory/landslides.gpkg{further}")
    for path in run.scores:
        found = _quietly(path)
        split = " --split RUN/model/split.tif" if found.get("split") not in (None, "unknown") else ""
        part = f" --part {found['part']}" if found.get("part") else ""
        lines.append(
            f"landslip evaluate RUN/map/probability.tif RUN/prepared/label.tif{split}{part} --json RUN/{made.name(path)}"
        )
    for name in ("intervals", "importance", "comparison"):
        if getattr(run, name) is not None:
            lines.append(PLACES[name][1].replace(" run.toml", " RUN/run.toml"))
    lines.append("landslip report RUN REPORT.html")
    return lines


def _tags_of(path: Path) -> Mapping[str, str]:
    try:
        return read_info(path).tags
    except LandslipError:
        return {}


SECTIONS: Sequence[tuple[str, str, Callable[[_Report], list[Block]]]] = (
    ("summary", "Summary", _summary),
    ("study-area", "Study area", _study_area),
    ("factors", "Bands and factors", _factors),
    ("training", "Training", _training),
    ("split", "Split", _split),
    ("map", "Landslide map", _map),
    ("scores", "Scores", _scores),
    ("inventory", "Inventory", _inventory),
    ("complexity", "Complexity", _complexity),
    ("comparison", "Comparison", _comparison),
    ("importance", "Importance of the factors", _importance),
    ("intervals", "Landslides by class of a factor", _intervals),
    ("provenance", "Provenance", _provenance),
)
