"""Whether a site's numbers are such as ground has: what `landslip check` says of reflectance, bands and elevation.

Nothing here is a fault of a file, because snow, open water, deserts and other planets have numbers of their own. Each
doubt is a warning that names file, value and remedy. The one exception is a DEM that says itself that it is in feet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landslip.config.site_tables import ROLES, DemTable, ImageTable
from landslip.errors import SiteError
from landslip.factors.indices import mndwi, ndvi
from landslip.factors.terrain import surfaces
from landslip.geo.grid import Grid, Window, tiles
from landslip.geo.raster import read_info
from landslip.preparation.coregistration import evenly
from landslip.preparation.findings import Finding
from landslip.preparation.images import band_names, read_images, unit_of
from landslip.preparation.site_inputs import SiteImage, SiteInputs, fill_groups
from landslip.preparation.study_area import Inside
from landslip.preparation.terrain_sources import dem_grid, read_dem
from landslip.runtime.parallel import parallel_map

Float32 = NDArray[np.float32]

LOOK_WINDOW, MOST_WINDOWS = 512, 64  # of the windows that are looked at: all of a site up to 16 million pixels
SAMPLED = 4096  # pixels of each that medians are taken of
DARKEST = 0.01  # median reflectance of the brightest band; dark forest has 0.2 in the near infrared, clear water 0.02
BRIGHTEST = 1.2  # median reflectance of any band; snow has 0.99 and thick cloud 1.04 in the coastal band
LEAST_LAND = 0.1  # of the ground: where less is land, its NDVI says nothing of the bands
BRIGHT, DAZZLING = 0.1, 0.5  # reflectance of land where only red and near infrared are there; water less, snow more
DOUBTFUL_NDVI = -0.05  # median on land; bare rock comes near 0
DOUBTFUL_WITHOUT_SWIR = -0.1  # where muddy water and snow in shadow may pass for land
MANY_BELOW_0 = (
    0.01  # of the pixels with reflectance below 0 that a warning is worth; above 1 is snow's and does no harm
)
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


@dataclass(frozen=True, kw_only=True)
class _Look:
    """What an image shows inside the outline, at one window or at several.

    `ground` counts the pixels that have a value. `below` and `above`, (bands,), count those with a reflectance below 0
    and above 1, by band; `any_below` and `any_above` those where any band has one. `without_index` counts the pixels
    where both bands of an index are 0 or less. `sample`, (bands, pixels), holds values of some.
    """

    ground: int
    below: NDArray[np.int64]
    above: NDArray[np.int64]
    any_below: int
    any_above: int
    without_index: int
    sample: Float32


def doubts(inputs: SiteInputs, grid: Grid, inside: Inside) -> Iterator[Finding]:
    """What is doubtful about the numbers of a site's images and DEM; nothing where all is well.

    Raises what reading them raises.
    """
    for images in (*fill_groups(inputs.images), *fill_groups(inputs.before)):
        yield from _of_image(images, grid, inside)
    if inputs.site.dem is not None:
        yield from _of_relief(inputs.site.dem, grid)


def require_metres(dem: DemTable) -> Finding | None:
    """A warning for a DEM whose unit is unknown here; SiteError for one in feet, say, to which the site gives no scale.

    The file's unit is not taken to be right or wrong: the site file's `scale` decides, which is 1 where it is wrong.
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


def _of_image(images: Sequence[SiteImage], grid: Grid, inside: Inside) -> Iterator[Finding]:
    """What is doubtful about one image, or about scenes that make one."""
    # Sharpening takes long, and nothing here depends on it.
    plain = [image.with_table(pansharpen=False) for image in images]
    windows = evenly(list(tiles(grid.shape, LOOK_WINDOW)), MOST_WINDOWS)
    look = _together(list(parallel_map(lambda window: _look(plain, grid, window, inside), windows)))
    names = band_names(plain)
    sample = dict(zip(names, look.sample, strict=True))
    medians = {name: float(np.nanmedian(values)) for name, values in sample.items() if np.isfinite(values).any()}
    image = images[0].table
    what = _called(image)
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
            yield from _artefacts(look, names, what)
    exchange = _exchange(sample, bool(reflectance), what)
    if exchange is not None:
        yield exchange


