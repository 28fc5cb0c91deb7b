"""The images of a site, brought to a grid: bands scaled once, clouds undefined or filled from another scene.

The value at a pixel does not depend on which part of the site's grid is asked for, because that of `geo.warp` does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from landslip.config.site_tables import ROLES, ImageTable
from landslip.errors import SiteError
from landslip.geo.grid import Grid, Window, crs_name
from landslip.geo.raster import read
from landslip.geo.warp import MOST_AT_ONCE, how_resampled, in_quarters, lies_on, needed_window, warp, warp_array
from landslip.preparation.site_grid import sharpens
from landslip.preparation.site_inputs import SiteImage, fill_groups
from landslip.scenes.pansharpen import FINE_REACH, GAIN_REACH, SHARPENED, sharpen, upsample
from landslip.scenes.scene import Band, Quality, Scene

Bands = dict[str, NDArray[np.float32]]
Masks = dict[Grid, tuple[NDArray[np.bool_], NDArray[np.uint16]]]

LEAST_UNDEFINED = 1e-6  # share of undefined ground that rounding alone may put into a pixel
PAN_APART = 1e-3  # of a pixel: band 8 may lie so far from where the other bands put it


class ImageBands(NamedTuple):
    """Bands by name, (H, W) float32, NaN where undefined: as the stack has them, and as they were before sharpening.

    Indices are taken from the `plain` ones. A band that is not sharpened is one array in both.
    """

    sharp: Bands
    plain: Bands


def read_images(images: Sequence[SiteImage], grid: Grid) -> Bands:
    """Bands by name on `grid`, each (H, W) float32 with NaN where undefined.

    Roles come first, in order of wavelength. Values are stored x scale + offset. Where bundles give the same bands, a
    pixel is taken whole from the first of them that is defined there in every band. Raises SiteError for bundles of one
    image in different CRSs or units.
    """
    return read_with_plain(images, grid).sharp


def read_with_plain(images: Sequence[SiteImage], grid: Grid) -> ImageBands:
    """The bands as `read_images` gives them, and the same before pan-sharpening."""
    bands = ImageBands({}, {})
    for group in fill_groups(images):
        require_alike(group)
        first, *others = (_of_image(image, grid) for image in group)
        for other in others:
            first = _filled(first, other)
        bands.sharp.update(first.sharp)
        bands.plain.update(first.plain)
    names = band_names(images)
    return ImageBands(*({name: values[name] for name in names} for values in bands))


def band_names(images: Sequence[SiteImage]) -> list[str]:
    """The names of all bands in the order that they are read in."""
    names = list(dict.fromkeys(name for image in images for name in image.table.bands))
    return [role for role in ROLES if role in names] + [name for name in names if name not in ROLES]


def only(images: Sequence[SiteImage], names: Sequence[str]) -> list[SiteImage]:
    """The images that hold bands of these names, without their other bands, which then need not be read.

    Bundles keep all: whether the next scene fills a pixel depends on all bands, so that values would differ else.
    """
    chosen = []
    for image in images:
        bands = {name: band for name, band in image.table.bands.items() if name in names}
        if not bands:
            continue
        if image.table.bundle is None:
            image = image.with_table(bands=bands)
            scene = image.scene
            if scene is not None:
                kept = {name: band for name, band in scene.bands.items() if name in names}
                image = replace(image, scene=replace(scene, bands=kept))
        chosen.append(image)
    return chosen


def unit_of(images: Sequence[SiteImage], name: str) -> str:
    """The unit of a band, by which a model refuses values of another scale.

    It is what a bundle's metadata makes of the values, or what the site states as `unit`. Else it is "reflectance"
    where the site scales the values or gives both `scale` and `offset`, even as 1 and 0, which says that stored x
    scale + offset is reflectance. Else it is "stored".
    """
    image = next(image for image in images if name in image.table.bands)
    if image.scene is not None and image.scene.unit:
        return image.scene.unit
    table = image.table
    scaled = table.scale != 1 or table.offset != 0 or {"scale", "offset"} <= table.model_fields_set
    return table.unit or ("reflectance" if scaled else "stored")


class BandFacts(TypedDict):
    """A band as manifest.json holds it: its number in an image that is one file, or its own file."""

    band: NotRequired[int]
    file: NotRequired[str]
    scale: float
    offset: float
    unit: str


class ImageFacts(TypedDict):
    """An image as manifest.json holds it; `undefined` says what of a bundle's quality raster is undefined."""

    scene: str
    date: str | None
    undefined: NotRequired[list[str]]
    bands: dict[str, BandFacts]


