"""`landslip qgis`: one project file that opens every layer of a run in QGIS, styled and in groups.

Sources are relative to the project, so that the run folder can be moved or zipped with it. What a stack holds in
several channels, and what follows from two rasters, is written as one raster each beside the project. The vectors are
those of the site file, where they still are. The elements are those that QGIS 3.22 and later read;
`tests/export/test_qgis.py` opens the project with QGIS itself where it is installed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from rasterio.crs import CRS

from landslip.config.site import read_site
from landslip.dataset.channels import Channel, StackInfo, read_stack_info
from landslip.dataset.split import TEST, TRAIN, VALIDATION
from landslip.errors import LandslipError, OutputError
from landslip.geo.archive import archive_of, gdal_name, own_file
from landslip.geo.grid import Grid
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
    PARTS,
    RAMP,
    RAMPS,
    REFERENCE,
    RIVER,
    rgba,
)
from landslip.plots.qgis_style import (
    CLASSES,
    COLOURS,
    FALSE_COLOUR,
    HEAD,
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
from landslip.review.review_tables import LAYER, REVIEWS
from landslip.runtime.atomic import atomic_folder, refuse_existing
from landslip.runtime.disk import file_hash
from landslip.runtime.run_folder import RunFolder, open_run
from landslip.runtime.text import read_json, write_json, write_text

SEEN = 512  # pixels a side that a stretch is taken from
LABEL_COLOURS = {0: rgba(NO_LANDSLIDE), 1: rgba(REFERENCE)}
PART_NAMES = {TRAIN: "training", VALIDATION: "validation", TEST: "test"}
PART_COLOURS = {code: rgba(colour) for code, colour in zip((TRAIN, VALIDATION, TEST), PARTS.values(), strict=True)}
PICTURES = {"true colour": TRUE_COLOUR, "false colour": FALSE_COLOUR}
VECTORS = {  # of the site file: how each is called, and its colour
    "landslides": ("reference", rgba(REFERENCE)),
    "outline": ("outline", rgba(OUTLINE)),
    "rivers": ("rivers", rgba(RIVER)),
    "faults": ("faults", rgba(FAULT)),
}


@dataclass(frozen=True)
class _ProjectLayer:
    """A layer of the project: its group, name and source, its renderer, and whether it is shown at first.

    `shape` is the kind of geometry of a vector layer, "" of a raster; `crs` its own where it is not the run's.
    """

    group: str
    name: str
    source: str
    renderer: str
    shown: bool = False
    shape: str = ""
    crs: CRS | None = None


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
    refuse_existing(beside, overwrite or not out.exists(), folder=True)  # of a run that was stopped before the project
    first = next((path for path in (run.stack, run.probability, run.landslide_map) if path is not None), None)
    if first is None:
        raise OutputError(f"{root} holds no raster to show yet. Make one with `landslip prepare` or `landslip map`.")
    maps = list(_class_maps(run))
    shown = _layers(run, out.absolute().parent, {one.name: (one, beside / f"{one.name}.tif") for one in maps})
    if maps:
        with atomic_folder(beside, overwrite=True) as aside:
            for one in maps:
                write_class_map(one, aside / f"{one.name}.tif")
            write_json(aside / "manifest.json", {"of": out.name, "layers": {one.name: one.title for one in maps}})
    write_text(out, _project(root.resolve().name, read_info(first).grid, shown), overwrite)
    return out


def _class_maps(run: RunFolder) -> Iterator[ClassMap]:
    if run.probability is not None and run.label is not None:
        threshold, _ = stated_threshold(None, read_info(run.probability).tags.get("threshold"), run.probability.name)
        one = agreement_map(run.probability, run.label, threshold)
        if one is not None:
            yield one
    if run.stack is not None:
        yield from factor_maps(read_stack_info(run.stack))


def _layers(run: RunFolder, home: Path, maps: dict[str, tuple[ClassMap, Path]]) -> list[_ProjectLayer]:
    """Layers from the top of the legend down."""

    def source(path: Path) -> str:
        return Path(os.path.relpath(path.absolute(), home)).as_posix()

    def classed(group: str, one: ClassMap, path: Path) -> _ProjectLayer:
        words = {code: word for code, (word, _) in one.classes.items()}
        colours = {code: rgba(colour) for code, (_, colour) in one.classes.items()}
        return _ProjectLayer(group, one.title, source(path), classes_renderer(words, colours))

    found: list[_ProjectLayer] = []
    if run.inventory is not None:
        names = layer_names(run.inventory)
        file = source(run.inventory)
        if REVIEWS in names:
            reviewed = f"{file}|layername={REVIEWS}"
            found.append(_ProjectLayer("Landslides", "review", reviewed, review_renderer(), True, "MultiPolygon"))
        if LAYER in names:
            found.append(
                _ProjectLayer(
                    "Landslides", "inventory", f"{file}|layername={LAYER}", inventory_renderer(), True, "MultiPolygon"
                )
            )  # fmt: skip
    for one in _vectors(run):
        path, _, layer = one.source.rpartition("|")
        there = source(Path(path)) if archive_of(Path(path)) is None else gdal_name(Path(path))
        found.append(replace(one, source=f"{there}|{layer}"))
    if "hits_and_misses" in maps:
        found.append(classed("Map", *maps.pop("hits_and_misses")))
    if run.landslide_map is not None:
        found.append(
            _ProjectLayer("Map", "landslide map", source(run.landslide_map), classes_renderer(CLASSES, COLOURS))
        )
    if run.probability is not None:
        for band, name in enumerate(read_info(run.probability).names, start=1):
            top = 1.0 if name in (PROBABILITY, None) else max(_stretch(run.probability, band)[1], 1e-6)
            ramp = RAMP if name in (PROBABILITY, None) else DOUBT
            origin = source(run.probability)
            found.append(_ProjectLayer("Map", name or PROBABILITY, origin, ramp_renderer(band, 0, top, ramp)))
    if run.label is not None:
        names_of = {0: "no landslide", 1: "landslide"}
        found.append(_ProjectLayer("Ground", "label", source(run.label), classes_renderer(names_of, LABEL_COLOURS)))
    if run.split is not None:
        found.append(_ProjectLayer("Ground", "split", source(run.split), classes_renderer(PART_NAMES, PART_COLOURS)))
    if run.stack is not None:
        info = read_stack_info(run.stack)
        found += _pictures(info, source(run.stack))
        for factor in dict.fromkeys(channel.factor for channel in info.channels if channel.group == "factor"):
            if factor in maps:
                found.append(classed("Factors", *maps[factor]))
            else:
                found += _continuous(info, source(run.stack), factor)
    return found


def _vectors(run: RunFolder) -> Iterator[_ProjectLayer]:
    """The vectors that a site was prepared from, where they still are; sources are whole paths."""
    manifest = _manifest(run)
    for what, (title, colour) in VECTORS.items():
        for path, layer in _places(run, manifest, what):
            try:
                reviewed = what == "landslides" and layer is None and REVIEWS in layer_names(path, spatial=True)
                name, shape, crs = layer_facts(path, REVIEWS if reviewed else layer)
                changed = file_hash(own_file(path)) not in _hashes(manifest, what, path)
            except (LandslipError, OSError):
                continue  # gone, or no vector file: a mask of landslides, say, which the label shows
            renderer = outline_renderer(colour, "solid") if "Polygon" in shape else line_renderer(colour)
            if reviewed:  # what was rejected is no reference, and looks so
                title, renderer = f"{title}, as reviewed", review_renderer()
            shown = f"{title} (changed since prepare)" if changed else title
            yield _ProjectLayer("Site", shown, f"{path}|layername={name}", renderer, what == "outline", shape, crs)
            break


def _places(run: RunFolder, manifest: dict[str, Any], what: str) -> Iterator[tuple[Path, str | None]]:
    """Where the site file of a run, and that which the prepared folder remembers, say that an input lies."""
    with suppress(LandslipError):
        table: Any = None if run.site is None else getattr(read_site(run.site), what)
        if table is not None and table.path is not None:
            yield table.path, table.layer
    with suppress(AttributeError, KeyError, TypeError):
        kept = manifest["site"][what]
        yield Path(kept["path"]), kept.get("layer")


def _manifest(run: RunFolder) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        found = None if run.manifest is None else read_json(run.manifest)
        return found if isinstance(found, dict) else {}
    return {}


def _hashes(manifest: dict[str, Any], what: str, path: Path) -> list[str]:
    """The SHA-256 that an input had when the site was prepared."""
    with suppress(AttributeError, KeyError, TypeError):
        return [
            str(one["sha256"])
            for one in manifest["inputs"]
            if (one["what"], one["file"]) == (what, own_file(path).name)
        ]
    return []


def _pictures(info: StackInfo, source: str) -> list[_ProjectLayer]:
    stack, channels = info.path, info.channels
    at = {channel.name: band for band, channel in enumerate(channels, start=1)}
    found: list[_ProjectLayer] = []
    for name, wanted in PICTURES.items():
        if all(band in at for band in wanted):
            red, green, blue = (at[band] for band in wanted)
            ranges = tuple(_stretch(stack, band) for band in (red, green, blue))
            found.append(_ProjectLayer("Image", name, source, colours_renderer((red, green, blue), ranges), not found))
    bands = [channel for channel in channels if channel.group == "band"]
    if not found and bands:
        band = at[bands[0].name]
        found.append(_ProjectLayer("Image", bands[0].name, source, gray_renderer(band, *_stretch(stack, band)), True))
    return found


def _continuous(info: StackInfo, source: str, factor: str) -> Iterator[_ProjectLayer]:
    """A layer per channel of a factor, in the factor's colours."""
    for band, channel in enumerate(info.channels, start=1):
        if channel.factor == factor:
            low, high = _stretch(info.path, band)
            if factor in DIVERGING:
                low, high = -max(-low, high), max(-low, high)
            renderer = ramp_renderer(band, low, high, RAMPS.get(factor, RAMP))
            yield _ProjectLayer("Factors", _title(channel), source, renderer)


