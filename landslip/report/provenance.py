"""What a run was made from and with, and the commands that make it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from landslip.dataset.split import by_part_text
from landslip.errors import LandslipError
from landslip.geo.raster import read_info
from landslip.report.base import Workspace, holding, number, read_json_table, read_quietly
from landslip.report.html import Block, Facts, Listing, Table, Text
from landslip.runtime.disk import file_hash
from landslip.runtime.progress import plural
from landslip.runtime.run_folder import PLACES
from landslip.training.model_files import WEIGHTS


def agreement(workspace: Workspace) -> Iterator[Block]:
    """A warning where the map is not of this folder's model, or the inventory not of this map's."""
    model = read_quietly(workspace.run.model).get("weights_sha256")
    paths = [path for path in (workspace.run.probability, workspace.run.landslide_map) if path is not None]
    for path in paths:
        sha256 = read_info(path).tags.get("model_sha256")
        if model and sha256 and sha256 != model:
            yield Text(
                f"{workspace.name(path)} was made by another model ({sha256[:12]}...) than the one in this folder "
                f"({str(model)[:12]}...): the training below is not that of the map.",
                "warning",
            )


def provenance(workspace: Workspace) -> list[Block]:
    """Inputs, software, corrections, the site and run files, and the commands that make the run again."""
    run = workspace.run
    blocks: list[Block] = []
    if run.manifest is not None:
        manifest = run.manifest
        blocks += workspace.attempt(manifest, lambda: _prepared_from(read_json_table(manifest)))
    else:
        blocks += workspace.lacks("manifest")
    for corrected in holding(workspace, "manifest.json", "corrected"):
        blocks += workspace.attempt(corrected, partial(_corrected, workspace, corrected))
    if run.model is not None:
        model = run.model
        blocks += workspace.attempt(model, lambda: _trained_from(read_json_table(model)))
        blocks += workspace.attempt(model, lambda: _weights(workspace, model))
    if run.probability is not None:
        probability = run.probability
        blocks += workspace.attempt(probability, lambda: _tags(workspace, probability))
    for path, what in ((run.site, "The site file"), (run.run, "The run file")):
        if path is not None:
            blocks += workspace.attempt(path, partial(_listed, path, f"{what}, {path.name}."))
    blocks.append(Listing("Commands that make this run again; RUN is its folder.", "\n".join(_commands(workspace))))
    return blocks


def _prepared_from(manifest: Mapping[str, Any]) -> Iterator[Block]:
    rows = [
        [str(item.get("what", item.get("file"))), _file(item), str(item["sha256"])]
        for item in _items(manifest["inputs"])
    ]
    if rows:
        yield Table("Inputs, by their SHA-256.", ["Input", "File", "SHA-256"], rows, left=3)
    yield Facts([("Prepared with", _versions(manifest["software"])), ("Encoding", str(manifest["encoding"]))])
    for text in manifest.get("warnings") or []:
        yield Text(f"When the site was prepared: {text}", "warning")
    states = manifest.get("landslides_by_review") or {}
    if states:
        yield Text("The landslides are a reviewed inventory: "
                   + ", ".join(f"{count} {state}" for state, count in states.items())
                   + ". Rejected ones are other ground, open ones unknown.")  # fmt: skip
    lost = manifest.get("landslides_that_burn_to_no_pixel") or []
    if lost:
        yield Text(f"Too small to burn to a pixel: {plural(len(lost), 'drawn landslide')}, "
                   + ", ".join(map(str, lost[:20]))
                   + (" ..." if len(lost) > 20 else ""))  # fmt: skip


def _listed(path: Path, caption: str) -> Iterator[Block]:
    yield Listing(caption, path.read_text(encoding="utf-8-sig").rstrip())


def _corrected(workspace: Workspace, path: Path) -> Iterator[Block]:
    """By what a label was corrected, and in which part of the split the pixels lie that changed."""
    correction = read_json_table(path)["corrected"]
    states = ", ".join(f"{count} {state}" for state, count in correction["landslides"].items())
    changed = [f"{int(number(correction[key])):,}" for key in ("pixels_to_landslide", "pixels_to_other")]
    by_part = correction.get("pixels_by_part") or {}
    yield Facts(
        [
            (f"Label of {workspace.name(path.parent)}/", f"corrected by {correction['inventory']}: {states}"),
            ("Pixels corrected", f"{changed[0]} to landslide, {changed[1]} to other ground"),
            (
                "Corrected pixels by part",
                by_part_text(by_part)
                if by_part
                else "unknown: the folder keeps no parts, and training draws them anew",
            ),
        ]
    )


def _file(item: Mapping[str, Any]) -> str:
    """The file that was hashed, and what is read of it where it is an archive."""
    return f"{item.get('file', '-')} ({item['member']})" if "member" in item else str(item.get("file", "-"))


def _items(inputs: Any) -> list[Mapping[str, Any]]:
    """The inputs of a manifest: a list of them, or (of imported patches) hashes by name."""
    if isinstance(inputs, dict):
        return [{"what": name, "file": name, "sha256": value} for name, value in inputs.items()]
    return list(inputs)


def _made_of(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How a model's weights came to be: arithmetic and seed, or of an ensemble the weights of each member."""
    if "members" not in facts:
        return [("Precision, seed", f"{facts['precision']}, {facts['seed']}")]
    return [
        (f"Member {count}, {member['network']}, seed {member['seed']}", f"SHA-256 {member['weights_sha256']}")
        for count, member in enumerate(facts["members"], 1)
    ]