def describe_images(images: Sequence[SiteImage]) -> list[ImageFacts]:
    """What manifest.json says of every image: where it is from, and the scaling that was applied to each band."""
    rows: list[ImageFacts] = []
    for image in images:
        table, scene = image.table, image.scene
        date, units = str(table.date) if table.date else None, {name: unit_of([image], name) for name in table.bands}
        if scene is None:
            bands = {
                name: BandFacts(band=number, scale=table.scale, offset=table.offset, unit=units[name])
                for name, number in table.bands.items()
            }
            rows.append(ImageFacts(scene=table.scene, date=date, bands=bands))
        else:
            masks = ["fill", *table.mask, *(["saturated"] if table.saturation else [])]
            bands = {
                name: BandFacts(file=band.path.name, scale=band.scale, offset=band.offset, unit=units[name])
                for name, band in scene.bands.items()
            }
            undefined = masks if table.bundle else []
            rows.append(ImageFacts(scene=table.scene, date=date, undefined=undefined, bands=bands))
    return rows


def describe_resampling(images: Sequence[SiteImage], grid: Grid, sharpened: bool = True) -> dict[str, str]:
    """How the rasters of images are brought to the grid, by file name; not `sharpened` for indices."""
    resampling: dict[str, str] = {}
    for image in images:
        scene = image.scene
        if scene is None:
            (path,) = image.files
            resampling[path.name] = how_resampled(path, grid, "bilinear")
            continue
        pan = _sharpening_pan(image, scene, grid)
        for name, band in scene.bands.items():
            if pan is None:
                resampling[band.path.name] = how_resampled(band.path, grid, "bilinear")
                continue
            steps = ["bilinear to band 8's pixels"]
            steps += ["sharpened with band 8"] if sharpened and name in SHARPENED else []
            steps += [] if lies_on(pan.path, grid) else ["bilinear"]
            resampling[band.path.name] = ", ".join(steps)
        if pan is not None and sharpened:
            resampling[pan.path.name] = how_resampled(pan.path, grid, "bilinear")
        masks = (scene.quality.path if scene.quality else None, scene.saturation)
        resampling |= {path.name: "nearest to the bands' pixels" for path in masks if path is not None}
    return resampling


def require_alike(group: Sequence[SiteImage]) -> None:
    """Raise SiteError for scenes that are to fill each other and lie in different UTM zones or differ in unit."""
    for image in group[1:]:
        first, other = group[0].scene, image.scene
        if first is None or other is None:
            continue
        if first.unit != other.unit:
            raise SiteError(
                f"{first.origin} is {first.unit} and {other.origin} {other.unit}: they cannot fill each other. "
                "Give bundles of one level."
            )
        zones = [image.grid_of(scene.first_raster).crs for image, scene in ((group[0], first), (image, other))]
        if zones[0] != zones[1]:
            raise SiteError(
                f"{first.origin} is in {crs_name(zones[0])} and {other.origin} in {crs_name(zones[1])}: scenes of "
                "different zones cannot fill each other. Give scenes of one zone, or warp one first "
                "(`rio warp --dst-crs`) and give it as a GeoTIFF."
            )


def quality_on(quality: Quality, grid: Grid) -> NDArray[np.float32]:
    """The stored codes of a quality raster on `grid`, (H, W), nearest, NaN where undefined."""
    return np.asarray(warp(quality.path, grid, [1], "nearest")[0])


def _filled(first: ImageBands, second: ImageBands) -> ImageBands:
    """The bands of a first scene, with all of a second's at pixels where only the second has every band."""
    taken = _incomplete(first) & ~_incomplete(second)
    return ImageBands(
        *(
            {name: np.where(taken, of_second[name], values) for name, values in of_first.items()}
            for of_first, of_second in zip(first, second, strict=True)
        )
    )


