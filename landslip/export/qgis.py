"""`landslip qgis`: one project file that opens every layer of a run in QGIS, styled and in groups.

Sources are relative to the project, so that the run folder can be moved or zipped with it. What a stack holds in
several channels, and what follows from two rasters, is written as one raster each beside the project. The vectors are
those of the site file, where they still are. The elements are those that QGIS 3.22 and later read;
`tests/export/test_qgis.py` opens the project with QGIS itself where it is installed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, cast

from landslip.config.site import read_site
from landslip.dataset.channels import Channel, StackInfo, read_stack_info
from landslip.dataset.label import LABEL_NAMES
from landslip.dataset.split import TEST, TRAIN, VALIDATION
from landslip.errors import LandslipError, OutputError
from landslip.export.qgis_project import ProjectLayer, project_file
from landslip.geo.archive import archive_of, gdal_name, own_file
from landslip.geo.preview import read_decimated, stretch
from landslip.geo.raster import PROBABILITY, read_info
from landslip.geo.vector import layer_facts, layer_names
from landslip.metrics.confusion import stated_threshold
from landslip.plots.class_maps import ClassMap, agreement_map, factor_maps, write_class_map
from landslip.plots.palette import (
    DIVERGING,
    DOUBT,
    FAULT,
    NO_LANDSLIDE,
    OUTLINE,
    PART_COLOURS,
    RAMP,
    RAMPS,
    REFERENCE,
    RIVER,
    rgba,
)
from landslip.plots.qgis_style import (
    FALSE_COLOUR,
    MAP_COLOURS,
    TRUE_COLOUR,
    classes_renderer,
    colours_renderer,
    gray_renderer,
    inventory_renderer,
    line_renderer,
    outline_renderer,
    ramp_renderer,
    review_renderer,
)
from landslip.review.review_tables import LAYER, REVIEW_LAYER
from landslip.runtime.atomic import atomic_folder, refuse_existing
from landslip.runtime.disk import file_hash
from landslip.runtime.run_folder import RunFolder, open_run
from landslip.runtime.text import read_json, write_json, write_text

STRETCH_SIDE = 512  # pixels a side that a stretch is taken from
LABEL_COLOURS = {0: rgba(NO_LANDSLIDE), 1: rgba(REFERENCE)}
PART_NAMES = {TRAIN: "training", VALIDATION: "validation", TEST: "test"}
SPLIT_COLOURS = dict(zip((TRAIN, VALIDATION, TEST), map(rgba, PART_COLOURS.values()), strict=True))
PICTURES = {"true colour": TRUE_COLOUR, "false colour": FALSE_COLOUR}
VECTORS = {  # of the site file: how each is called, and its colour
    "landslides": ("reference", rgba(REFERENCE)),
    "outline": ("outline", rgba(OUTLINE)),
    "rivers": ("rivers", rgba(RIVER)),
    "faults": ("faults", rgba(FAULT)),
}


class _Manifest(TypedDict, total=False):
    """What is read of a prepared folder's manifest.json: the site file's tables, and the inputs with their hashes."""

    site: dict[str, dict[str, str | None]]
    inputs: list[dict[str, str]]


def write_project(root: Path, out: Path | None = None, overwrite: bool = False) -> Path:
    """Write the QGIS project of a run folder (default: RUN/landslip.qgs) and return its path.

    Aspect, classes, and hits and misses are written as rasters into a folder beside it (landslip_layers/). Raises
    OutputError for what is no run folder or holds nothing to show, or where the project exists.
    """
    run = open_run(root)
    out = root / "landslip.qgs" if out is None else out
    if out.suffix.lower() != ".qgs":
        raise OutputError(f"{out} would hold a QGIS project: give it a name that ends in .qgs.")
    refuse_existing(out, overwrite)
    beside = out.with_name(f"{out.stem}_layers")
    # Without the project the folder is of a run that was stopped before it wrote one, and is made anew.
    refuse_existing(beside, overwrite or not out.exists(), folder=True)
    first = next((path for path in (run.stack, run.probability, run.landslide_map) if path is not None), None)
    if first is None:
        raise OutputError(f"{root} holds no raster to show yet. Make one with `landslip prepare` or `landslip map`.")
    maps = list(_class_maps(run))
    layers = _layers(run, out.absolute().parent, {one.name: (one, beside / f"{one.name}.tif") for one in maps})
    if maps:
        with atomic_folder(beside, overwrite=True) as aside:
            for one in maps:
                write_class_map(one, aside / f"{one.name}.tif")
            write_json(aside / "manifest.json", {"of": out.name, "layers": {one.name: one.title for one in maps}})
    write_text(out, project_file(root.resolve().name, read_info(first).grid, layers), overwrite)
    return out


def _class_maps(run: RunFolder) -> Iterator[ClassMap]:
    """The rasters that are made for the project: hits and misses, aspect, classes."""
    if run.probability is not None and run.label is not None:
        threshold, _ = stated_threshold(None, read_info(run.probability).tags.get("threshold"), run.probability.name)
        hits_and_misses = agreement_map(run.probability, run.label, threshold)
        if hits_and_misses is not None:
            yield hits_and_misses
    if run.stack is not None:
        yield from factor_maps(read_stack_info(run.stack))


def _layers(run: RunFolder, home: Path, maps: dict[str, tuple[ClassMap, Path]]) -> list[ProjectLayer]:
    """Layers from the top of the legend down; `home` is the project's folder, which sources start at."""
    files = _ProjectFiles(home)
    layers = [*_inventory_layers(run, files), *_vectors(run, files)]
    if "hits_and_misses" in maps:
        layers.append(_classes("Map", files, *maps.pop("hits_and_misses")))
    if run.landslide_map is not None:
        renderer = classes_renderer(LABEL_NAMES, MAP_COLOURS)
        layers.append(
            ProjectLayer(group="Map", name="landslide map", source=files.relative(run.landslide_map), renderer=renderer)
        )
    if run.probability is not None:
        layers += _probability_layers(run.probability, files)
    for name, path, words, colours in (
        ("label", run.label, LABEL_NAMES, LABEL_COLOURS),
        ("split", run.split, PART_NAMES, SPLIT_COLOURS),
    ):
        if path is not None:
            renderer = classes_renderer(words, colours)
            layers.append(ProjectLayer(group="Ground", name=name, source=files.relative(path), renderer=renderer))
    if run.stack is not None:
        stack, source = read_stack_info(run.stack), files.relative(run.stack)
        layers += _pictures(stack, source)
        for factor in dict.fromkeys(channel.factor for channel in stack.channels if channel.group == "factor"):
            if factor in maps:
                layers.append(_classes("Factors", files, *maps[factor]))
            else:
                layers += _continuous(stack, source, factor)
    return layers


