"""A QGIS project file: layers in groups, as QGIS 3.22 and later read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from rasterio.crs import CRS

from landslip.geo.grid import Grid
from landslip.plots.qgis_style import HEAD


@dataclass(frozen=True, kw_only=True)
class ProjectLayer:
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


def project_file(title: str, grid: Grid, layers: Sequence[ProjectLayer]) -> str:
    """The project file, as QGIS 3.22 writes it."""
    crs = _crs(grid.crs)
    left, bottom, right, top = grid.bounds
    groups = list(dict.fromkeys(layer.group for layer in layers))
    numbered = list(enumerate(layers))
    tree = "\n".join(_group(group, [(i, one) for i, one in numbered if one.group == group]) for group in groups)
    maps = "\n".join(_map_layer(i, layer, crs) for i, layer in numbered)
    order = "\n".join(f'    <layer id="{_id(i, layer)}"/>' for i, layer in numbered)
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


def _id(i: int, layer: ProjectLayer) -> str:
    word = "".join(c if c.isalnum() else "_" for c in layer.name)
    return f"{word}_landslip_{i:03d}"  # QGIS gives a layer another id where its own is short.


def _group(name: str, members: Sequence[tuple[int, ProjectLayer]]) -> str:
    rows = "\n".join(
        f'      <layer-tree-layer id="{_id(i, layer)}" name={quoteattr(layer.name)} '
        f'checked="{"Qt::Checked" if layer.shown else "Qt::Unchecked"}" expanded="0" '
        f'providerKey="{"ogr" if layer.shape else "gdal"}" source={quoteattr(layer.source)}/>'
        for i, layer in members
    )
    opened = int(name in ("Landslides", "Map"))
    head = f'    <layer-tree-group name="{name}" checked="Qt::Checked" expanded="{opened}">'
    return f"{head}\n{rows}\n    </layer-tree-group>"


def _map_layer(i: int, layer: ProjectLayer, crs: str) -> str:
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