def _incomplete(bands: ImageBands) -> NDArray[np.bool_]:
    """(H, W) bool: where some band is undefined."""
    sharpened = [name for name in SHARPENED if name in bands.sharp]
    planes = [*bands.plain.values(), *(bands.sharp[name] for name in sharpened)]
    return np.asarray(np.any([np.isnan(values) for values in planes], axis=0))


def _of_image(image: SiteImage, grid: Grid) -> ImageBands:
    """The bands of an image on `grid`."""
    if image.scene is not None:
        return _of_scene(image, image.scene, grid)
    (path,), table = image.files, image.table
    values = warp(path, grid, list(table.bands.values()), "bilinear", table.nodata)
    scale, offset = np.float32(table.scale), np.float32(table.offset)
    bands = {name: band * scale + offset for name, band in zip(table.bands, values, strict=True)}
    return ImageBands(bands, bands)


def _of_scene(image: SiteImage, scene: Scene, grid: Grid) -> ImageBands:
    """The bands of a scene on `grid`; undefined where a pixel that would have had any weight is undefined or masked."""
    pan = _sharpening_pan(image, scene, grid)
    if pan is not None:
        return _through_pan(image, scene, pan, grid)
    bands = _unsharpened(image, scene, grid)
    return ImageBands(bands, bands)


def _unsharpened(image: SiteImage, scene: Scene, grid: Grid) -> Bands:
    """The bands of a scene on `grid`, each resampled from its own pixels."""
    parts: dict[str, Grid] = {}
    for name, band in scene.bands.items():
        native = image.grid_of(band.path)
        parts[name] = native.crop(needed_window(native, grid).clip(native.shape))
    if max(part.height * part.width for part in parts.values()) > MOST_AT_ONCE and max(grid.shape) > 1:

        def quarter(window: Window) -> NDArray[np.float32]:
            return np.stack(list(_unsharpened(image, scene, grid.crop(window)).values()))

        return dict(zip(parts, in_quarters(quarter, grid.shape), strict=True))
    masks: Masks = {}
    return {
        name: _onto(_usable(image, scene, band, parts[name], masks), parts[name], grid)
        for name, band in scene.bands.items()
    }


def _usable(image: SiteImage, scene: Scene, band: Band, part: Grid, masks: Masks) -> NDArray[np.float32]:
    """A band, scaled, on a part of its own grid, (H, W), with NaN for fill, masked and saturated pixels.

    What is read of quality and saturation on that part goes into `masks`, for the scene's next band.
    """
    native = image.grid_of(band.path)
    stored = read(band.path, [band.number], _window_of(part, native), band.nodata)[0]
    values: NDArray[np.float32] = stored * np.float32(band.scale) + np.float32(band.offset)
    if part not in masks:
        masks[part] = _masks(image.table, scene, part)
    unusable, saturated = masks[part]
    values[unusable] = np.nan
    if band.saturated is not None:
        values[(saturated >> np.uint16(band.saturated)) & np.uint16(1) == 1] = np.nan
    return values


def _masks(table: ImageTable, scene: Scene, part: Grid) -> tuple[NDArray[np.bool_], NDArray[np.uint16]]:
    """(unusable, bits of saturation), each (H, W), of a scene on a part of a band's grid."""
    unusable, saturated = np.zeros(part.shape, bool), np.zeros(part.shape, np.uint16)
    if scene.quality is not None:
        unusable = scene.quality.unusable(quality_on(scene.quality, part), table.mask, table.saturation)
    if scene.saturation is not None:
        saturated = np.nan_to_num(warp(scene.saturation, part, [1], "nearest")[0]).astype(np.uint16)
    return unusable, saturated


def _window_of(part: Grid, native: Grid) -> Window:
    """The window of a grid that a part of it takes."""
    row = round((native.transform.f - part.transform.f) / native.y_size)
    column = round((part.transform.c - native.transform.c) / native.x_size)
    return Window(row, column, *part.shape)


def _onto(values: NDArray[np.float32], part: Grid, grid: Grid) -> NDArray[np.float32]:
    """Values (h, w) on `part`, brought to `grid`: bilinear, undefined where an undefined pixel has any weight."""
    out = warp_array(values[None], part, grid)[0]
    lacking = np.isnan(values)
    if lacking.any() and not lacking.all():
        out[warp_array(lacking[None].astype(np.float32), part, grid)[0] > LEAST_UNDEFINED] = np.nan
    return np.asarray(out)


