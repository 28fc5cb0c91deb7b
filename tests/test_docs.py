"""What the documents, the messages and `--help` say can be done, can be done."""

import ast
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import click
import pytest
from command import command
from conftest import TinySite
from pydantic import BaseModel
from rasterio.rio.main import main_group
from typer.main import get_command

from landslip.cli import main
from landslip.config.run import Run
from landslip.config.site import Site, read_site
from landslip.config.strict import _model_at
from landslip.patches.content import PatchTable
from landslip.preparation.prepare import prepare

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTS += [path for path in (ROOT / "CONTRIBUTING.md", ROOT / "DESIGN.md") if path.exists()]
PIPELINE = [
    "check",
    "prepare",
    "import",
    "train",
    "ensemble",
    "calibrate",
    "quantize",
    "map",
    "inventory",
    "evaluate",
    "intervals",
    "importance",
    "compare",
    "ladder",
    "transfer",
    "report",
    "serve",
    "correct",
    "qgis",
    "export",
    "stac",
    "demo",
    "info",
]
SOURCES = sorted((ROOT / "landslip").rglob("*.py"))

group = get_command(main.app)
assert isinstance(group, click.Group) or hasattr(group, "commands")
COMMANDS = group.commands  # type: ignore[attr-defined]
OPTIONS = {name for found in COMMANDS.values() for option in found.params for name in option.opts} | {
    "--help",
    "--version",
}
RIO = ("edit-info", "warp", "stack", "convert")  # rasterio's own commands, which messages name
RIO_OPTIONS = {text for name in RIO for option in main_group.commands[name].params for text in option.opts}


def fenced(path: Path, language: str) -> Iterator[str]:
    """The code blocks of a language in a document, without what they are indented by."""
    for indent, block in re.findall(rf"^([ ]*)```{language}\n(.*?)^[ ]*```", path.read_text(), re.M | re.S):
        yield re.sub(rf"^{indent}", "", block, flags=re.M)


def lines_with_commands() -> Iterator[tuple[str, str]]:
    """(document, command line) of every `landslip ...` in code of the documents and the Makefile."""
    for path in DOCUMENTS:
        text = path.read_text()
        code = re.findall(r"`([^`\n]+)`", text)
        code += re.findall(r"^ {4,}(\S.*)$", text, re.M)
        code += [
            line.strip()
            for block in re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.M | re.S)
            for line in block.split("\n")
        ]
        yield from ((path.name, line) for line in code if re.match(r"(\S*/)?landslip [a-zA-Z-]", line))
    makefile = (ROOT / "Makefile").read_text()
    yield from (("Makefile", line) for line in re.findall(r"^\t\$\(BIN\)/(landslip .*)$", makefile, re.M))


LINES = sorted(set(lines_with_commands()))


def test_there_are_command_lines_to_test() -> None:
    assert {name for name, _ in LINES} >= {"README.md", "Makefile"}
    assert {line.split()[1] for _, line in LINES} >= set(PIPELINE)