def _title(channel: Channel) -> str:
    name = channel.name.replace("_", " ")
    return f"{name} ({channel.unit})" if channel.unit else name


def _stretch(path: Path, band: int) -> tuple[float, float]:
    """The range that a band is stretched over, from a thinned one."""
    return stretch(read_decimated(path, [band], SEEN)[0])


def _project(title: str, grid: Grid, shown: Sequence[_ProjectLayer]) -> str:
    crs = _crs(grid.crs)
    left, bottom, right, top = grid.bounds
    groups = list(dict.fromkeys(layer.group for layer in shown))
    tree = "\n".join(_group(group, [(i, one) for i, one in enumerate(shown) if one.group == group]) for group in groups)
    maps = "\n".join(_map_layer(i, layer, crs) for i, layer in enumerate(shown))
    order = "\n".join(f'    <layer id="{_id(i, layer)}"/>' for i, layer in enumerate(shown))
    return f"""{HEAD}<qgis version="3.22.0" projectname={quoteattr(title)}>
  <homePath path=""/>
  <title>{escape(title)}</title>
  <projectCrs>
{crs}
  </projectCrs>
  <layer-tree-group>
{tree}
    <custom-order enabled="0"/>
  </layer-tree-group>
  <mapcanvas name="theMapCanvas" annotationsVisible="1">
    <units>meters</units>
    <extent>
      <xmin>{left!r}</xmin>
      <ymin>{bottom!r}</ymin>
      <xmax>{right!r}</xmax>
      <ymax>{top!r}</ymax>
    </extent>
    <rotation>0</rotation>
    <destinationsrs>
{crs}
    </destinationsrs>
  </mapcanvas>
  <projectlayers>
{maps}
  </projectlayers>
  <layerorder>
{order}
  </layerorder>
  <properties>
    <Paths>
      <Absolute type="bool">false</Absolute>
    </Paths>
    <SpatialRefSys>
      <ProjectionsEnabled type="int">1</ProjectionsEnabled>
    </SpatialRefSys>
  </properties>
</qgis>
"""