def _sharpening_pan(image: SiteImage, scene: Scene, grid: Grid) -> Band | None:
    """Band 8 where it sharpens others on `grid`; None where pixels as large as the bands' own have no use for it."""
    if not sharpens(image.table, scene):
        return None
    coarse = image.grid_of(scene.first_raster).x_size
    return scene.pan if min(grid.x_size, grid.y_size) < coarse * (1 - PAN_APART) else None


def _through_pan(image: SiteImage, scene: Scene, pan: Band, grid: Grid) -> ImageBands:
    """All bands on band 8's pixels, green and red sharpened too, and from there on `grid`, mostly band 8's own."""
    fine = image.grid_of(pan.path)
    window = needed_window(fine, grid).clip(fine.shape)
    if window.height == 0 or window.width == 0:
        bands = {name: np.full(grid.shape, np.nan, np.float32) for name in scene.bands}
        return ImageBands(bands, bands)
    part = fine.crop(window)
    coarse = image.grid_of(scene.first_raster)
    first_row, first_column = _positions(scene, fine, coarse)
    # Positions are counted in half coarse pixels: the coarse pixel k lies at 2 k. First the window in positions, then
    # the coarse pixels around it, then its place among the positions between those.
    top, left = window.row + first_row, window.column + first_column
    row, column = top // 2, left // 2
    height = -(-(top + window.height - 1) // 2) - row + 1
    width = -(-(left + window.width - 1) // 2) - column + 1
    inner = np.s_[top - 2 * row : top - 2 * row + window.height, left - 2 * column : left - 2 * column + window.width]
    around = coarse.crop(Window(row - GAIN_REACH, column - GAIN_REACH, height + 2 * GAIN_REACH, width + 2 * GAIN_REACH))
    panchromatic = _read_pan(
        pan,
        Window(
            2 * row - first_row - FINE_REACH,
            2 * column - first_column - FINE_REACH,
            2 * height - 1 + 2 * FINE_REACH,
            2 * width - 1 + 2 * FINE_REACH,
        ),
    )
    plain: Bands = {}
    sharp: Bands = {}
    masks: Masks = {}
    for name, band in scene.bands.items():
        values = _usable(image, scene, band, around, masks)
        plain[name] = _onto(upsample(values[GAIN_REACH:-GAIN_REACH, GAIN_REACH:-GAIN_REACH])[inner], part, grid)
        sharp[name] = _onto(sharpen(values, panchromatic)[inner], part, grid) if name in SHARPENED else plain[name]
    return ImageBands(sharp, plain)


def _read_pan(pan: Band, window: Window) -> NDArray[np.float32]:
    """Band 8, scaled, at a window of its own grid, (h, w)."""
    stored = read(pan.path, [pan.number], window, pan.nodata)[0]
    scaled: NDArray[np.float32] = stored * np.float32(pan.scale) + np.float32(pan.offset)
    return scaled


def _positions(scene: Scene, fine: Grid, coarse: Grid) -> tuple[int, int]:
    """Position of band 8's first row and column, in half coarse pixels from the centre of the first coarse pixel."""
    half_x, half_y = coarse.x_size / 2, coarse.y_size / 2
    right = (fine.transform.c + fine.x_size / 2 - coarse.transform.c - coarse.x_size / 2) / half_x
    down = (coarse.transform.f - coarse.y_size / 2 - fine.transform.f + fine.y_size / 2) / half_y
    fits = (
        abs(fine.x_size / half_x - 1) < PAN_APART / fine.width
        and abs(fine.y_size / half_y - 1) < PAN_APART / fine.height
    )
    if (
        fine.crs != coarse.crs
        or not fits
        or abs(right - round(right)) > PAN_APART
        or abs(down - round(down)) > PAN_APART
    ):
        raise SiteError(
            f"{scene.origin}: the pixel centres of band 8 ({fine.describe()}) do not lie on and half-way between those "
            f"of the other bands ({coarse.describe()}). pansharpen = false does without."
        )
    return round(down), round(right)
