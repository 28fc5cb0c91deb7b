"""The one module that reads vector files: features in a CRS, and the layers of a file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import geopandas as gpd
import shapely
from pyogrio.errors import DataLayerError
from pyproj import CRS as ProjCRS
from rasterio.crs import CRS
from rasterio.warp import transform_bounds

from landslip.errors import LandslipError, VectorError
from landslip.geo.archive import START, archive_of, gdal_name, lack
from landslip.geo.grid import looks_like_degrees
from landslip.runtime.disk import is_stream
from landslip.runtime.run_folder import folder_given

VECTOR_SUFFIXES = (".gpkg", ".shp", ".geojson", ".json", ".fgb", ".parquet")
GEOPARQUET = (".parquet", ".geoparquet")


def read_vector(
    path: Path,
    layer: str | None = None,
    crs: CRS | None = None,
    bounds: tuple[float, float, float, float] | None = None,
    stated: str | None = None,
) -> gpd.GeoDataFrame:
    """Read the features of a layer, in `crs` where given, and of these the ones that touch `bounds` (in `crs`).

    Without `layer` it is the first that has geometries; `stated` is the CRS of a file that carries none. Raises
    VectorError for a missing or unreadable file, an unknown layer, no CRS, or one other than stated.
    """
    if archive_of(path) is None and not path.exists():
        raise VectorError(f"{path} does not exist. {START}")
    if is_stream(path):
        raise VectorError(f"{path} is a pipe or a device, not a file. Write it to a file first.")
    with name_in_errors(path):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if is_geoparquet(path):
                    frame = _read_geoparquet(path, layer, crs, bounds)
                else:
                    layer = layer or next(iter(layer_names(path, spatial=True)), None)
                    box = _bounds_in_file(path, layer, crs, bounds, stated)
                    frame = gpd.read_file(_source(path), layer=layer, bbox=box, fid_as_index=True)
        except DataLayerError as error:
            raise VectorError(
                f"{path} has no layer {layer!r}; its layers are {', '.join(layer_names(path))}."
            ) from error
    if not isinstance(frame, gpd.GeoDataFrame):
        raise VectorError(f"{path} holds a table without geometries. Give a layer that has them.")
    frame = _with_crs(frame, path, stated)
    with name_in_errors(path):
        frame = frame[~(frame.geometry.is_empty | frame.geometry.isna())]
        frame = frame.set_geometry(shapely.force_2d(frame.geometry.values))
        return frame if crs is None else frame.to_crs(crs.to_wkt())


def layer_names(path: Path, spatial: bool = False) -> list[str]:
    """Names of a vector file's layers, `spatial` ones or tables without geometry too; VectorError where it is none."""
    import pyogrio

    if is_geoparquet(path):
        return [path.stem]
    with name_in_errors(path):
        layers = pyogrio.list_layers(_source(path))
        return [str(name) for name, geometry in layers if geometry is not None or not spatial]


def layer_facts(path: Path, layer: str | None = None) -> tuple[str, str, CRS | None]:
    """The name, kind of geometry ("Polygon", "MultiLineString" ...) and CRS of a layer; of the first with geometries.

    Raises VectorError for what is no vector file, and where it has no such layer.
    """
    import pyogrio

    with name_in_errors(path):
        kinds = {str(name): str(kind) for name, kind in pyogrio.list_layers(_source(path)) if kind is not None}
    name = layer or next(iter(kinds), "")
    if name not in kinds:
        raise VectorError(f"{path} has no layer {name!r} of geometries; its layers are {', '.join(layer_names(path))}.")
    with name_in_errors(path):
        crs = pyogrio.read_info(_source(path), layer=name)["crs"]
        return name, kinds[name].split(" ")[0].removesuffix("Z"), CRS.from_user_input(crs) if crs else None


def is_geoparquet(path: Path) -> bool:
    """Whether the name is that of a GeoParquet file, which GDAL reads only where it was built with Arrow."""
    return path.suffix.lower() in GEOPARQUET


@contextmanager
def name_in_errors(path: Path) -> Iterator[None]:
    """Name the file in whatever error a damaged one raises: GDAL, GEOS, PROJ and pandas have errors of their own."""
    try:
        yield
    except (LandslipError, MemoryError):
        raise
    except Exception as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> VectorError:
    """The error for a file that cannot be read as a vector file, with the reason in a few words."""
    wrong = lack(path) or (folder_given(path, VECTOR_SUFFIXES) if path.is_dir() else "")
    if wrong:
        return VectorError(wrong)
    reason = " ".join(str(error).split(";")[0].split())[:200]
    return VectorError(
        f"{path} cannot be read as a vector file ({reason}): it is truncated, damaged or "
        "not a vector file. Fetch or make it again."
    )


def _with_crs(frame: gpd.GeoDataFrame, path: Path, stated: str | None) -> gpd.GeoDataFrame:
    """Features in the CRS that their file carries, else in the one that was stated."""
    if frame.crs is None and stated is not None:
        return frame.set_crs(stated)
    if frame.crs is None:
        left, bottom, right, top = bounds = frame.total_bounds
        looks = f" Its numbers (x {left:g} to {right:g}, y {bottom:g} to {top:g}) look like degrees: EPSG:4326, say."
        raise VectorError(
            f"{path} has no CRS.{looks if looks_like_degrees(bounds) else ''} Assign one: a .prj file beside a "
            'shapefile, or crs = "EPSG:..." with the path in a site file.'
        )
    if stated is not None and not frame.crs.equals(ProjCRS.from_user_input(stated), ignore_axis_order=True):
        raise VectorError(
            f"{path} carries the CRS {frame.crs.name}, and crs = {stated!r} says another: it is for files that carry "
            "none. Leave it out, or mend the file's own."
        )
    return frame


def _source(path: Path) -> Path | str:
    """What GDAL is asked for: a file as it is, one in an archive by GDAL's name."""
    return path if archive_of(path) is None else gdal_name(path)


def _read_geoparquet(
    path: Path, layer: str | None, crs: CRS | None, bounds: tuple[float, float, float, float] | None
) -> gpd.GeoDataFrame:
    """The features of a GeoParquet file, in its own CRS, that touch `bounds` (in `crs`)."""
    if layer is not None and layer != path.stem:
        raise VectorError(f"{path} has no layer {layer!r}: a GeoParquet file has one, {path.stem}. Leave it out.")
    if archive_of(path) is not None:
        raise VectorError(f"{path}: GeoParquet is not read from inside an archive. Unpack it first.")
    frame = gpd.read_parquet(path)
    if frame.crs is not None and crs is not None and bounds is not None:
        box = transform_bounds(crs, CRS.from_user_input(frame.crs), *bounds, densify_pts=41)
        frame = frame[frame.intersects(shapely.box(*box))]
    return frame


def _bounds_in_file(
    path: Path,
    layer: str | None,
    crs: CRS | None,
    bounds: tuple[float, float, float, float] | None,
    stated: str | None,
) -> tuple[float, float, float, float] | None:
    """The bounds, given in `crs`, in the CRS of the file; None where there are none or nobody knows one of the CRSs."""
    if bounds is None or crs is None:
        return None
    import pyogrio

    file_crs = pyogrio.read_info(_source(path), layer=layer)["crs"] or stated
    if not file_crs:
        return None
    left, bottom, right, top = transform_bounds(crs, CRS.from_user_input(file_crs), *bounds, densify_pts=41)
    return left, bottom, right, top
