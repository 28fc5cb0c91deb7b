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
from landslip.geo.geotiff import STORED_TILE
from landslip.geo.grid import Grid, Window, tiles
from landslip.geo.raster import read_info
from landslip.geo.rasterize import burn, burn_alone, burn_window, shapes_on
from landslip.metrics.size_distribution import SURE_COUNT, Tail, fit_tail
from landslip.review.landslides import OF_INVENTORY, read_landslides, read_mapped
from landslip.runtime.progress import plural

WITHIN = (1, 2)  # pixels that two boundaries may lie apart
MATCHING_SIDE = 4 * STORED_TILE  # pixels per side of what is held in memory at a time
POLYGONS = ["Polygon", "MultiPolygon"]


@dataclass(frozen=True)
class Polygons:
    """Valid polygons on a map, in its CRS: (M,) mapped ones, (N,) of the reference and (K,) that are open in it."""

    mapped: NDArray[Any]
    true: NDArray[Any]
    unknown: NDArray[Any]
    notes: tuple[str, ...]


def read_polygons(
    inventory: Path, reference: Path, probability: Path, layer: str | None = None, inventory_layer: str | None = None
) -> Polygons:
    """The polygons of an inventory and of a reference that lie on the map `probability`.

    `layer` is the reference's, `inventory_layer` that of the inventory. Raises LabelError for features that are not
    polygons or lie elsewhere, or where a file has several layers and none is named; VectorError for files that cannot
    be read.
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
    *,
    overlap: float = OVERLAP,
) -> InventoryScores:
    """Score mapped landslides against those of a reference, where `evaluate` scores pixels.

    The rasters, split and part are those of `evaluate` and say where is scored; `label` also holds the boundaries that
    the map's are held against. Raises RunError for an impossible overlap, and what `evaluate` raises.
    """
    if not 0 < overlap <= 1:
        raise RunError(f"an overlap of {overlap:g} matches no landslides. Give a share above 0 and at most 1.")
    counted = _count_pixels(polygons, probability, label, split, part)
    matches = match(polygons.true, polygons.mapped, overlap)
    least = overlap * (1 - 1e-9)
    judged, mapped_judged = counted.true.mostly_scored(), counted.mapped.mostly_scored()
    covered, pieces = matches.covered[judged], matches.pieces[judged]
    real, joined = matches.real[mapped_judged], matches.joined[mapped_judged]
    found, invented = covered >= least, real < least
    divided, merged = found & (pieces > 1), joined > 1
    true, mapped = polygons.true[judged], polygons.mapped[mapped_judged]
    areas, mapped_areas = shapely.area(true), shapely.area(mapped)
    total, mapped_total = _joint_area(true), _joint_area(mapped)
    classes = size_classes(areas, found, mapped_areas, invented)
    tail, mapped_tail = fit_tail(areas), fit_tail(mapped_areas)
    return InventoryScores(
        part=counted.part,
        overlap=overlap,
        reference=len(areas),
        found=int(found.sum()),
        missed=int((~found).sum()),
        missed_touched=int((~found & (covered > 0)).sum()),
        mapped=len(mapped_areas),
        invented=int(invented.sum()),
        invented_touching=int((invented & (real > 0)).sum()),
        split=int(divided.sum()),
        split_pieces=int(pieces[divided].sum()),
        merged=int(merged.sum()),
        merged_landslides=int(joined[merged].sum()),
        number_bias=len(mapped_areas) / len(areas) if len(areas) else math.nan,
        area_bias=mapped_total / total if total else math.nan,
        reference_area_m2=total,
        mapped_area_m2=mapped_total,
        completeness_m2=completeness(classes),
        classes=classes,
        reference_tail=tail,
        mapped_tail=mapped_tail,
        boundary=[boundary.scores() for boundary in counted.boundaries],
        reference_areas=areas,
        mapped_areas=mapped_areas,
        notes=[*polygons.notes, *_not_counted(counted, judged, mapped_judged), *_short_tails(tail, mapped_tail)],
    )


def edges(mask: NDArray[np.bool_], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The boundary of an (h, w) mask: its pixels that share a side with one that is known and not of it."""
    other = np.pad(known & ~mask, 1)
    return mask & (other[:-2, 1:-1] | other[2:, 1:-1] | other[1:-1, :-2] | other[1:-1, 2:])


