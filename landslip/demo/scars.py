"""A made-up site where landslides are told from look-alikes by shape, place on the slope and neighbourhood alone.

The rule, fixed before any network saw it. Landslides begin on the upper part of slopes of 14 degrees and more, in any
rock, anywhere along rivers and faults. Each is a body that runs down the slope: a steep concave crown, a track, a
hummocky convex toe; from the toes of `TAILS` of them debris follows the drainage. Nobody can tell them pixel by pixel:
look-alikes lie on equally steep ground and are covered by the same mixtures of soil, rock and regrowth.

- scree: bodies of the same shapes and sizes, along the contour instead of down the slope, without relief;
- fields: rectangles along the contour, without relief;
- quarries: round pits with a steep back wall and a level floor, beside a road;
- roads, one pixel wide, and river bars;
- old scars: the shapes and the relief of landslides, overgrown, so that relief alone does not tell either.

Over all lie haze and the shadow of a low sun, and pixels at edges are mixed. Lithology and the distances to river and
fault take no part.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from landslip.demo.bodies import Bodies, Body, Disturbance, body_sizes
from landslip.demo.land_cover import cast_shadow, illumination, land_cover, lay_bare, lay_roads, paste, reflectance
from landslip.demo.landscape import Landscape, make_landscape, onto
from landslip.demo.synthetic_site import SyntheticSite, finished_site, site_grid, survey
from landslip.demo.terrain import Float, Mask, noise

MIN_SLOPE = 14.0  # degrees
LANDSLIDES_PER_KM2 = 1.6
LANDSLIDE_SHARE = 0.065  # of the outline's area
LOOK_ALIKE_SHARES = {"scree": 0.7, "field": 0.5, "quarry": 0.3, "old scar": 0.4}  # of the landslides' area
LOOK_ALIKES = {"scree": 1, "field": 2, "quarry": 3, "road": 4, "bar": 5, "old scar": 6}  # codes of SyntheticSite
TAILS = 0.5  # share of landslides whose debris follows the drainage
POSITION_REACH = 40  # pixels around one that tell whether it lies high or low on its slope
SUN = (140.0, 34.0)  # azimuth clockwise from north and height, degrees
MIXED = 0.6  # pixels over which the edge of a body is mixed with what lies beside it
ROADSIDE = 6  # pixels from a road within which quarries are

ShapePixels = tuple[NDArray[np.intp], NDArray[np.intp], Float]  # (n,) rows and columns of a shape, and its relief
Shape = Callable[[int, int, float], ShapePixels]  # from row and column of the centre and the number of pixels


def generate_scars(seed: int = 2021, shape: tuple[int, int] = (616, 976), resolution: float = 15.0) -> SyntheticSite:
    """Make a site of `shape` (rows, columns) pixels of `resolution` metres; the same seed gives the same site.

    Raises GridError for an odd or small shape.
    """
    grid = site_grid(shape, resolution)
    rng = np.random.default_rng([seed, len(LOOK_ALIKES)])  # other numbers than those of the other kind of site
    ground = make_landscape(rng, grid)
    roads = lay_roads(ground.surface) & ground.inside & ~ground.water
    slides, others = _place(rng, ground, roads)
    ids, relief = np.zeros(shape, np.int32), np.zeros(shape)
    for number, disturbance in enumerate(slides, start=1):
        ids[disturbance.rows, disturbance.columns] = number
    for disturbance in (*slides, *others["quarry"], *others["old scar"]):
        relief[disturbance.rows, disturbance.columns] = disturbance.relief
    dem = survey(rng, ground.z, relief)
    cover = land_cover(rng, ground.steepness, ground.water)
    look_alikes = _lay_look_alikes(rng, ground, cover, others, free=ids == 0, roads=roads)
    lay_bare(rng, cover, [*slides, *others["scree"], *others["field"], *others["quarry"]], MIXED)
    surface = onto(dem, ground.dem_grid, grid).astype(np.float64)
    light = illumination(surface, resolution, SUN) * (1 - 0.5 * cast_shadow(surface, resolution, SUN))
    haze = np.clip(0.25 + 0.2 * noise(rng, shape, 250, 4), 0, 0.8)
    bands = reflectance(rng, cover, light, haze)
    return finished_site(f"Made-up scars {seed}", ground, bands=bands, dem=dem, ids=ids, look_alikes=look_alikes)


def _place(
    rng: np.random.Generator, ground: Landscape, roads: Mask
) -> tuple[list[Disturbance], dict[str, list[Disturbance]]]:
    """Landslides, and the look-alikes of each kind that is a body or a shape, none over another."""
    grid, reach = ground.grid, 2 * POSITION_REACH + 1
    steep = (ground.steepness >= MIN_SLOPE) & ground.inside & ~ground.water
    above = ground.surface - ndimage.uniform_filter(ground.surface, reach)
    # Chances to begin: nearly 1 high on a slope, nearly 0 low on it.
    high = 1 / (1 + np.exp(-4 * above / np.sqrt(ndimage.uniform_filter(above**2, reach) + 1)))
    hummocks = 1 + 0.6 * noise(rng, grid.shape, 5, 2)
    bodies = Bodies(rng, ground.surface, grid.x_size, ~ground.inside | ground.water | roads)
    count = max(6, round(LANDSLIDES_PER_KM2 * ground.inside.sum() * grid.pixel_area / 1e6))
    area = LANDSLIDE_SHARE * ground.inside.sum() * grid.pixel_area
    placed = bodies.place(steep, high, body_sizes(rng, count, area))
    slides = _with_tails(rng, bodies, placed, [_slid(body, hummocks, 1.0) for body in placed])
    slid = sum(len(disturbance.rows) for disturbance in slides) * grid.pixel_area

    def sizes(kind: str) -> Float:
        share = LOOK_ALIKE_SHARES[kind]
        return body_sizes(rng, max(2, round(share * count)), share * slid)

    def pit(row: int, column: int, pixels: float) -> ShapePixels:
        return _pit(rng, ground.surface, row, column, pixels)

    def rectangle(row: int, column: int, pixels: float) -> ShapePixels:
        return _rectangle(rng, bodies, row, column, pixels)

    beside = ndimage.distance_transform_edt(~roads) < ROADSIDE
    scars = [_slid(body, hummocks, 0.9) for body in bodies.place(steep, high, sizes("old scar"))]
    return slides, {
        "old scar": scars,
        "quarry": _shapes(rng, bodies, sizes("quarry"), pit, where=steep, centres=beside),
        "scree": [_flat(body) for body in bodies.sideways().place(steep, high, sizes("scree"))],
        "field": _shapes(rng, bodies, sizes("field"), rectangle, where=steep, centres=steep),
    }


def _slid(body: Body, hummocks: Float, freshness: float) -> Disturbance:
    """A landslide on a body: a steep crown that ends half way down, and a toe over the last two fifths."""
    depth = freshness * float(np.clip(0.07 * body.width, 2.5, 16))  # metres
    along, arch = np.clip(body.along, 0, 1), np.clip(1 - body.across**2, 0, 1)
    crown = np.where(along < 0.12, along / 0.12, np.clip((0.55 - along) / 0.43, 0, 1)) * arch
    toe = np.sin(np.pi * np.clip((along - 0.6) / 0.4, 0, 1)) * np.sqrt(arch) * hummocks[body.rows, body.columns]
    return Disturbance(rows=body.rows, columns=body.columns, relief=depth * (0.6 * toe - crown))


def _flat(disturbance: Disturbance) -> Disturbance:
    """The pixels of a disturbance, neither raised nor lowered."""
    return Disturbance(rows=disturbance.rows, columns=disturbance.columns, relief=np.zeros(len(disturbance.rows)))


def _with_tails(
    rng: np.random.Generator, bodies: Bodies, placed: list[Body], slides: list[Disturbance]
) -> list[Disturbance]:
    """Landslides, some of them with debris that follows the drainage from the toe and stays clear of the others."""
    shape = bodies.taken.shape
    ids = np.zeros(shape, np.int32)
    for number, slide in enumerate(slides, start=1):
        ids[slide.rows, slide.columns] = number
    finished = []
    for number, (body, slide) in enumerate(zip(placed, slides, strict=True), start=1):
        tail = np.zeros(shape, bool)
        if rng.uniform() < TAILS:
            toe = np.argmax(body.along - body.across)
            here = np.array([body.rows[toe], body.columns[toe]], float)
            for _ in range(round(rng.uniform(0.5, 1.2) * np.sqrt(len(body.rows) * 3))):
                row, column = np.rint(here).astype(int)
                if not (2 <= row < shape[0] - 2 and 2 <= column < shape[1] - 2):
                    break
                around = np.s_[row - 2 : row + 3, column - 2 : column + 3]
                foreign = bodies.taken[row, column] and not (ids[around] == number).any()
                if foreign or not np.isin(ids[around], (0, number)).all():
                    break
                tail[row - 1 : row + 1, column - 1 : column + 1] = True
                here += bodies.fall[0][row, column], bodies.fall[1][row, column]
            tail &= ids == 0
            ids[tail] = number
            bodies.taken |= ndimage.binary_dilation(tail, np.ones((3, 3)), iterations=2)
        rows, columns = np.nonzero(tail)
        finished.append(
            Disturbance(
                rows=np.concatenate([slide.rows, rows]),
                columns=np.concatenate([slide.columns, columns]),
                relief=np.concatenate([slide.relief, np.zeros(len(rows))]),
            )
        )
    return finished


def _shapes(
    rng: np.random.Generator, bodies: Bodies, sizes: Float, shape: Shape, *, where: Mask, centres: Mask
) -> list[Disturbance]:
    """Disturbances of `sizes` (square metres) with a given shape on free ground, four fifths of it `where`.

    Their middle lies on `centres`. What fits nowhere in 400 tries is left out.
    """
    disturbances = []
    for size in sizes:
        starts = np.flatnonzero(where & centres & ~bodies.taken)
        for _ in range(400 if len(starts) else 0):
            row, column = divmod(int(rng.choice(starts)), where.shape[1])
            rows, columns, relief = shape(row, column, size / bodies.size**2)
            inside = (rows >= 0) & (rows < where.shape[0]) & (columns >= 0) & (columns < where.shape[1])
            if not inside.all() or bodies.taken[rows, columns].any() or where[rows, columns].mean() < 0.8:
                continue
            mask = np.zeros(where.shape, bool)
            mask[rows, columns] = True
            bodies.taken |= ndimage.binary_dilation(mask, np.ones((3, 3)), iterations=2)
            disturbances.append(Disturbance(rows=rows, columns=columns, relief=relief))
            break
    return disturbances


def _pit(rng: np.random.Generator, surface: Float, row: int, column: int, pixels: float) -> ShapePixels:
    """A round pit with a level floor, cut into the slope by up to 20 m."""
    ratio, turn = rng.uniform(1.0, 1.5), rng.uniform(0, np.pi)
    radius = float(np.sqrt(pixels / np.pi))
    reach = int(np.ceil(radius * ratio)) + 1
    down, right = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    long, short = down * np.cos(turn) + right * np.sin(turn), right * np.cos(turn) - down * np.sin(turn)
    disc = (long / ratio) ** 2 + (short * ratio) ** 2 <= radius**2
    rows, columns = row + down[disc], column + right[disc]
    at = np.clip(rows, 0, surface.shape[0] - 1), np.clip(columns, 0, surface.shape[1] - 1)
    height = surface[at]
    return rows, columns, np.clip(np.percentile(height, 25) - height, -20, 0)


def _rectangle(rng: np.random.Generator, bodies: Bodies, row: int, column: int, pixels: float) -> ShapePixels:
    """A rectangle with its long side along the contour."""
    ratio = np.sqrt(rng.uniform(1.0, 2.5))
    half = float(np.sqrt(pixels)) / 2
    reach = int(np.ceil(half * (ratio + 1))) + 1
    down, right = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    fall = bodies.fall[0][row, column], bodies.fall[1][row, column]
    short, long = down * fall[0] + right * fall[1], right * fall[0] - down * fall[1]
    within = (np.abs(short) <= half / ratio) & (np.abs(long) <= half * ratio)
    return row + down[within], column + right[within], np.zeros(int(within.sum()))


def _lay_look_alikes(
    rng: np.random.Generator,
    ground: Landscape,
    cover: dict[str, Float],
    others: dict[str, list[Disturbance]],
    *,
    free: Mask,
    roads: Mask,
) -> NDArray[np.uint8]:
    """Codes of LOOK_ALIKES, (row, column), once roads, river bars and the little that shows of old scars are laid."""
    codes = np.zeros(ground.grid.shape, np.uint8)
    for kind, disturbances in others.items():
        for disturbance in disturbances:
            codes[disturbance.rows, disturbance.columns] = LOOK_ALIKES[kind]
    regrown = noise(rng, codes.shape, 12, 3)
    paste(cover, np.where(codes == LOOK_ALIKES["old scar"], np.clip(0.1 + 0.08 * regrown, 0, 0.3), 0.0), {"soil": 1.0})
    free = free & (codes == 0) & ground.inside & ~ground.water
    bar = ground.banks & free & (ground.steepness < 10) & (noise(rng, codes.shape, 20, 3) > 0.3)
    paste(cover, 0.6 * (roads & free), {"road": 1.0})
    paste(cover, 0.8 * bar, {"soil": 0.5, "rock": 0.5})
    codes[roads & free], codes[bar] = LOOK_ALIKES["road"], LOOK_ALIKES["bar"]
    return codes