def _id(i: int, layer: _ProjectLayer) -> str:
    word = "".join(c if c.isalnum() else "_" for c in layer.name)
    return f"{word}_landslip_{i:03d}"  # QGIS gives layers whose id is short another one


def _group(name: str, members: Sequence[tuple[int, _ProjectLayer]]) -> str:
    rows = "\n".join(
        f'      <layer-tree-layer id="{_id(i, layer)}" name={quoteattr(layer.name)} '
        f'checked="{"Qt::Checked" if layer.shown else "Qt::Unchecked"}" expanded="0" '
        f'providerKey="{"ogr" if layer.shape else "gdal"}" source={quoteattr(layer.source)}/>'
        for i, layer in members
    )
    opened = int(name in ("Landslides", "Map"))
    head = f'    <layer-tree-group name="{name}" checked="Qt::Checked" expanded="{opened}">'
    return f"{head}\n{rows}\n    </layer-tree-group>"


def _map_layer(i: int, layer: _ProjectLayer, crs: str) -> str:
    kind = "vector" if layer.shape else "raster"
    plain = layer.shape.removeprefix("Multi").replace("LineString", "Line")
    shape = f' geometry="{plain}" wkbType="{layer.shape}"' if layer.shape else ""
    look = layer.renderer if layer.shape else f" <pipe>\n{layer.renderer}\n </pipe>"
    encoding = ' encoding="UTF-8"' if layer.shape else ""
    return f"""    <maplayer type="{kind}"{shape} autoRefreshEnabled="0">
      <id>{_id(i, layer)}</id>
      <datasource>{escape(layer.source)}</datasource>
      <layername>{escape(layer.name)}</layername>
      <srs>
{_crs(layer.crs) if layer.crs is not None else crs}
      </srs>
      <provider{encoding}>{"ogr" if layer.shape else "gdal"}</provider>
{look}
      <blendMode>0</blendMode>
    </maplayer>"""


def _crs(crs: CRS) -> str:
    code = crs.to_epsg()
    authority = f"<authid>EPSG:{code}</authid>" if code else "<authid></authid>"
    return f'    <spatialrefsys nativeFormat="Wkt"><wkt>{escape(crs.to_wkt())}</wkt>{authority}</spatialrefsys>'