def _trained_from(facts: Mapping[str, Any]) -> Iterator[Block]:
    machine = facts["machine"]
    rows = [
        ("Trained with", _versions(facts["software"])),
        ("On", f"{machine['system']}, {machine['processor']}, {plural(machine['threads'], 'thread')}, "
         f"{machine['memory_gib']} GiB, GPU {machine['gpu']}"),
        *_made_of(facts),
        *((f"{name}, when trained", f"SHA-256 {value}") for name, value in facts["site_inputs"].items()),
        ("Model", f"SHA-256 {facts['weights_sha256']}"),
    ]  # fmt: skip
    yield Facts([(str(name), str(value)) for name, value in rows])


def _weights(workspace: Workspace, path: Path) -> Iterator[Block]:
    weights = path.with_name(WEIGHTS)
    if weights.exists() and file_hash(weights) != read_json_table(path)["weights_sha256"]:
        yield Text(f"{workspace.name(weights)} is not the file that training wrote: its SHA-256 differs.", "warning")


def _tags(workspace: Workspace, path: Path) -> Iterator[Block]:
    tags = {key: value for key, value in sorted(read_info(path).tags.items()) if key != "AREA_OR_POINT"}
    if tags:
        yield Facts([(f"Map, {key}", value) for key, value in tags.items()])
    yield from agreement(workspace)


def _versions(software: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in software.items())


def _commands(workspace: Workspace) -> list[str]:
    run = workspace.run
    encoding = read_quietly(run.channels).get("encoding")
    lines = []
    if run.stack is not None:
        lines.append(
            "landslip prepare RUN/site.toml RUN/prepared" + (" --encoding paper" if encoding == "paper" else "")
        )
    if run.model is not None:
        lines.append("landslip train RUN/run.toml RUN/prepared RUN/model")
    if run.probability is not None:
        tags = _tags_of(run.probability)
        further = (" --method paper" if tags.get("method") == "paper" else "") + (
            f" --uncertainty --samples {tags['samples']}" if tags.get("samples") else ""
        )
        lines.append(f"landslip map RUN/model RUN/prepared/stack.tif RUN/map/probability.tif{further}")
    if run.inventory is not None:
        tags = {} if run.landslide_map is None else _tags_of(run.landslide_map)
        further = f" --min-area {tags['min_area']}" if tags.get("min_area") else ""
        if tags.get("threshold") and not tags.get("threshold_source", "").startswith("tag"):
            further += f" --threshold {tags['threshold']}"
        lines.append(f"landslip inventory RUN/map/probability.tif RUN/inventory/landslides.gpkg{further}")
    for path in run.scores:
        scores = read_quietly(path)
        split = " --split RUN/model/split.tif" if scores.get("split") not in (None, "unknown") else ""
        part = f" --part {scores['part']}" if scores.get("part") else ""
        lines.append(
            f"landslip evaluate RUN/map/probability.tif RUN/prepared/label.tif{split}{part} "
            f"--json RUN/{workspace.name(path)}"
        )
    for name in ("intervals", "importance", "comparison"):
        for path in getattr(run, name):
            command = PLACES[name][1].replace(f"RUN/{name}", f"RUN/{path.parent.name}")
            lines.append(command.replace(" run.toml", " RUN/run.toml"))
    lines.append("landslip report RUN REPORT.html")
    return lines


def _tags_of(path: Path) -> Mapping[str, str]:
    try:
        return read_info(path).tags
    except LandslipError:
        return {}
