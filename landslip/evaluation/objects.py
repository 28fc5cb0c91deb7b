"""Score an inventory against the landslides of a reference: landslides, not pixels.

A reference landslide is found where mapped landslides together cover at least `overlap` (half) of its area, else
missed. A mapped landslide is invented where less than `overlap` of its own area is landslide of the reference. A found
landslide is split where two or more mapped ones each lie on it by `overlap` of their own area; a mapped landslide is
merged where it covers `overlap` of each of two or more. This is the matching of regions of Hoover et al. 1996 (IEEE
Trans. PAMI 18(7), 673-689), in which "together" is allowed to both sides; landslide inventories have been compared by
overlap since Carrara et al. 1992 and Galli et al. 2008 (Geomorphology 94, 268-289).

Judged are the landslides that lie mostly on scored ground; what they are judged by may lie anywhere. One feature is
one landslide. An inventory is scored as it was mapped; a reviewed one as the reference is what its review left, and
ground that is still open in it is not scored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage

from landslip.dataset.label import LANDSLIDE
from landslip.errors import LabelError, RunError
from landslip.evaluation.counts import known_windows
from landslip.evaluation.object_matching import OVERLAP, match
from landslip.evaluation.object_scores import Boundary, InventoryScores, area_text, completeness, size_classes
from landslip.geo.geotiff import TILE
from landslip.geo.grid import Grid, Window, tiles
from landslip.geo.raster import read_info
from landslip.geo.rasterize import burn, burn_alone, burn_window, shapes_on
from landslip.metrics.size_distribution import SURE, fit_tail
from landslip.review.landslides import OF_INVENTORY, read_landslides, read_mapped
from landslip.runtime.progress import plural

WITHIN = (1, 2)  # pixels that two boundaries may lie apart
SIDE = 4 * TILE
POLYGONS = ["Polygon", "MultiPolygon"]


@dataclass(frozen=True)
class Polygons:
    """Valid polygons on a map, in its CRS: (M,) mapped ones, (N,) of the reference and (K,) that are open in it."""

    mapped: NDArray[Any]
    true: NDArray[Any]
    unknown: NDArray[Any]
    notes: tuple[str, ...]


def score_inventory(
    inventory: Path,
    reference: Path,
    probability: Path,
    label: Path,
    split: Path | None = None,
    part: str | None = None,
    overlap: float = OVERLAP,
    layer: str | None = None,
    inventory_layer: str | None = None,
) -> InventoryScores:
    """Score the polygons of `inventory` against those of `reference`, where `evaluate` scores pixels.

    The rasters, split and part are those of `evaluate` and say where is scored; `label` also holds the boundaries that
    the map's are held against. `layer` is the reference's. Raises RunError for an impossible overlap, what
    `read_polygons` raises, and what `evaluate` raises.
    """
    polygons = read_polygons(inventory, reference, probability, layer, inventory_layer)
    return score_polygons(polygons, probability, label, split, part, overlap)


def read_polygons(
    inventory: Path,
    reference: Path,
    probability: Path,
    layer: str | None = None,
    inventory_layer: str | None = None,
) -> Polygons:
    """The polygons of an inventory and of a reference (`layer`) that lie on the map `probability`.

    Raises LabelError for features that are not polygons or lie elsewhere, or where a file has several layers and none
    is named; VectorError for files that cannot be read.
    """
    grid, notes = read_info(probability).grid, list[str]()
    mapped = _polygons(inventory, inventory_layer, grid, "inventory", notes)
    true = _polygons(reference, layer, grid, "reference", notes)
    return Polygons(mapped[0], true[0], true[1], tuple(notes))


def score_polygons(
    polygons: Polygons,
    probability: Path,
    label: Path,
    split: Path | None = None,
    part: str | None = None,
    overlap: float = OVERLAP,
) -> InventoryScores:
    """Score the mapped polygons against the others; the rest is as `score_inventory` has it."""
    if not 0 < overlap <= 1:
        raise RunError(f"an overlap of {overlap:g} matches no landslides. Give a share above 0 and at most 1.")
    grid = read_info(probability).grid
    notes = list(polygons.notes)
    mapped, true = polygons.mapped, polygons.true
    unknown = shapes_on(polygons.unknown, grid)
    lying = _Lying(true, grid), _Lying(mapped, grid)
    boundaries = [_Agreement(pixels) for pixels in WITHIN]
    cores = list(tiles(grid.shape, SIDE))
    grown = [_grown(core, grid.shape) for core in cores]
    part, windows = known_windows(probability, label, split, part, grown)
    for core, (outer, truth, known, scored) in zip(cores, windows, strict=True):
        inner = core.within(outer)
        still_open = burn_window(unknown, outer)
        known, scored = known & ~still_open, scored & ~still_open
        for one in lying:
            one.add(core, scored[inner])
        counted = np.zeros(scored.shape, bool)
        counted[inner] = scored[inner]
        drawn = burn(mapped[lying[1].near(outer)], grid.crop(outer)) & known
        edge, true_edge = edges(drawn, known), edges((truth == LANDSLIDE) & known, known)
        for boundary in boundaries:
            boundary.add(edge, true_edge, counted)

    matched = match(true, mapped, overlap)
    least = overlap * (1 - 1e-9)
    judged, mapped_judged = lying[0].mostly(), lying[1].mostly()
    where = "on ground that is not scored" if part == "all" else "in other parts"
    for name, one, kept in (("", lying[0], judged), ("mapped ", lying[1], mapped_judged)):
        notes += _not_counted(name, one, kept, where)
    covered, pieces = matched.covered[judged], matched.pieces[judged]
    real, joined = matched.real[mapped_judged], matched.joined[mapped_judged]
    found, invented = covered >= least, real < least
    split_, merged = found & (pieces > 1), joined > 1
    areas, mapped_areas = shapely.area(true[judged]), shapely.area(mapped[mapped_judged])
    total, mapped_total = (float(shapely.area(shapely.union_all(g))) for g in (true[judged], mapped[mapped_judged]))
    classes = size_classes(areas, found, mapped_areas, invented)
    tails = fit_tail(areas), fit_tail(mapped_areas)
    for name, tail in zip(("reference", "map"), tails, strict=True):
        if 0 < tail.count < SURE:
            notes.append(f"the tail of the {name} holds {tail.count} landslides: below {SURE} its x_min is uncertain")
    return InventoryScores(
        part,
        overlap,
        len(areas),
        int(found.sum()),
        int((~found).sum()),
        int((~found & (covered > 0)).sum()),
        len(mapped_areas),
        int(invented.sum()),
        int((invented & (real > 0)).sum()),
        int(split_.sum()),
        int(pieces[split_].sum()),
        int(merged.sum()),
        int(joined[merged].sum()),
        len(mapped_areas) / len(areas) if len(areas) else math.nan,
        mapped_total / total if total else math.nan,
        total,
        mapped_total,
        completeness(classes),
        classes,
        *tails,
        [boundary.scores() for boundary in boundaries],
        areas,
        mapped_areas,
        notes,
    )


def _polygons(
    path: Path, layer: str | None, grid: Grid, what: str, notes: list[str]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Valid polygons (N,) that touch the grid, in its CRS, and those (K,) that are still open in a reference."""
    read, option = (read_landslides, "--layer NAME") if what == "reference" else (read_mapped, OF_INVENTORY)
    found = read(path, layer, grid.crs, grid.bounds, option)
    strange = {*found.outlines.geom_type, *found.unknown.geom_type} - set(POLYGONS)
    if strange:
        raise LabelError(
            f"{path} holds {', '.join(sorted(strange))}, and landslides are matched by the ground that they cover. "
            f"Give polygons as the {what}."
        )
    if found.note:
        notes.append(found.note if path.name in found.note else f"{path.name}: {found.note}")
    if found.outlines.empty and (what == "reference" or len(read(path, layer, grid.crs, None, option).outlines)):
        why = f" ({found.note})" if found.reviewed else ""
        raise LabelError(f"{path} has no landslide on the map ({grid.describe()}){why}. Is it of the same place?")
    polygons, unknown = (np.asarray(one.geometry.values, dtype=object) for one in (found.outlines, found.unknown))
    faulty = ~shapely.is_valid(polygons)
    if faulty.any():
        notes.append(
            f"outlines that cross themselves were mended: {plural(int(faulty.sum()), 'polygon')} of {path.name}"
        )
        polygons[faulty] = shapely.make_valid(polygons[faulty], method="structure", keep_collapsed=False)
    return np.asarray(polygons[shapely.area(polygons) > 0]), unknown


