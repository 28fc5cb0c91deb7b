"""Virtual rasters, written as text: a raster repeated until it is large, or a part of one. Nothing is copied."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

from landslip.geo.grid import Grid, Window
from landslip.geo.raster import RasterInfo, read_info

TYPES = {"float32": "Float32", "uint8": "Byte"}


def repeated(source: Path, out: Path, megapixels: float) -> Path:
    """Write a square raster of so many megapixels that holds `source` again and again."""
    info = read_info(source)
    side = round((megapixels * 1e6) ** 0.5)
    parts = []
    for row in range(0, side, info.height):
        for column in range(0, side, info.width):
            height, width = min(info.height, side - row), min(info.width, side - column)
            parts.append((Window(0, 0, height, width), Window(row, column, height, width)))
    return _write(info, out, Grid(info.grid.crs, info.transform, side, side), parts)


def crop(source: Path, out: Path, window: Window) -> Path:
    """Write the part of a raster at a window."""
    info = read_info(source)
    return _write(info, out, info.grid.crop(window), [(window, Window(0, 0, window.height, window.width))])


def _write(info: RasterInfo, out: Path, grid: Grid, parts: list[tuple[Window, Window]]) -> Path:
    transform = ", ".join(repr(float(value)) for value in grid.transform.to_gdal())
    lines = [
        f'<VRTDataset rasterXSize="{grid.width}" rasterYSize="{grid.height}">',
        f"<SRS>{escape(grid.crs.to_wkt())}</SRS><GeoTransform>{transform}</GeoTransform>",
    ]
    name = escape(str(info.path.resolve()))
    for band in range(1, info.count + 1):
        lines.append(f'<VRTRasterBand dataType="{TYPES[info.dtypes[band - 1]]}" band="{band}">')
        lines.append(f"<Description>{escape(str(info.names[band - 1]))}</Description>")
        nodata = info.nodata[band - 1]
        lines += [] if nodata is None else [f"<NoDataValue>{nodata}</NoDataValue>"]
        for of, at in parts:
            lines.append(
                f"<SimpleSource><SourceFilename>{name}</SourceFilename><SourceBand>{band}</SourceBand>"
                f"<SrcRect {_rectangle(of)}/><DstRect {_rectangle(at)}/></SimpleSource>"
            )
        lines.append("</VRTRasterBand>")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join([*lines, "</VRTDataset>"]), encoding="utf-8")
    return out


def _rectangle(window: Window) -> str:
    return f'xOff="{window.column}" yOff="{window.row}" xSize="{window.width}" ySize="{window.height}"'
