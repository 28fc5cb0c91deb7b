"""Are a site's numbers such as ground has? What `landslip check` says of reflectance, bands and elevation.

Nothing here is a fault of a file: snow, open water, deserts and other planets have numbers of their own, so that each
doubt is a warning that names file, value and remedy. A DEM that says itself that it is in feet is the one exception.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landslip.config.site import Site, one_image
from landslip.config.site_tables import ROLES, DemTable, ImageTable
from landslip.errors import SiteError
from landslip.factors.indices import mndwi, ndvi
from landslip.factors.terrain import surfaces
from landslip.geo.grid import Grid, Window, tiles
from landslip.geo.raster import read_info
from landslip.preparation.coregistration import evenly
from landslip.preparation.findings import Finding
from landslip.preparation.ground import Inside
from landslip.preparation.images import band_names, read_images, unit_of
from landslip.preparation.terrain_sources import dem_grid, read_dem
from landslip.runtime.parallel import parallel_map

Float32 = NDArray[np.float32]

SIDE, MOST_WINDOWS = 512, 64  # of the windows that are looked at: all of a site up to 16 million pixels
SAMPLED = 4096  # pixels of each that medians are taken of
DARKEST = 0.01  # median reflectance of the brightest band; dark forest has 0.2 in the near infrared, clear water 0.02
BRIGHTEST = 1.2  # median reflectance of any band; snow has 0.99 and thick cloud 1.04 in the coastal band
LEAST_LAND = 0.1  # of the ground: where less is land, its NDVI says nothing of the bands
BRIGHT, DAZZLING = 0.1, 0.5  # reflectance of land where only red and near infrared are there; water less, snow more
DOUBTFUL_NDVI = -0.05  # median on land; bare rock comes near 0
DOUBTFUL_WITHOUT_SWIR = -0.1  # where muddy water and snow in shadow may pass for land
MANY = 0.01  # of the pixels with reflectance below 0 that a warning is worth; above 1 is snow's and does no harm
STEEP, STEEP_SHARE = 50.0, 0.1  # degrees; the steepest mountains at hand have 49 where a tenth is steeper
FINEST_DEM = 5.0  # metres: below that walls and boulders are steep
DEM_WINDOW, MOST_DEM_WINDOWS = 256, 16
# metres in a unit, as GDAL's drivers write it
METRES = {
    **dict.fromkeys(("m", "metre", "metres", "meter", "meters"), 1.0),
    **dict.fromkeys(("ft", "foot", "feet", "international foot"), 0.3048),
    **dict.fromkeys(("us-ft", "ftus", "us survey foot", "us_survey_foot", "foot_us"), 1200 / 3937),
    **dict.fromkeys(("km", "kilometre", "kilometer"), 1000.0),
    **dict.fromkeys(("dm", "decimetre", "decimeter"), 0.1),
    **dict.fromkeys(("cm", "centimetre", "centimeter"), 0.01),
}  # fmt: skip


@dataclass(frozen=True)
class _Look:
    """Of the image inside the outline: pixels that have a value, reflectance below 0 or above 1, no index; a sample.

    `below` and `above` are by band; `any_below` and `any_above` count pixels. `sample` is (bands, pixels).
    """

    ground: int
    below: NDArray[np.int64]
    above: NDArray[np.int64]
    any_below: int
    any_above: int
    lost: int
    sample: Float32


def doubts(site: Site, grid: Grid, inside: Inside) -> Iterator[Finding]:
    """What is doubtful about the numbers of a site's images and DEM; nothing where all is well.

    Raises what reading them raises.
    """
    for images in (*one_image(site.image), *one_image(site.before)):
        yield from _of_image(images, grid, inside)
    if site.dem is not None:
        yield from _of_relief(site.dem, grid)


def require_metres(dem: DemTable) -> Finding | None:
    """A warning for a DEM in a unit that nobody here knows; SiteError for one in feet, say, that no `scale` is given.

    A unit is never assumed to be right or wrong: the site file's `scale` decides, and 1 where the tag is wrong.
    """
    unit = next(iter(read_info(dem.path).units), None)
    if unit is None or not unit.strip() or "scale" in dem.model_fields_set:
        return None
    metres = METRES.get(unit.strip().lower())
    if metres is None:
        return Finding(
            "warning",
            f"{dem.path} says that its unit is {unit!r}, and is taken as metres. Give [dem] scale, the metres in one "
            "of them; 1 where they are metres.",
        )
    if metres != 1:
        raise SiteError(
            f"{dem.path} says that its elevation is in {unit}, and slopes need metres. Give [dem] scale = "
            f"{metres:.8g}, or scale = 1 where the file is wrong about itself."
        )
    return None


def _of_image(images: Sequence[ImageTable], grid: Grid, inside: Inside) -> Iterator[Finding]:
    # 15 m pixels are of no use here, and sharpening takes long
    plain = [image.model_copy(update={"pansharpen": False}) if image.bundle else image for image in images]
    windows = evenly(list(tiles(grid.shape, SIDE)), MOST_WINDOWS)
    looks = list(parallel_map(lambda window: _look(plain, grid, window, inside), windows))
    names = band_names(plain)
    sample = dict(zip(names, np.concatenate([look.sample for look in looks], axis=1), strict=True))
    medians = {name: float(np.nanmedian(values)) for name, values in sample.items() if np.isfinite(values).any()}
    what, image = _called(images[0]), images[0]
    if not medians:
        return
    stored = _stored(image, what, medians)
    if stored is not None:
        yield stored
    reflectance = {name: median for name, median in medians.items() if unit_of(images, name).endswith("reflectance")}
    if reflectance:
        scaling = _scaling(reflectance, image, what)
        if scaling is not None:
            yield scaling
        else:
            yield from _artefacts(looks, names, what)
    exchange = _exchange(sample, bool(reflectance), what)
    if exchange is not None:
        yield exchange


def _look(images: Sequence[ImageTable], grid: Grid, window: Window, inside: Inside) -> _Look:
    bands = read_images(images, grid.crop(window))
    ground = inside(window)
    values = np.stack([band[ground] for band in bands.values()])
    reflective = np.array([unit_of(images, name).endswith("reflectance") for name in bands])
    below, above = (values < 0) & reflective[:, None], (values > 1) & reflective[:, None]
    lost = np.zeros(values.shape[1], bool)
    for first, second in (("red", "nir"), ("green", "swir1")):
        if {first, second} <= bands.keys():
            lost |= (bands[first][ground] <= 0) & (bands[second][ground] <= 0)
    return _Look(
        int(np.isfinite(values).any(axis=0).sum()),
        below.sum(axis=1),
        above.sum(axis=1),
        int(below.any(axis=0).sum()),
        int(above.any(axis=0).sum()),
        int(lost.sum()),
        values[:, :: max(1, values.shape[1] // SAMPLED)],
    )


def _called(image: ImageTable) -> str:
    path = image.path or image.bundle or next(iter(image.files.values()))
    return str(path) + (f" and {len(image.files) - 1} more" if len(image.files) > 1 else "")


def _stored(image: ImageTable, what: str, medians: dict[str, float]) -> Finding | None:
    """Optical bands whose file says nothing of their scaling, and neither does the site."""
    optical = [name for name in ROLES if name in medians]
    said = image.unit or image.path is None or image.scale != 1 or {"scale", "offset"} <= image.model_fields_set
    if not optical or said or image.path is None:
        return None
    if any(scale != 1 for scale in read_info(image.path).scales):
        return None  # said already
    name = max(optical, key=lambda name: medians[name])
    seen = f"{what} has neither scale nor offset, so its bands are taken as stored ({name}: median {medians[name]:.4g})"
    if DARKEST <= medians[name] <= BRIGHTEST:
        remedy = "They look like reflectance: say so by scale = 1 and offset = 0."
    else:
        remedy = (
            "Give the scale and offset that make reflectance of them (the product's guide has them), or say what they "
            'are by unit = "...".'
        )
    return Finding("warning", f"{seen}: a model that was trained on reflectance refuses them. {remedy}")


def _scaling(medians: dict[str, float], image: ImageTable, what: str) -> Finding | None:
    """Reflectance that no ground has: scaled wrongly, twice or not at all."""
    name = max(medians, key=lambda name: medians[name])
    median = medians[name]
    if DARKEST <= median <= BRIGHTEST:
        return None
    where = "its brightest band, has" if median < DARKEST else "for one, has"
    given = "" if image.bundle or image.metadata else f" ({image.scale:g} and {image.offset:g})"
    return Finding(
        "warning",
        f"{what}: {name}, {where} a median reflectance of {median:.2g} on the site; ground has {DARKEST:g} to 1. Check "
        f"scale and offset{given}.",
    )


def _artefacts(looks: Sequence[_Look], names: Sequence[str], what: str) -> Iterator[Finding]:
    """How many pixels have a reflectance below 0 or above 1, which nothing has, and what becomes of them."""
    ground = sum(look.ground for look in looks)
    below, above, lost = (sum(getattr(look, key) for look in looks) for key in ("any_below", "any_above", "lost"))
    if not ground or not below + above:
        return
    parts = []
    for count, word, by_band in ((below, "below 0", "below"), (above, "above 1", "above")):
        if count:
            worst = int(np.argmax(np.sum([getattr(look, by_band) for look in looks], axis=0)))
            parts.append(f"{word} on {count:,} ({100 * count / ground:.2g} %, most in {names[worst]})")
    text = (
        f"{what}: of {ground:,} pixels looked at inside the outline, reflectance is {' and '.join(parts)}: "
        "an artefact, over dark water and shadow or cloud and snow. Bands are kept as they are"
    )
    if below:
        text += "; NDVI and MNDWI count what is below 0 as 0"
    if lost:
        text += f", and the {lost:,} pixels where neither band is above 0 have none and are not mapped"
    if below < MANY * ground:
        yield Finding("note", f"{text}.")
    else:
        remedy = "Check scale and offset, cut the outline to the ground you mean, or take another scene."
        yield Finding("warning", f"{text}. {remedy}")


def _exchange(sample: dict[str, Float32], reflectance: bool, what: str) -> Finding | None:
    """Land that reflects more red than near infrared by half: rock, soil and plants all do the reverse.

    Land is where MNDWI is below 0, as on neither water nor snow; without its bands, where reflectance is neither that
    of water nor that of snow.
    """
    if not {"red", "nir"} <= sample.keys():
        return None
    plants = ndvi(sample["red"], sample["nir"])
    if {"green", "swir1"} <= sample.keys():
        land, least = mndwi(sample["green"], sample["swir1"]) < 0, DOUBTFUL_NDVI
    elif reflectance:
        brighter = np.fmax(sample["red"], sample["nir"])
        land, least = (brighter > BRIGHT) & (brighter < DAZZLING), DOUBTFUL_WITHOUT_SWIR
    else:
        return None
    defined = np.isfinite(plants)
    land &= defined
    if not land.any() or land.sum() < LEAST_LAND * defined.sum():
        return None
    median = float(np.median(plants[land]))
    if median >= least:
        return None
    return Finding(
        "warning",
        f"{what}: the median NDVI of land is {median:.2f}, and rock, soil and plants have more than 0. Are red and nir "
        "exchanged? Check the numbers of `bands`.",
    )


def _of_relief(dem: DemTable, grid: Grid) -> Iterator[Finding]:
    """Slopes that no mountains have, as those of elevation in feet are."""
    own = dem_grid(dem, grid)
    if own.x_size < FINEST_DEM:
        return
    windows = evenly(list(tiles(own.shape, DEM_WINDOW)), MOST_DEM_WINDOWS)

    def at(window: Window) -> Float32:
        z = read_dem(dem, own.crop(window).pad(1))
        slope = surfaces(z, own.x_size, own.y_size, ["slope"])[0, 1:-1, 1:-1]
        return np.asarray(slope[np.isfinite(slope)])

    slopes = np.concatenate(list(parallel_map(at, windows)))
    if not slopes.size:
        return
    steepest = float(np.quantile(slopes, 1 - STEEP_SHARE))
    if steepest > STEEP:
        yield Finding(
            "warning",
            f"{dem.path}: a tenth of the ground is steeper than {steepest:.0f} degrees, and hardly any mountains are: "
            "is its elevation in metres? Give [dem] scale, 0.3048 for feet.",
        )