def _not_counted(name: str, lying: _Lying, judged: NDArray[np.bool_], where: str) -> list[str]:
    """A note on landslides that reach into the scored ground and lie mostly beyond it; none where there are none."""
    out = (lying.scored > 0) & ~judged
    if not out.any():
        return []
    count, area = int(out.sum()), float(shapely.area(lying.polygons[out]).sum())
    within = float(lying.scored[out].sum()) * lying.grid.pixel_area
    verb, be = ("lies", "is") if count == 1 else ("lie", "are")
    return [
        f"{plural(count, f'{name}landslide')} of {area_text(area)}, {area_text(within)} of it scored, "
        f"{verb} mostly {where} and {be} not counted"
    ]


def _grown(core: Window, shape: tuple[int, int]) -> Window:
    """A window with the margin that the boundaries in it need."""
    margin = max(WITHIN) + 1
    return Window(core.row - margin, core.column - margin, core.height + 2 * margin, core.width + 2 * margin).clip(
        shape
    )


class _Lying:
    """How many pixels of each polygon (N,) are on the map, and how many of them are scored."""

    def __init__(self, polygons: NDArray[Any], grid: Grid) -> None:
        self.polygons, self.grid = polygons, grid
        self.tree = shapely.STRtree(polygons)
        self.pixels, self.scored = np.zeros(len(polygons), np.int64), np.zeros(len(polygons), np.int64)
        self.point_scored = np.zeros(len(polygons), bool)
        points = shapely.point_on_surface(polygons)
        self.row = np.floor((grid.transform.f - shapely.get_y(points)) / grid.y_size).astype(np.int64)
        self.column = np.floor((shapely.get_x(points) - grid.transform.c) / grid.x_size).astype(np.int64)

    def near(self, window: Window) -> NDArray[np.intp]:
        """Positions of the polygons that touch a window."""
        return np.asarray(self.tree.query(shapely.box(*self.grid.crop(window).bounds), predicate="intersects"))

    def add(self, core: Window, scored: NDArray[np.bool_]) -> None:
        """Count the pixels of one window, (h, w) bool where scored."""
        for i in self.near(core):
            at, burnt = burn_alone(self.polygons[i], self.grid.crop(core))
            self.pixels[i] += np.count_nonzero(burnt)
            self.scored[i] += np.count_nonzero(burnt & scored[at.slices])
            row, column = self.row[i] - core.row, self.column[i] - core.column
            if 0 <= row < core.height and 0 <= column < core.width:
                self.point_scored[i] = scored[row, column]

    def mostly(self) -> NDArray[np.bool_]:
        """Which polygons lie on scored ground with half of their area or more; by a point, those of no pixel."""
        beyond = shapely.area(shapely.difference(self.polygons, shapely.box(*self.grid.bounds)))
        whole = self.pixels + beyond / self.grid.pixel_area
        return np.where(self.pixels > 0, 2 * self.scored >= whole, self.point_scored)


