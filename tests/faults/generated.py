"""Bad inputs that Hypothesis makes up, where `corpus.py` changes good ones: `python generated.py GOOD/ --examples 200`.

Run and site files of every key the program knows, with plausible and odd values in any combination; Landsat metadata;
outlines of any shape; probability rasters of any type, size and content. Each is read in a fork of its own, as the
corpus's cases are, and must end well or be refused; what fails is made as small as Hypothesis can.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults import corpus  # first: it asks for one thread  # isort: skip

import argparse
import datetime
import json
import tempfile
import tomllib
import traceback
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import hypothesis.strategies as st
import numpy as np
import rasterio
import shapely
from affine import Affine
from conftest import CRS_UTM, GRID, frame
from hypothesis import HealthCheck, Phase, given, seed, settings
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from landslip.config.run import Run
from landslip.config.site import Site

PATHS = ("image.tif", "dem.tif", "outline.gpkg", "rivers.gpkg", "faults.gpkg", "rocks.gpkg", "landslides.gpkg")
NAMES = ("red", "nir", "elevation", "EPSG:32649", "inventory", "rock", "fc_densenet", "unet", "x", "", "all")
LEFT, BOTTOM, RIGHT, TOP = GRID.bounds

number = st.one_of(
    st.integers(0, 40), st.integers(), st.floats(width=32), st.floats(), st.sampled_from((LEFT, TOP, 15.0, 1e-9))
)
word = st.one_of(st.sampled_from((*NAMES, *PATHS)), st.text(st.characters(exclude_categories=("Cs",)), max_size=12))
scalar = st.one_of(st.booleans(), number, word, st.dates(), st.datetimes(timezones=st.just(datetime.UTC)))
odd = st.recursive(scalar, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(word, inner, max_size=3))


# ---- site and run files ----


def fitting(annotation: Any) -> st.SearchStrategy[Any]:
    """Values of the type that a key takes, in range or not."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return fitting(inner[0])
    if origin is Literal:
        return st.sampled_from(inner)
    if origin in (Union, UnionType):
        return st.one_of(fitting(one) for one in inner if one is not type(None))
    if origin is tuple and inner[-1] is not ...:
        return st.tuples(*map(fitting, inner)).map(list)
    if origin is tuple:
        return st.lists(fitting(inner[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(word, fitting(inner[1]), max_size=3)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return table(annotation)
    ways: dict[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(-1, 70) | st.integers(),
        float: st.floats(0, 100) | number,
        Path: st.sampled_from(PATHS),
        str: word,
        datetime.date: st.dates(),
    }
    return ways.get(annotation, odd)


def table(model: type[BaseModel]) -> st.SearchStrategy[dict[str, Any]]:
    """A table with some of a model's keys: those it needs, and now and then one it does not know."""
    needed, free = {}, {}
    for name, field in model.model_fields.items():
        value = st.one_of(fitting(field.annotation), fitting(field.annotation), fitting(field.annotation), odd)
        (needed if field.default is PydanticUndefined else free)[name] = value
    made = st.fixed_dictionaries(needed, optional=free)
    return st.one_of(
        made, made, made, st.tuples(made, st.dictionaries(word, odd, max_size=1)).map(lambda t: t[0] | t[1])
    )


def toml(value: Any) -> str:
    """A value as TOML has it, in a line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{toml(key)} = {toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value) if isinstance(value, bool) else repr(value)


def changed(good: dict[str, Any], model: type[BaseModel]) -> st.SearchStrategy[bytes]:
    """A good file with one to three tables made up: a key or two of each most often, so that the rest is read."""
    fields = model.model_fields

    def over(kept: Any, made: Any) -> Any:
        if isinstance(kept, list):
            return [kept[0] | made, *kept[1:]]
        return (kept or {}) | made

    def some(name: str) -> st.SearchStrategy[Any]:
        whole, inner = fitting(fields[name].annotation) | odd, model_in(fields[name].annotation)
        if inner is None:
            return whole
        key = st.sampled_from(sorted(inner.model_fields))
        value = key.flatmap(lambda one: st.tuples(st.just(one), fitting(inner.model_fields[one].annotation)))
        few = st.lists(value, min_size=1, max_size=2).map(lambda pairs: over(good.get(name), dict(pairs)))
        return st.one_of(few, few, few, whole)

    chosen = st.sets(st.sampled_from(sorted(fields)), min_size=1, max_size=3)
    new = chosen.flatmap(lambda names: st.fixed_dictionaries({name: some(name) for name in sorted(names)}))
    return new.map(lambda made: lines_of(good | made))


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The table that a key holds, one or several of them; None where it holds a value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(model_in, get_args(annotation))), None)


def lines_of(value: dict[str, Any]) -> bytes:
    return "".join(f"{toml(key)} = {toml(one)}\n" for key, one in value.items()).encode()


# ---- Landsat metadata ----


def metadata(good: Path) -> st.SearchStrategy[bytes]:
    """The groups of a good file, some left out, some lines of them with other values or under other keys."""
    outer, groups = "", dict[str, list[tuple[str, str]]]()
    for line in good.read_text().splitlines():
        key, _, value = line.strip().partition(" = ")
        if key == "GROUP" and not outer:
            outer = value
        elif key == "GROUP":
            groups[value] = []
        elif value and key != "END_GROUP":
            groups[list(groups)[-1]].append((key, value))
    pairs = st.sampled_from([pair for own in groups.values() for pair in own])
    said = st.one_of(pairs.map(lambda pair: pair[1]), number.map(repr), word.map(lambda text: f'"{text}"'))
    other = st.tuples(pairs.map(lambda pair: pair[0]), said)

    def text(gone: set[str], others: list[tuple[str, str]], turned: bool) -> bytes:
        instead, found = dict(others), [f"GROUP = {outer}"]
        for name, own in reversed(groups.items()) if turned else groups.items():
            if name not in gone:
                lines = [f"{key} = {instead.get(key, value)}" for key, value in own]
                found += [f"GROUP = {name}", *lines, f"END_GROUP = {name}"]
        return ("\n".join([*found, f"END_GROUP = {outer}", "END"]) + "\n").encode()

    gone = st.sets(st.sampled_from(sorted(groups)), max_size=1)
    return st.builds(text, gone, st.lists(other, max_size=4), st.booleans())


# ---- outlines and rasters ----

position = st.tuples(
    st.floats(LEFT - 100, RIGHT + 100) | st.integers(-5, 5).map(float) | st.sampled_from((LEFT, RIGHT, 1e9)),
    st.floats(BOTTOM - 100, TOP + 100) | st.sampled_from((BOTTOM, TOP, -1e9)),
)
ring = st.lists(position, min_size=3, max_size=7)
polygon = st.builds(shapely.Polygon, ring, st.lists(ring, max_size=2))
line = st.builds(shapely.LineString, st.lists(position, min_size=2, max_size=4))
shape = st.one_of(
    polygon, polygon, st.lists(polygon, max_size=3).map(shapely.MultiPolygon), line, position.map(shapely.Point),
    st.lists(st.one_of(polygon, line), max_size=2).map(shapely.GeometryCollection),
)  # fmt: skip


def outlines(shapes: list[shapely.Geometry]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "landslides.gpkg"
        frame(shapes, id=list(range(len(shapes)))).to_file(path)
        return path.read_bytes()


@st.composite
def probability(draw: st.DrawFn) -> bytes:
    """A raster as large as the site or of another size, of probabilities or of anything."""
    rows, columns = draw(st.one_of(st.just(GRID.shape), st.tuples(st.integers(1, 70), st.integers(1, 70))))
    dtype = draw(st.sampled_from((*["float32"] * 5, "float64", "uint8", "int16")))
    levels = draw(
        st.lists(st.floats(0, 1, width=32) | st.sampled_from((np.nan, np.inf, -1.0, 2.0)), min_size=1, max_size=4)
    )
    with np.errstate(all="ignore"):
        known = np.array(levels).astype(dtype)
    blobs = np.random.default_rng(draw(st.integers(0, 9))).integers(0, len(known), (rows // 5 + 1, columns // 5 + 1))
    values = np.kron(known[blobs], np.ones((5, 5), dtype))[:rows, :columns]
    profile: dict[str, Any] = {"driver": "GTiff", "height": rows, "width": columns, "count": 1, "dtype": dtype}
    profile["crs"] = draw(st.sampled_from((*[CRS_UTM] * 6, "EPSG:4326", None)))
    size = draw(st.sampled_from((*[15.0] * 6, 1e-3, 1e6)))
    turn = draw(st.sampled_from((*[0.0] * 8, 3.0)))
    profile["transform"] = Affine(size, turn, LEFT, turn, -size, TOP)
    profile["nodata"] = draw(st.sampled_from((None, np.nan, 0.0))) if dtype.startswith("float") else None
    profile |= draw(st.sampled_from(({}, {"tiled": True, "blockxsize": 16, "blockysize": 16}, {"compress": "deflate"})))
    tags = draw(
        st.dictionaries(st.sampled_from(("threshold", "values", "engine", "damaged", "channels")), word, max_size=2)
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.tif"
        with rasterio.open(path, "w", **profile) as dataset:
            dataset.write(values[None])
            dataset.update_tags(**{key: value.replace("\0", "") for key, value in tags.items()})
        return path.read_bytes()


# ---- all of them ----


def strategies(good: Path) -> dict[str, tuple[str, st.SearchStrategy[bytes]]]:
    """By name: the kind of the corpus that it stands in for, and what is read in its place."""
    return {
        "run": ("run.toml", changed(tomllib.loads((good / "run.toml").read_text()), Run)),
        "site": ("site.toml", changed(tomllib.loads((good / "site.toml").read_text()), Site)),
        "metadata": ("landsat txt", metadata(good / "landsat_txt" / "LANDSAT_MTL.txt")),
        "outlines": ("landslides", st.lists(shape, max_size=4).map(outlines)),
        "probability": ("probability", probability()),
    }


def tried(name: str, good: Path, place: Path, examples: int, drawn: int) -> dict[str, Any]:
    """How many examples of a strategy ended how; and the smallest that failed, with what was said."""
    kind_name, contents = strategies(good)[name]
    kind = corpus.kinds()[kind_name]
    failing = Path(tempfile.gettempdir()) / f"landslip_failing_{name}{Path(kind.file).suffix}"
    found: dict[str, Any] = {"tries": 0, "well": 0, "refused": 0, "faults": []}

    # no database: what failed once is a test of its own then
    @settings(
        max_examples=examples, database=None, phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @seed(drawn)
    @given(contents, st.sampled_from(range(len(kind.takers))))
    def read(content: bytes, taker: int) -> None:
        alone = corpus.replace(kind, mutator=lambda *_: content, takers=(kind.takers[taker],))
        outcome = corpus.attempt(good, place, name, 0, alone)
        found["tries"] += 1
        if outcome.ended == "failed":
            failing.write_bytes(content)  # the last that Hypothesis tries is the smallest
            raise AssertionError(f"{outcome.taker} of {failing} ({content[:300]!r}): {outcome.said}")
        found[outcome.ended] += 1

    try:
        read()
    except AssertionError as error:
        found["faults"].append(str(error))
    except Exception:  # several at once, or a strategy that is wrong itself
        found["faults"].append(traceback.format_exc()[-6000:])
    if not (found["well"] and found["refused"] and found["tries"] >= examples / 2):
        found["faults"].append(f"nothing is tried by examples that end like this: {found}")
    return found


def main() -> int:
    """Print what became of every strategy's examples, as JSON. Exit code 1 where any failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("finished", type=Path)
    parser.add_argument("--examples", type=int, default=200, help="of each strategy")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=["run", "site", "metadata", "outlines", "probability"])
    given_ = parser.parse_args()
    corpus.import_all()
    with tempfile.TemporaryDirectory(prefix="faults") as scratch:
        good, place = Path(scratch) / "good", Path(scratch) / "case"
        corpus.in_fork(lambda: corpus.write_good(given_.finished.resolve(), good))
        corpus.warm_up(good, place)
        found = {name: tried(name, good, place, given_.examples, given_.seed) for name in given_.only}
    print(json.dumps(found, indent=2))
    return int(any(one["faults"] for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