@pytest.mark.parametrize("document, line", LINES, ids=[f"{name}: {line}" for name, line in LINES])
def test_a_command_line_of_the_documents_is_one(document: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    if words[0] in ("COMMAND", "--help"):  # any of them
        return
    assert words[0] in COMMANDS, f"{document}: no command {words[0]}"
    if len(words) > 1:  # a bare `landslip map` only names the command
        COMMANDS[words[0]].make_context(words[0], words[1:])  # UsageError where an argument or option is wrong
    for word in words[1:]:
        if word.startswith(("runs/", "sites/")):
            assert (ROOT / word).exists(), f"{document}: no {word}"
    for key in re.findall(r"--set (\w+\.\w+)=", line):
        assert known(*key.split(".")), f"{document}: no choice {key}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_an_option_named_in_a_document_exists(path: Path) -> None:
    for option in re.findall(r"`(--[a-z-]+)[ `]", path.read_text()):
        assert option in OPTIONS, f"{path.name}: no option {option}"


def test_examples_of_site_and_run_files_are_valid() -> None:
    examples = [tomllib.loads(text) for path in DOCUMENTS for text in fenced(path, "toml")]
    sites = [value for value in examples if "name" in value]
    assert sites and len(sites) < len(examples)
    for value in examples:
        (Site if "name" in value else PatchTable if "image" in value else Run).model_validate(value)


def test_examples_in_python_name_what_exists() -> None:
    examples = [text for path in DOCUMENTS for text in fenced(path, "python")]
    assert examples
    for text in examples:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


def test_the_readme_says_how_python_has_the_figures_of_prepare(tiny: TinySite) -> None:
    told = (ROOT / "README.md").read_text().partition("## From Python")[2].partition("\n## ")[0]
    assert "prepare(..., figures=True)" in told
    prepare(read_site(tiny.site), tiny.folder / "bare")
    assert not (tiny.folder / "bare" / "figures").exists()
    prepare(read_site(tiny.site), tiny.folder / "drawn", figures=True)
    assert (tiny.folder / "drawn" / "figures" / "study_area.png").exists()


def test_the_readme_lists_every_command_in_the_order_of_the_pipeline() -> None:
    table = re.findall(r"^\| `landslip (\w+)", (ROOT / "README.md").read_text(), re.M)
    assert table == PIPELINE == list(COMMANDS)


def test_a_stale_figure_is_found_and_no_other(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("drawn", ROOT / "docs" / "figures.py")
    assert spec is not None and spec.loader is not None
    drawn = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drawn)
    shutil.copytree(drawn.OUT, tmp_path / "figures")
    old = tmp_path / "figures" / "framework.svg"
    old.write_text(old.read_text() + "<!-- halo of 64 px -->")
    assert drawn.stale(tmp_path / "figures") == ["framework.svg"]


# ---- messages ----


def texts(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_remedy_names_commands_options_and_keys_that_exist(path: Path) -> None:
    for text in texts(path):
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text):
            assert option in OPTIONS | RIO_OPTIONS, text
        for name in re.findall(r"`rio ([\w-]+)", text):
            assert name in main_group.commands, text
        for name in re.findall(r"`landslip (\w+)", text):
            assert name in COMMANDS, text
        for table, key in re.findall(r"\[(\w+)\] (?:or )?(\w+)(?= =|,| \(now|\.|\))", text):
            assert known(table, key), text


def known(table: str, key: str) -> bool:
    models: list[type[BaseModel]] = [m for m in (Site, Run, PatchTable) if table in m.model_fields]
    return any(key in _model_at(model, (table,)).model_fields for model in models)


# ---- help ----


def test_help_lists_the_commands_in_the_order_of_the_pipeline() -> None:
    outcome = command("--help")
    groups = dict(re.findall(r"^([A-Z].*):\n((?:  .*\n?)+)", outcome.out, re.M))
    assert list(groups) == ["Options", "Site", "Train", "Map", "Judge", "Hand over", "Try and look"]
    listed = [re.findall(r"^  (\w+) ", text, re.M) for text in groups.values()]
    assert outcome.code == 0 and [name for names in listed for name in names] == PIPELINE
    training = ["train", "ensemble", "calibrate", "quantize"]
    assert listed[1:4] == [["check", "prepare", "import"], training, ["map", "inventory"]]


@pytest.mark.parametrize("name", PIPELINE)
def test_a_summary_fits_a_terminal_and_is_a_sentence(name: str) -> None:
    first = (COMMANDS[name].help or "").split("\n\n")[0]
    assert first.endswith(".") and "\n" not in first
    assert re.search(rf"^  {name} +{re.escape(first)}$", command("--help").out, re.M)  # whole, in 80 columns
    assert COMMANDS[name].rich_help_panel


def test_the_version_is_that_of_the_package() -> None:
    outcome = command("--version")
    assert (outcome.code, outcome.out, outcome.err) == (0, f"landslip {version('landslip')}\n", "")
    done = subprocess.run([sys.executable, "-m", "landslip", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == outcome.out


@pytest.mark.parametrize("name", PIPELINE)
def test_a_command_explains_itself_and_every_option(name: str) -> None:
    outcome = command(name, "--help")
    assert outcome.code == 0 and outcome.err == ""
    assert (COMMANDS[name].help or "").strip().split("\n")[0][:40] in outcome.out
    for option in COMMANDS[name].params:
        assert all(text in outcome.out for text in option.opts if text.startswith("--"))


def test_help_is_quick_because_nothing_heavy_is_loaded() -> None:
    code = (
        "import sys\nfrom landslip.cli import main as cli\nsys.argv = ['landslip', 'train', '--help']\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'rasterio', 'geopandas', 'numpy', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
