"""A run that is served: its files, tiles and reviews."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import shapely
from starlette.exceptions import HTTPException

from landslip.errors import OutputError
from landslip.evaluation.counts import Counted, count_probabilities
from landslip.geo.raster import read_info
from landslip.inventory.inventory import begin_inventory
from landslip.metrics.confusion import stated_threshold
from landslip.review import reviews as review
from landslip.review.review_log import Review
from landslip.runtime.progress import say
from landslip.runtime.run_folder import PLACES, RunFolder
from landslip.serve.layers import PageLayer, layers_of
from landslip.serve.tiles import Tiles, stamp

MOST_READERS = 4  # threads that read rasters


class Session:
    """What a server keeps of its run: tiles, the inventory, and scores as they are counted."""

    def __init__(self, run: RunFolder, warn: Callable[[str], None] = say) -> None:
        self.run, self.shown = run, layers_of(run)
        self.tiles = Tiles(self.shown.layers, self.shown.grid, warn)
        self.readers = ThreadPoolExecutor(MOST_READERS, "tiles")
        self.counters = ThreadPoolExecutor(1, "scores")
        self.scores: dict[tuple[Any, ...], Future[Counted]] = {}
        self.lock = threading.Lock()
        self.inventory: tuple[Any, list[review.Landslide], shapely.STRtree | None] = (None, [], None)
        self.stands: tuple[Any, dict[int, Review]] = (None, {})
        self.threshold, self.source, self.inventory_threshold = self.thresholds()

    def thresholds(self) -> tuple[float | None, str | None, float | None]:
        """The threshold to begin with, where it comes from, and that of the inventory."""
        threshold, source, mapped = None, None, None
        if "probability" in self.tiles.layers and self.run.probability is not None:
            stored = read_info(self.run.probability).tags.get("threshold")
            threshold, source = stated_threshold(None, stored, self.run.probability.name)
        if self.run.landslide_map is not None:
            stated = read_info(self.run.landslide_map).tags.get("threshold")
            mapped = stated_threshold(None, stated, self.run.landslide_map.name)[0] if stated else None
        return (threshold, source, threshold) if mapped is None else (mapped, "of the inventory", mapped)

    def parts(self) -> list[str]:
        """The parts that can be scored, the one to begin with first."""
        if self.run.label is None or "agreement" not in self.tiles.layers:
            return []
        if self.run.split is None:
            return ["all"]
        if read_info(self.run.split).tags.get("split") == "paper":  # such a split has no test part
            return ["all", "train", "validation"]
        return ["test", "validation", "train", "all"]

    def landslides(self) -> tuple[list[review.Landslide], shapely.STRtree | None]:
        """The inventory and a tree of its outlines, read anew where the file was made anew."""
        path = self.inventory_file()
        if path is None:
            return [], None
        mark = review.inventory_mark(path)
        with self.lock:
            if self.inventory[0] != mark:
                rows = review.read_inventory(path)
                self.inventory = mark, rows, shapely.STRtree([one.outline for one in rows])
            return self.inventory[1], self.inventory[2]

    def reviews(self) -> dict[int, Review]:
        """What stands of every landslide, read anew where something was decided or the inventory is another one."""
        path = self.inventory_file()
        if path is None:
            return {}
        mark = review.inventory_mark(path), review.last_version(path)
        with self.lock:
            if self.stands[0] != mark:
                self.stands = mark, review.read_reviews(path)
            return self.stands[1]

    def inventory_file(self) -> Path | None:
        """The run's inventory, which may have been made since the server was started; None where there is none."""
        path = self.run.root / PLACES["inventory"][0]
        return path if self.run.inventory is not None or path.exists() else None

    def reviewed(self) -> Path:
        """The inventory that decisions are kept in; HTTP 404 where the run has none."""
        path = self.inventory_file()
        if path is None:
            raise HTTPException(
                404, "the run has no inventory to review. Draw its landslides, or make one: landslip inventory "
                "RUN/map/probability.tif RUN/inventory/landslides.gpkg"
            )  # fmt: skip
        return path

    def drawn_into(self) -> Path:
        """The inventory that a landslide is drawn into, made without any where the run has none."""
        path = self.inventory_file()
        if path is not None:
            return path
        path = self.run.root / PLACES["inventory"][0]
        with self.lock:
            try:
                begin_inventory(path, self.shown.layers[0].path)
            except OutputError:
                if not path.exists():  # Where it is there now, another window or another server was faster.
                    raise
        return path

    def layer(self, key: str) -> PageLayer:
        """A layer by its key; HTTP 404 where there is none."""
        if key not in self.tiles.layers:
            raise HTTPException(404, f"the run has no layer {key}.")
        return self.tiles.layers[key]

    def count(self, part: str) -> Future[Counted]:
        """The counts of a part, begun where they were not."""
        with self.lock:
            probability, label = self.run.probability, self.run.label
            if part not in self.parts() or probability is None or label is None:
                raise HTTPException(404, f"the run cannot score the part {part}.")
            rasters = [path for path in (probability, label, self.run.split) if path is not None]
            key = part, *(stamp(path) for path in rasters)
            if key not in self.scores:
                self.scores[key] = self.counters.submit(count_probabilities, probability, label, self.run.split, part)
            return self.scores[key]

    def close(self) -> None:
        """Let the threads go."""
        self.readers.shutdown(wait=False, cancel_futures=True)
        self.counters.shutdown(wait=False, cancel_futures=True)
