"""The rooms of DESIGN.md: imports go down only, and in no circle; only geo/ opens rasters and vectors."""

import ast
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "landslip"
FLOORS = [
    ["errors"],
    ["runtime"],
    ["metrics", "models", "geo", "factors"],
    ["scenes"],
    ["config"],
    ["dataset"],
    ["plots"],
    ["review"],
    ["preparation", "training"],
    ["patches", "inference", "inventory", "evaluation"],
    ["importance", "experiments"],
    ["report", "serve", "export", "demo"],
    ["cli"],
    ["__main__"],
]
FLOOR = {room: i for i, rooms in enumerate(FLOORS) for room in rooms}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
every_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path) -> set[str]:
    """Everything that a module imports, also inside functions; of `from a import b` both a and a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


@every_module
def test_a_module_imports_from_lower_floors_only(path: Path) -> None:
    own = room_of(path)
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] == "landslip" and len(parts) > 1 and parts[1] in FLOOR and parts[1] != own:
            assert FLOOR[parts[1]] < FLOOR[own], f"{module_of(path)} imports {name}, which is not on a lower floor"


def test_no_module_imports_itself_in_a_circle() -> None:
    modules = {module_of(path) for path in MODULES}
    sorter = TopologicalSorter({module_of(path): (imports_of(path) & modules) - {module_of(path)} for path in MODULES})
    sorter.prepare()  # CycleError names the circle


def test_every_room_has_a_floor() -> None:
    assert {room_of(path) for path in MODULES} == set(FLOOR)


def test_no_class_has_the_name_of_another() -> None:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in MODULES]
    names = Counter(node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef))
    assert [name for name, count in names.items() if count > 1] == []


@every_module
def test_only_geo_opens_rasters_and_vectors(path: Path) -> None:
    place = path.relative_to(PACKAGE).as_posix()
    if place in ("geo/raster.py", "geo/geotiff.py", "geo/vector.py", "geo/geopackage.py"):
        return
    text = path.read_text(encoding="utf-8")
    for call in ("rasterio.open", "read_file(", ".to_file(", "pyogrio.", "fiona"):
        assert call not in text, f"{place} uses {call}"
    libraries = {name.split(".")[0] for name in imports_of(path)}
    assert "rio_tiler" not in libraries or place == "serve/tiles.py", "tiles are cut in serve/tiles.py"
    if not place.startswith("review/"):
        assert "sqlite3" not in libraries, "only review/ and geo/geopackage.py know what a GeoPackage is inside"
    assert "pickle" not in libraries and "torch.load" not in text