@dataclass(frozen=True)
class _ProjectFiles:
    """Files as the project names them: relative to its folder, so that both can be moved together."""

    home: Path

    def relative(self, path: Path) -> str:
        return Path(os.path.relpath(path.absolute(), self.home)).as_posix()

    def vector(self, path: Path, layer: str) -> str:
        """A layer of a vector file; GDAL's own name for a file in an archive."""
        file = self.relative(path) if archive_of(path) is None else gdal_name(path)
        return f"{file}|layername={layer}"


def _classes(group: str, files: _ProjectFiles, classes: ClassMap, path: Path) -> ProjectLayer:
    words = {code: word for code, (word, _) in classes.classes.items()}
    colours = {code: rgba(colour) for code, (_, colour) in classes.classes.items()}
    renderer = classes_renderer(words, colours)
    return ProjectLayer(group=group, name=classes.title, source=files.relative(path), renderer=renderer)


def _inventory_layers(run: RunFolder, files: _ProjectFiles) -> Iterator[ProjectLayer]:
    if run.inventory is None:
        return
    tables = layer_names(run.inventory)
    renderers = {REVIEW_LAYER: ("review", review_renderer()), LAYER: ("inventory", inventory_renderer())}
    for table, (name, renderer) in renderers.items():
        if table in tables:
            yield ProjectLayer(
                group="Landslides",
                name=name,
                source=f"{files.relative(run.inventory)}|layername={table}",
                renderer=renderer,
                shown=True,
                shape="MultiPolygon",
            )


def _probability_layers(path: Path, files: _ProjectFiles) -> Iterator[ProjectLayer]:
    """A layer per band: the probability and, where it was asked for, its uncertainty."""
    for band, name in enumerate(read_info(path).names, start=1):
        is_probability = name in (PROBABILITY, None)
        top = 1.0 if is_probability else max(_stretch(path, band)[1], 1e-6)
        renderer = ramp_renderer(band, 0, top, RAMP if is_probability else DOUBT)
        yield ProjectLayer(group="Map", name=name or PROBABILITY, source=files.relative(path), renderer=renderer)


