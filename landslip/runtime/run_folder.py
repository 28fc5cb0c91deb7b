"""What a run folder holds, by name: the files that the report, the page and the QGIS project are made from.

    RUN/  site.toml  run.toml
          prepared/     stack.tif valid.tif label.tif channels.json manifest.json     of landslip prepare
                        table.csv  figures/ study_area.png factors.png factor_*.png
          model/        model.json model.safetensors split.tif history.csv            of landslip train
          map/          probability.tif                                               of landslip map
          inventory/    landslides.gpkg landslides.tif                                of landslip inventory
          scores/       *.json                                                        of landslip evaluate --json
          comparison/   comparison.json                                               of landslip compare
          importance/   importance.json                                               of landslip importance
          intervals/    intervals.json                                                of landslip intervals

Any of them may be missing; what is there is used. The last three may have any name, since they are known by the file
that they hold, and there may be several of each: whoever compared twice, into compare/ and compare_2/, has both.
The report also shows what `landslip correct`, `calibrate` and `transfer` wrote into folders of any name.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landslip.errors import DependencyError, ModelError, OutputError, RasterError

FIGURES, STUDY_AREA, FACTOR_SHEET = "figures", "study_area.png", "factors.png"  # in prepared/
RASTERS = ("stack", "valid", "label", "split", "probability", "landslide_map")
FOLDERS = ("prepared", "model", "map", "inventory", "scores", "comparison", "importance", "intervals")
ANALYSES = {name: f"{name}.json" for name in ("comparison", "importance", "intervals")}  # in a folder of any name
LADDER, FOLDS_SPLIT = "ladder.json", "folds_split.tif"  # in the folder of a ladder
PROBABILITY_FILE = "probability.tif"  # in the folder of each of its trainings
MOST_MEANT = 3  # files that a message names where a folder is given for a file
PLACES = {
    "site": ("site.toml", "an editor: see sites/ for examples"),
    "run": ("run.toml", "an editor: see runs/ for examples"),
    "stack": ("prepared/stack.tif", "landslip prepare site.toml RUN/prepared"),
    "valid": ("prepared/valid.tif", "landslip prepare site.toml RUN/prepared"),
    "label": ("prepared/label.tif", "landslip prepare site.toml RUN/prepared"),
    "channels": ("prepared/channels.json", "landslip prepare site.toml RUN/prepared"),
    "manifest": ("prepared/manifest.json", "landslip prepare site.toml RUN/prepared"),
    "table": ("prepared/table.csv", "landslip prepare site.toml RUN/prepared"),
    "study_area": (f"prepared/{FIGURES}/{STUDY_AREA}", "landslip prepare site.toml RUN/prepared"),
    "factors": (f"prepared/{FIGURES}/{FACTOR_SHEET}", "landslip prepare site.toml RUN/prepared"),
    "model": ("model/model.json", "landslip train run.toml RUN/prepared RUN/model"),
    "split": ("model/split.tif", "landslip train run.toml RUN/prepared RUN/model"),
    "history": ("model/history.csv", "landslip train run.toml RUN/prepared RUN/model"),
    "probability": ("map/probability.tif", "landslip map MODEL/ RUN/prepared/stack.tif RUN/map/probability.tif"),
    "inventory": (
        "inventory/landslides.gpkg",
        "landslip inventory RUN/map/probability.tif RUN/inventory/landslides.gpkg",
    ),
    "landslide_map": (
        "inventory/landslides.tif",
        "landslip inventory RUN/map/probability.tif RUN/inventory/landslides.gpkg",
    ),
    "comparison": ("comparison/comparison.json", "landslip compare run.toml RUN/prepared RUN/comparison"),
    "importance": ("importance/importance.json", "landslip importance RUN/prepared RUN/importance"),
    "intervals": ("intervals/intervals.json", "landslip intervals RUN/prepared RUN/intervals"),
}


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """The files of a run that exist; None for those that do not.

    `scores` are in the order of their names; so are `comparison`, `importance` and `intervals`, one for each folder
    that holds such a file, the folder of the same name first.
    """

    root: Path
    site: Path | None
    run: Path | None
    stack: Path | None
    valid: Path | None
    label: Path | None
    channels: Path | None
    manifest: Path | None
    table: Path | None
    study_area: Path | None
    factors: Path | None
    model: Path | None
    split: Path | None
    history: Path | None
    probability: Path | None
    inventory: Path | None
    landslide_map: Path | None
    scores: tuple[Path, ...]
    comparison: tuple[Path, ...]
    importance: tuple[Path, ...]
    intervals: tuple[Path, ...]

    def require(self, *names: str) -> None:
        """Raise RasterError where the folder lacks one of these files, with the command that makes it."""
        for name in names:
            if not getattr(self, name):
                path, command = PLACES[name]
                raise RasterError(f"{self.root} holds no {path}. Make it with `{command}`.")

    def raster(self, name: str) -> Any:
        """A raster of the run (stack, valid, label, split, probability or landslide_map), as an xarray.DataArray.

        (band, y, x) with its CRS, read when values are asked for; what is undefined is NaN. Raises DependencyError
        without rioxarray, RasterError for another name or what is not made yet.
        """
        if name not in RASTERS:
            raise RasterError(f"{name!r} is no raster of a run; they are {', '.join(RASTERS)}.")
        self.require(name)
        try:
            import rioxarray
        except ImportError as error:
            raise DependencyError("Rasters as xarray need rioxarray: pip install rioxarray.") from error
        return rioxarray.open_rasterio(getattr(self, name), masked=True)


def open_run(root: Path | str) -> RunFolder:
    """The files of a run folder. Raises OutputError for what is not a folder, or holds none of them."""
    root = Path(root)
    if not root.is_dir():
        meant = _run_meant(root)
        raise OutputError(
            f"{root} is not a folder. {meant or 'Give a run folder, such as the one `landslip demo` makes.'}"
        )
    files = {
        name: root / path if (root / path).exists() else None
        for name, (path, _) in PLACES.items()
        if name not in ANALYSES
    }
    analyses = {name: _analyses(root, name) for name in ANALYSES}
    scores = tuple(sorted((root / "scores").glob("*.json")))
    if not (any(files.values()) or any(analyses.values()) or scores):
        raise OutputError(
            f"{root} holds none of a run's folders ({', '.join(FOLDERS)}). "
            f"{_run_meant(root) or 'Give the folder that holds them.'}"
        )
    return RunFolder(
        root=root,
        scores=scores,
        comparison=analyses["comparison"],
        importance=analyses["importance"],
        intervals=analyses["intervals"],
        **files,
    )


def prepared_file(prepared: Path, name: str) -> Path:
    """A file of a prepared site; ModelError where it is not there."""
    path = prepared / name
    if not path.exists():
        meant = part_meant(prepared, "prepared", name) or " Make it with `landslip prepare`."
        raise ModelError(f"{path} does not exist: {prepared} is not a prepared site.{meant}")
    return path


def folder_given(path: Path, endings: Collection[str]) -> str:
    """The refusal of a folder where a file is wanted, with the files in it that may have been meant."""
    places = [place for place, _ in PLACES.values() if Path(place).suffix in endings]
    candidates = [path / place for place in places] + [path / Path(place).name for place in places]
    candidates += sorted(file for file in path.iterdir() if file.suffix.lower() in endings)
    names = [str(file) for file in dict.fromkeys(candidates) if file.is_file()][:MOST_MEANT]
    meant = " or ".join(", ".join(names).rsplit(", ", 1))
    return f"{path} is a folder: did you mean {meant}?" if names else f"{path} is a folder, and a file is wanted."


def part_meant(path: Path, part: str, name: str) -> str:
    """A question for a message: whether the `part` of a run folder (prepared, model) near `path` was meant instead.

    `name` is a file that such a part holds; empty where none is near.
    """
    candidates = (path.parent, path / part, path.parent / part)
    folder = next((str(place) for place in candidates if place != path and (place / name).is_file()), None)
    return f" Did you mean {folder}?" if folder else ""


def _run_meant(path: Path) -> str:
    """A question for a message: whether the run folder that a path lies in was meant; empty where it lies in none."""
    around = [folder for folder in path.parents if any((folder / place).exists() for place, _ in PLACES.values())]
    return f"Did you mean {around[0]}?" if around else ""


def _analyses(root: Path, name: str) -> tuple[Path, ...]:
    """The files of an analysis in a run's folders, hidden ones (half made) apart."""
    files = (path for path in root.glob(f"*/{ANALYSES[name]}") if not path.parent.name.startswith("."))
    return tuple(sorted(files, key=lambda path: (path.parent.name != name, path.parent.name)))