@dataclass
class _Agreement:
    """Boundary pixels counted so far: of the map and of the reference, and those near one of the other."""

    within: int
    mapped: int = 0
    mapped_near: int = 0
    true: int = 0
    true_near: int = 0

    def add(self, mapped: NDArray[np.bool_], true: NDArray[np.bool_], counted: NDArray[np.bool_]) -> None:
        """Count the (h, w) boundaries of the map and the reference where `counted`."""
        y, x = np.mgrid[-self.within : self.within + 1, -self.within : self.within + 1]
        disc = y * y + x * x <= self.within * self.within
        self.mapped += int(np.count_nonzero(mapped & counted))
        self.true += int(np.count_nonzero(true & counted))
        self.mapped_near += int(np.count_nonzero(mapped & counted & ndimage.binary_dilation(true, disc)))
        self.true_near += int(np.count_nonzero(true & counted & ndimage.binary_dilation(mapped, disc)))

    def scores(self) -> Boundary:
        """Precision, recall and F1 of what was counted."""
        precision = self.mapped_near / self.mapped if self.mapped else math.nan
        recall = self.true_near / self.true if self.true else math.nan
        near = self.mapped_near * self.true + self.true_near * self.mapped
        if self.mapped and self.true:  # the harmonic mean, as one fraction
            f1 = 2 * self.mapped_near * self.true_near / near if near else 0.0
        else:
            f1 = 0.0 if self.mapped or self.true else math.nan
        return Boundary(self.within, precision, recall, f1)


def edges(mask: NDArray[np.bool_], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of (h, w) `mask` with one beside them (not at a corner) that is known and not of it."""
    other = np.pad(known & ~mask, 1)
    return mask & (other[:-2, 1:-1] | other[2:, 1:-1] | other[1:-1, :-2] | other[1:-1, 2:])