def _vectors(run: RunFolder, files: _ProjectFiles) -> Iterator[ProjectLayer]:
    """The vectors that a site was prepared from, where they still are."""
    manifest = _manifest(run)
    for what, (title, colour) in VECTORS.items():
        for path, layer in _places(run, manifest, what):
            try:
                reviewed = what == "landslides" and layer is None and REVIEW_LAYER in layer_names(path, spatial=True)
                name, shape, crs = layer_facts(path, REVIEW_LAYER if reviewed else layer)
                changed = file_hash(own_file(path)) not in _hashes(manifest, what, path)
            except (LandslipError, OSError):
                continue  # The file is gone, or is no vector file: a mask of landslides, say, which the label shows.
            renderer = outline_renderer(colour, "solid") if "Polygon" in shape else line_renderer(colour)
            if reviewed:  # Rejected landslides are in the file too; the renderer of reviews tells them apart.
                title, renderer = f"{title}, as reviewed", review_renderer()
            yield ProjectLayer(
                group="Site",
                name=f"{title} (changed since prepare)" if changed else title,
                source=files.vector(path, name),
                renderer=renderer,
                shown=what == "outline",
                shape=shape,
                crs=crs,
            )
            break


def _places(run: RunFolder, manifest: _Manifest, what: str) -> Iterator[tuple[Path, str | None]]:
    """Where the site file of a run, and that which the prepared folder remembers, say that an input lies."""
    with suppress(LandslipError):
        table: Any = None if run.site is None else getattr(read_site(run.site), what)
        if table is not None and table.path is not None:
            yield table.path, table.layer
    with suppress(AttributeError, KeyError, TypeError):
        entry = manifest["site"][what]
        yield Path(str(entry["path"])), entry.get("layer")


def _manifest(run: RunFolder) -> _Manifest:
    with suppress(OSError, ValueError):
        manifest = None if run.manifest is None else read_json(run.manifest)
        return cast(_Manifest, manifest if isinstance(manifest, dict) else {})
    return {}


def _hashes(manifest: _Manifest, what: str, path: Path) -> list[str]:
    """The SHA-256 that an input had when the site was prepared."""
    with suppress(AttributeError, KeyError, TypeError):
        return [
            str(one["sha256"])
            for one in manifest["inputs"]
            if (one["what"], one["file"]) == (what, own_file(path).name)
        ]
    return []


def _pictures(info: StackInfo, source: str) -> list[ProjectLayer]:
    """The image in true and false colour; its first band in grey where it has bands for neither. The first is shown."""
    bands = {channel.name: band for band, channel in enumerate(info.channels, start=1)}
    renderers: dict[str, str] = {}
    for name, names in PICTURES.items():
        if all(band in bands for band in names):
            red, green, blue = (bands[band] for band in names)
            ranges = tuple(_stretch(info.path, band) for band in (red, green, blue))
            renderers[name] = colours_renderer((red, green, blue), ranges)
    image_bands = [channel.name for channel in info.channels if channel.group == "band"]
    if not renderers and image_bands:
        band = bands[image_bands[0]]
        renderers[image_bands[0]] = gray_renderer(band, *_stretch(info.path, band))
    return [
        ProjectLayer(group="Image", name=name, source=source, renderer=renderer, shown=number == 0)
        for number, (name, renderer) in enumerate(renderers.items())
    ]


def _continuous(info: StackInfo, source: str, factor: str) -> Iterator[ProjectLayer]:
    """A layer per channel of a factor, in the factor's colours."""
    for band, channel in enumerate(info.channels, start=1):
        if channel.factor == factor:
            low, high = _stretch(info.path, band)
            if factor in DIVERGING:
                low, high = -max(-low, high), max(-low, high)
            renderer = ramp_renderer(band, low, high, RAMPS.get(factor, RAMP))
            yield ProjectLayer(group="Factors", name=_title(channel), source=source, renderer=renderer)


def _title(channel: Channel) -> str:
    name = channel.name.replace("_", " ")
    return f"{name} ({channel.unit})" if channel.unit else name


def _stretch(path: Path, band: int) -> tuple[float, float]:
    """The range that a band is stretched over, from a thinned one."""
    return stretch(read_decimated(path, [band], STRETCH_SIDE)[0])
