"""`landslip qgis`: one project file that opens every layer of a run in QGIS, styled and in groups.

Sources are relative to the project, so that the run folder can be moved or zipped with it. The elements are those that
QGIS 3.22 and later read; `tests/test_qgis.py` opens the project with QGIS itself where it is installed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from rasterio.crs import CRS

from landslip.errors import OutputError
from landslip.folder import RunFolder, open_run
from landslip.grid import Grid
from landslip.output import refuse_existing, write_text
from landslip.raster import PROBABILITY, glance, read_info, stretch
from landslip.review import LAYER, REVIEWS
from landslip.split import TEST, TRAIN, VALIDATION
from landslip.stack import Channel, read_stack_info
from landslip.style import (
    CLASSES,
    COLOURS,
    FALSE_COLOUR,
    HEAD,
    TRUE_COLOUR,
    classes_renderer,
    colours_renderer,
    gray_renderer,
    inventory_renderer,
    ramp_renderer,
    review_renderer,
)
from landslip.vector import layers

SEEN = 512  # pixels a side that a stretch is taken from
LABEL_COLOURS = {0: (225, 225, 225, 255), 1: (0, 114, 178, 255)}
PART_NAMES = {TRAIN: "training", VALIDATION: "validation", TEST: "test"}
PART_COLOURS = {TRAIN: (0, 114, 178, 255), VALIDATION: (230, 159, 0, 255), TEST: (204, 121, 167, 255)}
PICTURES = {"true colour": TRUE_COLOUR, "false colour": FALSE_COLOUR}


@dataclass(frozen=True)
class _Layer:
    """A layer of the project: its group, name and source, its renderer, and whether it is shown at first."""

    group: str
    name: str
    source: str
    renderer: str
    shown: bool = False
    raster: bool = True


def write_project(root: Path, out: Path | None = None, overwrite: bool = False) -> Path:
    """Write the QGIS project of a run folder (default: RUN/landslip.qgs) and return its path.

    Raises OutputError for what is no run folder or holds nothing to show, or where the project exists.
    """
    run = open_run(root)
    out = root / "landslip.qgs" if out is None else out
    if out.suffix.lower() != ".qgs":
        raise OutputError(f"{out} would hold a QGIS project: give it a name that ends in .qgs.")
    refuse_existing(out, overwrite)
    shown = _layers(run, out.absolute().parent)
    first = next((path for path in (run.stack, run.probability, run.landslide_map) if path is not None), None)
    if not shown or first is None:
        raise OutputError(f"{root} holds no raster to show yet. Make one with `landslip prepare` or `landslip map`.")
    write_text(out, _project(root.resolve().name, read_info(first).grid, shown), overwrite)
    return out


def _layers(run: RunFolder, home: Path) -> list[_Layer]:
    """Layers from the top of the legend down."""

    def source(path: Path) -> str:
        return Path(os.path.relpath(path.absolute(), home)).as_posix()

    found: list[_Layer] = []
    if run.inventory is not None:
        names = layers(run.inventory)
        file = source(run.inventory)
        if REVIEWS in names:
            found.append(_Layer("Landslides", "review", f"{file}|layername={REVIEWS}", review_renderer(), True, False))
        if LAYER in names:
            found.append(
                _Layer("Landslides", "inventory", f"{file}|layername={LAYER}", inventory_renderer(), True, False)
            )
    if run.landslide_map is not None:
        found.append(_Layer("Map", "landslide map", source(run.landslide_map), classes_renderer(CLASSES, COLOURS)))
    if run.probability is not None:
        for band, name in enumerate(read_info(run.probability).names, start=1):
            top = 1.0 if name in (PROBABILITY, None) else max(_stretch(run.probability, band)[1], 1e-6)
            found.append(_Layer("Map", name or PROBABILITY, source(run.probability), ramp_renderer(band, 0, top)))
    if run.label is not None:
        names_of = {0: "no landslide", 1: "landslide"}
        found.append(_Layer("Ground", "label", source(run.label), classes_renderer(names_of, LABEL_COLOURS)))
    if run.split is not None:
        found.append(_Layer("Ground", "split", source(run.split), classes_renderer(PART_NAMES, PART_COLOURS)))
    if run.stack is not None:
        found += _stack_layers(run.stack, source(run.stack))
    return found


def _stack_layers(stack: Path, source: str) -> list[_Layer]:
    channels = read_stack_info(stack).channels
    at = {channel.name: band for band, channel in enumerate(channels, start=1)}
    found: list[_Layer] = []
    for name, wanted in PICTURES.items():
        if all(band in at for band in wanted):
            red, green, blue = (at[band] for band in wanted)
            ranges = tuple(_stretch(stack, band) for band in (red, green, blue))
            found.append(_Layer("Image", name, source, colours_renderer((red, green, blue), ranges), not found))
    bands = [channel for channel in channels if channel.group == "band"]
    if not found and bands:
        band = at[bands[0].name]
        found.append(_Layer("Image", bands[0].name, source, gray_renderer(band, *_stretch(stack, band)), True))
    for channel in channels:
        if channel.group == "factor":
            found.append(_Layer("Factors", _title(channel), source, _factor(stack, at[channel.name], channel)))
    return found


def _factor(stack: Path, band: int, channel: Channel) -> str:
    ends = (0.0, 1.0) if channel.kind == "class" else (-1.0, 1.0) if channel.kind in ("sine", "cosine") else None
    return ramp_renderer(band, *(ends or _stretch(stack, band)))


def _title(channel: Channel) -> str:
    name = channel.name.replace("_", " ")
    return f"{name} ({channel.unit})" if channel.unit else name


def _stretch(path: Path, band: int) -> tuple[float, float]:
    """The range that a band is stretched over, from a thinned one."""
    return stretch(glance(path, [band], SEEN)[0])


def _project(title: str, grid: Grid, shown: Sequence[_Layer]) -> str:
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


def _id(i: int, layer: _Layer) -> str:
    word = "".join(c if c.isalnum() else "_" for c in layer.name)
    return f"{word}_landslip_{i:03d}"  # QGIS gives layers whose id is short another one


def _group(name: str, members: Sequence[tuple[int, _Layer]]) -> str:
    rows = "\n".join(
        f'      <layer-tree-layer id="{_id(i, layer)}" name={quoteattr(layer.name)} '
        f'checked="{"Qt::Checked" if layer.shown else "Qt::Unchecked"}" expanded="0" '
        f'providerKey="{"gdal" if layer.raster else "ogr"}" source={quoteattr(layer.source)}/>'
        for i, layer in members
    )
    opened = int(name in ("Landslides", "Map"))
    head = f'    <layer-tree-group name="{name}" checked="Qt::Checked" expanded="{opened}">'
    return f"{head}\n{rows}\n    </layer-tree-group>"


def _map_layer(i: int, layer: _Layer, crs: str) -> str:
    kind = "raster" if layer.raster else "vector"
    shape = "" if layer.raster else ' geometry="Polygon" wkbType="MultiPolygon"'
    look = f" <pipe>\n{layer.renderer}\n </pipe>" if layer.raster else layer.renderer
    encoding = "" if layer.raster else ' encoding="UTF-8"'
    return f"""    <maplayer type="{kind}"{shape} autoRefreshEnabled="0">
      <id>{_id(i, layer)}</id>
      <datasource>{escape(layer.source)}</datasource>
      <layername>{escape(layer.name)}</layername>
      <srs>
{crs}
      </srs>
      <provider{encoding}>{"gdal" if layer.raster else "ogr"}</provider>
{look}
      <blendMode>0</blendMode>
    </maplayer>"""


def _crs(crs: CRS) -> str:
    code = crs.to_epsg()
    authority = f"<authid>EPSG:{code}</authid>" if code else "<authid></authid>"
    return f'    <spatialrefsys nativeFormat="Wkt"><wkt>{escape(crs.to_wkt())}</wkt>{authority}</spatialrefsys>'
