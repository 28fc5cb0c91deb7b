"""What the tree is measured by: rooms, files, functions, calls and types; `make check` prints it.

Each figure has a target, and the figure that was reached, which may not grow: exit code 1 where one does. `--list`
names what counts towards a target that is missed.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "landslip"
POSITIONAL, FILE_LINES, FUNCTION_LINES, PROSE = 5, 400, 60, 120
TARGETS = {  # the target, and what was reached
    "rooms": (25, 25),
    "files of more than 400 lines": (0, 0),
    "functions of more than 60 lines": (3, 0),
    "own calls with more than 5 positional arguments": (0, 0),
    "classes defined twice": (0, 0),
    "dict[str, Any]": (40, 4),
    "type: ignore": (10, 5),
    "public names without a docstring, per cent": (5, 0.1),
    "lines of prose over 120 characters": (0, 0),
}


def modules() -> Iterator[tuple[Path, ast.Module, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        yield path, ast.parse(text), text


def names_of(tree: ast.Module) -> set[str]:
    """Functions and classes that a module defines, methods too."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


def public(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Public functions and classes at the top of a module, and public methods."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            for inner in node.body if isinstance(node, ast.ClassDef) else []:
                if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
                    yield inner


def measured() -> tuple[dict[str, float], dict[str, list[str]], int]:
    """Each figure, what counts towards it, and the lines of the package, page included."""
    found: dict[str, list[str]] = {name: [] for name in TARGETS}
    rooms = {path.relative_to(PACKAGE).parts[0] for path in PACKAGE.rglob("*.py")} - {"__init__.py"}
    found["rooms"] = sorted(rooms)
    own = {name for _, tree, _ in modules() for name in names_of(tree)}
    classes: Counter[str] = Counter()
    documented = every = 0
    for path, tree, text in modules():
        place = path.relative_to(ROOT).as_posix()
        classes.update(node.name for node in tree.body if isinstance(node, ast.ClassDef))
        found["type: ignore"] += [place] * text.count("# type: ignore")
        found["dict[str, Any]"] += [place] * text.count("dict[str, Any]")
        for node in public(tree):
            every += 1
            documented += ast.get_docstring(node) is not None
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > FUNCTION_LINES:
                    found["functions of more than 60 lines"].append(f"{place}:{node.lineno} {node.name} {length}")
            elif isinstance(node, ast.Call) and len(node.args) > POSITIONAL:
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                if name in own:
                    found["own calls with more than 5 positional arguments"].append(f"{place}:{node.lineno} {name}")
    found["classes defined twice"] = [name for name, count in classes.items() if count > 1]
    total = 0
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix in (".py", ".js", ".css", ".html"):
            lines = path.read_text(encoding="utf-8").splitlines()
            total += len(lines)
            if len(lines) > FILE_LINES:
                found["files of more than 400 lines"].append(f"{path.relative_to(ROOT)} {len(lines)}")
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if (
                len(line) > PROSE
                and "|" not in line
                and "http" not in line
                and line[:4].strip()
                and not line.startswith("!")
            ):
                found["lines of prose over 120 characters"].append(f"{path.relative_to(ROOT)}:{number}")
    figures: dict[str, float] = {name: len(places) for name, places in found.items()}
    figures["public names without a docstring, per cent"] = round(100 * (1 - documented / every), 1)
    return figures, found, total


def main() -> int:
    figures, places, total = measured()
    grown = [name for name, (_, reached) in TARGETS.items() if figures[name] > reached]
    for name, (target, reached) in TARGETS.items():
        verdict = "GREW" if name in grown else "missed" if figures[name] > target else "kept"
        print(f"{verdict:<7}{name}: {figures[name]:g} (target {target}, reached {reached:g})")
        if "--list" in sys.argv and verdict != "kept":
            print(*(f"           {place}" for place in places[name]), sep="\n")
    print(f"       lines of the package, page included: {total:,}")
    return int(bool(grown))


if __name__ == "__main__":
    raise SystemExit(main())