def _polygons(
    path: Path, layer: str | None, grid: Grid, what: str, notes: list[str]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Valid polygons (N,) that touch the grid, in its CRS, and those (K,) that are still open in a reference."""
    read, option = (read_landslides, "--layer NAME") if what == "reference" else (read_mapped, OF_INVENTORY)
    features = read(path, layer, grid.crs, grid.bounds, option=option)
    strange = {*features.outlines.geom_type, *features.unknown.geom_type} - set(POLYGONS)
    if strange:
        raise LabelError(
            f"{path} holds {', '.join(sorted(strange))}, and landslides are matched by the ground that they cover. "
            f"Give polygons as the {what}."
        )
    if features.note:
        notes.append(features.note if path.name in features.note else f"{path.name}: {features.note}")
    if features.outlines.empty and (
        what == "reference" or len(read(path, layer, grid.crs, None, option=option).outlines)
    ):
        why = f" ({features.note})" if features.reviewed else ""
        raise LabelError(f"{path} has no landslide on the map ({grid.describe()}){why}. Is it of the same place?")
    polygons = np.asarray(features.outlines.geometry.values, dtype=object)
    unknown = np.asarray(features.unknown.geometry.values, dtype=object)
    faulty = ~shapely.is_valid(polygons)
    if faulty.any():
        notes.append(
            f"outlines that cross themselves were mended: {plural(int(faulty.sum()), 'polygon')} of {path.name}"
        )
        polygons[faulty] = shapely.make_valid(polygons[faulty], method="structure", keep_collapsed=False)
    return np.asarray(polygons[shapely.area(polygons) > 0]), unknown


def _joint_area(polygons: NDArray[Any]) -> float:
    """The area of the ground under (N,) polygons, where they overlap once, in square metres."""
    return float(shapely.area(shapely.union_all(polygons)))


@dataclass(frozen=True)
class _Counted:
    """What the pixels of the scored part say: of the reference's polygons, of the mapped ones, and of boundaries."""

    part: str
    true: _Footprints
    mapped: _Footprints
    boundaries: list[_BoundaryCounts]


def _count_pixels(polygons: Polygons, probability: Path, label: Path, split: Path | None, part: str | None) -> _Counted:
    """Count window by window how much of each polygon is scored, and how near the boundaries lie to each other."""
    grid = read_info(probability).grid
    unknown = shapes_on(polygons.unknown, grid)
    true, mapped = _Footprints(polygons.true, grid), _Footprints(polygons.mapped, grid)
    boundaries = [_BoundaryCounts(pixels) for pixels in WITHIN]
    cores = list(tiles(grid.shape, MATCHING_SIDE))
    part, windows = known_windows(probability, label, split, part, [_grown(core, grid.shape) for core in cores])
    for core, (outer, truth, known, scored) in zip(cores, windows, strict=True):
        inner = core.within(outer)
        open_ground = burn_window(unknown, outer)
        known, scored = known & ~open_ground, scored & ~open_ground
        true.add(core, scored[inner])
        mapped.add(core, scored[inner])
        counted = np.zeros(scored.shape, bool)
        # Boundaries in the margin belong to the window beside this one.
        counted[inner] = scored[inner]
        mapped_pixels = burn(polygons.mapped[mapped.near(outer)], grid.crop(outer)) & known
        edge, true_edge = edges(mapped_pixels, known), edges((truth == LANDSLIDE) & known, known)
        for boundary in boundaries:
            boundary.add(edge, true_edge, counted)
    return _Counted(part, true, mapped, boundaries)


def _not_counted(counted: _Counted, true: NDArray[np.bool_], mapped: NDArray[np.bool_]) -> list[str]:
    """Notes on landslides that reach into the scored ground and lie mostly beyond it; none where there are none.

    `true` (N,) and `mapped` (M,) say which landslides are judged.
    """
    where = "on ground that is not scored" if counted.part == "all" else "in other parts"
    notes = []
    for name, footprints, judged in (("landslide", counted.true, true), ("mapped landslide", counted.mapped, mapped)):
        out = (footprints.scored > 0) & ~judged
        if out.any():
            count, area = int(out.sum()), float(shapely.area(footprints.polygons[out]).sum())
            within = float(footprints.scored[out].sum()) * footprints.grid.pixel_area
            verb, be = ("lies", "is") if count == 1 else ("lie", "are")
            notes.append(
                f"{plural(count, name)} of {area_text(area)}, {area_text(within)} of it scored, "
                f"{verb} mostly {where} and {be} not counted"
            )
    return notes


def _short_tails(reference: Tail, mapped: Tail) -> list[str]:
    """Notes on tails of so few landslides that where they begin is uncertain."""
    return [
        f"the tail of the {name} holds {tail.count} landslides: below {SURE_COUNT} its x_min is uncertain"
        for name, tail in (("reference", reference), ("map", mapped))
        if 0 < tail.count < SURE_COUNT
    ]


def _grown(core: Window, shape: tuple[int, int]) -> Window:
    """A window with the margin that the boundaries in it need."""
    margin = max(WITHIN) + 1
    grown = Window(core.row - margin, core.column - margin, core.height + 2 * margin, core.width + 2 * margin)
    return grown.clip(shape)


class _Footprints:
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

    def mostly_scored(self) -> NDArray[np.bool_]:
        """Which polygons lie on scored ground with half of their area or more; by a point, those of no pixel."""
        beyond = shapely.area(shapely.difference(self.polygons, shapely.box(*self.grid.bounds)))
        size = self.pixels + beyond / self.grid.pixel_area
        return np.where(self.pixels > 0, 2 * self.scored >= size, self.point_scored)


@dataclass
class _BoundaryCounts:
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
        if self.mapped and self.true:  # This is the harmonic mean as one fraction.
            f1 = 2 * self.mapped_near * self.true_near / near if near else 0.0
        else:
            f1 = 0.0 if self.mapped or self.true else math.nan
        return Boundary(self.within, precision, recall, f1)