def _look(images: Sequence[SiteImage], grid: Grid, window: Window, inside: Inside) -> _Look:
    """What images show at a window of the grid."""
    bands = read_images(images, grid.crop(window))
    ground = inside(window)
    values = np.stack([band[ground] for band in bands.values()])
    reflective = np.array([unit_of(images, name).endswith("reflectance") for name in bands])
    below, above = (values < 0) & reflective[:, None], (values > 1) & reflective[:, None]
    without_index = np.zeros(values.shape[1], bool)
    for first, second in (("red", "nir"), ("green", "swir1")):
        if {first, second} <= bands.keys():
            without_index |= (bands[first][ground] <= 0) & (bands[second][ground] <= 0)
    return _Look(
        ground=int(np.isfinite(values).any(axis=0).sum()),
        below=below.sum(axis=1),
        above=above.sum(axis=1),
        any_below=int(below.any(axis=0).sum()),
        any_above=int(above.any(axis=0).sum()),
        without_index=int(without_index.sum()),
        sample=values[:, :: max(1, values.shape[1] // SAMPLED)],
    )


def _together(looks: Sequence[_Look]) -> _Look:
    """What an image shows at several windows."""
    return _Look(
        ground=sum(look.ground for look in looks),
        below=np.sum([look.below for look in looks], axis=0),
        above=np.sum([look.above for look in looks], axis=0),
        any_below=sum(look.any_below for look in looks),
        any_above=sum(look.any_above for look in looks),
        without_index=sum(look.without_index for look in looks),
        sample=np.concatenate([look.sample for look in looks], axis=1),
    )


def _called(image: ImageTable) -> str:
    """What a message calls an image: its file or bundle, or the first of its files."""
    path = image.path or image.bundle or next(iter(image.files.values()))
    return str(path) + (f" and {len(image.files) - 1} more" if len(image.files) > 1 else "")


def _stored(image: ImageTable, what: str, medians: dict[str, float]) -> Finding | None:
    """Optical bands whose file says nothing of their scaling, and neither does the site."""
    optical = [name for name in ROLES if name in medians]
    stated = image.unit or image.path is None or image.scale != 1 or {"scale", "offset"} <= image.model_fields_set
    if not optical or stated or image.path is None:
        return None
    if any(scale != 1 for scale in read_info(image.path).scales):
        return None  # `check_image` warns of a file that declares a scaling.
    name = max(optical, key=lambda name: medians[name])
    text = f"{what} has neither scale nor offset, so its bands are taken as stored ({name}: median {medians[name]:.4g})"
    if DARKEST <= medians[name] <= BRIGHTEST:
        remedy = "They look like reflectance: say so by scale = 1 and offset = 0."
    else:
        remedy = (
            "Give the scale and offset that make reflectance of them (the product's guide has them), or say what they "
            'are by unit = "...".'
        )
    return Finding("warning", f"{text}: a model that was trained on reflectance refuses them. {remedy}")


def _scaling(medians: dict[str, float], image: ImageTable, what: str) -> Finding | None:
    """Reflectance that no ground has: scaled wrongly, twice or not at all."""
    name = max(medians, key=lambda name: medians[name])
    median = medians[name]
    if DARKEST <= median <= BRIGHTEST:
        return None
    where = "its brightest band, has" if median < DARKEST else "for one, has"
    scaling = "" if image.bundle or image.metadata else f" ({image.scale:g} and {image.offset:g})"
    return Finding(
        "warning",
        f"{what}: {name}, {where} a median reflectance of {median:.2g} on the site; ground has {DARKEST:g} to 1. Check "
        f"scale and offset{scaling}.",
    )


def _artefacts(look: _Look, names: Sequence[str], what: str) -> Iterator[Finding]:
    """How many pixels have a reflectance below 0 or above 1, which nothing has, and what becomes of them."""
    if not look.ground or not look.any_below + look.any_above:
        return
    parts = []
    for count, word, by_band in ((look.any_below, "below 0", look.below), (look.any_above, "above 1", look.above)):
        if count:
            worst = names[int(np.argmax(by_band))]
            parts.append(f"{word} on {count:,} ({100 * count / look.ground:.2g} %, most in {worst})")
    text = (
        f"{what}: of {look.ground:,} pixels looked at inside the outline, reflectance is {' and '.join(parts)}: "
        "an artefact, over dark water and shadow or cloud and snow. Bands are kept as they are"
    )
    if look.any_below:
        text += "; NDVI and MNDWI count what is below 0 as 0"
    if look.without_index:
        text += f", and the {look.without_index:,} pixels where neither band is above 0 have none and are not mapped"
    if look.any_below < MANY_BELOW_0 * look.ground:
        yield Finding("note", f"{text}.")
    else:
        remedy = "Check scale and offset, cut the outline to the ground you mean, or take another scene."
        yield Finding("warning", f"{text}. {remedy}")


def _exchange(sample: dict[str, Float32], reflectance: bool, what: str) -> Finding | None:
    """A warning where land reflects more red than near infrared: rock, soil and plants all do the reverse.

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
    native = dem_grid(dem, grid)
    if native.x_size < FINEST_DEM:
        return
    windows = evenly(list(tiles(native.shape, DEM_WINDOW)), MOST_DEM_WINDOWS)

    def at(window: Window) -> Float32:
        z = read_dem(dem, native.crop(window).pad(1))
        slope = surfaces(z, native.x_size, native.y_size, ["slope"])[0, 1:-1, 1:-1]
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
