"""The layers of DESIGN.md: imports go down only; only raster.py, geotiff.py and vector.py open files of those kinds."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "landslip"
LAYERS = [
    ["errors", "progress", "archive", "palette"],
    ["metrics", "grid", "output", "provenance", "folder", "style", "compiled", "cores"],
    [
        "factors",
        "models",
        "bootstrap",
        "powerlaw",
        "ranking",
        "applicability",
        "domain",
        "geodesy",
        "identity",
        "pieces",
        "whole",
        "pansharpen",
        "resample",
    ],
    ["calibration"],
    ["raster", "vector", "tables", "review"],
    ["geotiff", "warping", "landslides"],
    ["scene"],
    ["site", "run"],
    ["terrain_synthesis", "images"],
    ["synthetic", "stack", "label", "cartography"],
    ["attributes", "coregistration", "patch_files", "class_maps"],
    ["plausibility"],
    ["standardize", "patch_channels"],
    ["split", "blocks"],
    ["checkpoint", "compute", "ahead", "audit", "ground", "plan", "ledger"],
    ["quantized"],
    ["engine"],
    ["job"],
    ["cluster"],
    ["training_pixels", "state"],
    ["likeness"],
    ["train", "inference"],
    ["inventory", "evaluate", "baselines", "forecast"],
    ["inventory_scores"],
    ["check", "draw"],
    ["figures", "document"],
    ["prepare", "info", "compare", "intervals", "calibrate", "transfer", "quantize"],
    ["impurity", "permutation", "ablation"],
    ["demo", "patches", "comparison", "importance", "ladder"],
    ["report", "qgis", "stac", "correct", "serve"],
    ["export"],
    ["cli"],
    ["__main__"],
]
LEVEL = {name: i for i, names in enumerate(LAYERS) for name in names}
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py" or p.parent != PACKAGE)


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_a_module_imports_lower_layers_only(path: Path) -> None:
    own = layer_of(path)
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "landslip" and len(parts) > 1 and parts[1] in LEVEL and parts[1] != own:
            assert LEVEL[parts[1]] < LEVEL[own], f"{own} imports {name}, which is not in a lower layer"


def test_every_module_has_a_layer() -> None:
    assert {layer_of(path) for path in MODULES} == set(LEVEL)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_only_raster_and_vector_open_such_files(path: Path) -> None:
    if layer_of(path) in ("raster", "geotiff", "vector"):
        return
    text = path.read_text(encoding="utf-8")
    for call in ("rasterio.open", "read_file(", ".to_file(", "pyogrio.", "fiona"):
        assert call not in text, f"{path.name} uses {call}"
    if path.relative_to(PACKAGE).as_posix() != "serve/tiles.py":
        assert not any(name.split(".")[0] == "rio_tiler" for name in imported(path)), "tiles are cut in serve/tiles.py"
    if layer_of(path) != "review":
        assert "sqlite3" not in imported(path), "only review.py and vector.py know what a GeoPackage is inside"
    assert "pickle" not in imported(path) and "torch.load" not in text
