"""`landslip demo`: the whole chain on a made-up site, as a user would run it, ending with scores on unseen ground."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from landslip.config.run import read_run
from landslip.config.site import read_site
from landslip.demo.scars import generate_scars
from landslip.demo.synthetic_site import SyntheticSite, generate, write_site
from landslip.errors import OutputError
from landslip.evaluation.evaluate import evaluate
from landslip.evaluation.result import Evaluation, score_table, write_scores
from landslip.inference.mapping import map_site
from landslip.inventory.inventory import make_inventory
from landslip.plots.curves import draw_history
from landslip.plots.maps import Panel, draw_input, draw_judged, draw_label, draw_probability, draw_split
from landslip.preparation.channel_summary import channel_table
from landslip.preparation.prepare import prepare
from landslip.runtime.progress import duration, say
from landslip.runtime.text import read_json, write_json, write_text
from landslip.training.checkpoint import load_model
from landslip.training.model_files import FACTS
from landslip.training.train import train

FULL = (616, 976)  # the paper's Site 1
QUICK = (320, 400)
DEMO_SEED = 2021

FULL_RUN = """\
# A run on the made-up site: choices, not facts about the place.

[blocks]
window = 64
step = 32
background = 1.0  # look-alikes far from landslides are seen too

[split]
kind = "apart"
regions = "squares"
region = 64

[network]
name = "fc_densenet"

[training]
epochs = 8
batch = 4
"""
QUICK_RUN = """\
# A short run on a small made-up site, with a shallower network.

[blocks]
window = 64
step = 16
background = 1.0

[split]
kind = "apart"
regions = "squares"
region = 64
guard = 32

[network]
name = "fc_densenet"
options = { layers = [2, 2, 2, 2, 2], first_width = 24, growth_rate = 12 }

[training]
epochs = 10
batch = 4
"""


Kind = Literal["rule", "scars"]
SITE_KINDS: dict[Kind, Callable[[int, tuple[int, int]], SyntheticSite]] = {"rule": generate, "scars": generate_scars}


def demo(
    folder: Path,
    quick: bool = False,
    seed: int = DEMO_SEED,
    *,
    kind: Kind = "rule",
    factors: bool = True,
    overwrite: bool = False,
) -> Evaluation:
    """Make a site, prepare, train, map, inventory and evaluate it in `folder`, a run folder.

    `kind` says how landslides are told: by a rule on factors (synthetic_site.py), or by their shape (scars.py). The
    same call goes on where an interrupted one stopped; a finished or different one is refused unless `overwrite`.
    """
    began = time.monotonic()
    _claim(folder, {"quick": quick, "seed": seed, "factors": factors, "kind": kind}, overwrite)
    shape, text = (QUICK, QUICK_RUN) if quick else (FULL, FULL_RUN)
    if not factors:
        text += '\n[channels]\nfactors = "none"\n'
    site_file, run_file = folder / "inputs" / "site.toml", folder / "run.toml"
    stack = folder / "prepared" / "stack.tif"
    probability, gpkg = folder / "map" / "probability.tif", folder / "inventory" / "landslides.gpkg"

    def unless_there(result: Path, what: str, step: Callable[[], object]) -> None:
        if not result.exists():
            say(f"-- {what}")
            step()

    unless_there(
        site_file,
        f"a made-up site ({kind}), seed {seed}, {shape[0]} x {shape[1]} pixels of 15 m",
        lambda: write_site(SITE_KINDS[kind](seed, shape), site_file.parent, overwrite=True),
    )
    write_text(run_file, text, overwrite=True)
    write_text(folder / "site.toml", _at_root(site_file), overwrite=True)
    unless_there(
        stack,
        "landslip prepare site.toml prepared/ --no-figures",
        lambda: say(channel_table(prepare(read_site(site_file), stack.parent))),
    )
    unless_there(
        folder / "model" / FACTS,
        "landslip train run.toml prepared/ model/",
        lambda: train(read_run(run_file), folder / "prepared", folder / "model", draw=draw_history),
    )
    unless_there(
        probability,
        "landslip map model/ prepared/stack.tif map/probability.tif",
        lambda: map_site(load_model(folder / "model"), stack, probability),
    )
    unless_there(
        gpkg,
        "landslip inventory map/probability.tif inventory/landslides.gpkg",
        lambda: make_inventory(probability, gpkg, overwrite=True, stack_path=stack),
    )
    scored = _score(folder, f"Made-up {'site' if kind == 'rule' else kind} {seed}")
    say(f"Done in {duration(time.monotonic() - began)}.")
    return scored


def _score(folder: Path, name: str) -> Evaluation:
    """Score the map of the demo on ground never trained on, draw its pictures and say where all of it lies."""
    say("-- landslip evaluate map/probability.tif prepared/label.tif --split model/split.tif --part test")
    probability, label = folder / "map" / "probability.tif", folder / "prepared" / "label.tif"
    scored = evaluate(probability, label, folder / "model" / "split.tif", "test")
    say(score_table(scored))
    _pictures(folder, scored, name)
    for path in (folder / "scores" / "test.json", folder / "scores.json"):
        write_scores(path, scored, overwrite=True)
    say(f"\nPictures: {folder / 'pictures'}")
    say(f"Scores on ground never trained on: {folder / 'scores.json'} (kappa {scored.scores['kappa']:.4f})")
    say(f"See it: landslip report {folder} {folder}/report.html; landslip serve {folder}; landslip qgis {folder}")
    return scored


def _claim(folder: Path, choices: dict[str, object], overwrite: bool) -> None:
    """Make the folder this demo's own, go on in it, or refuse.

    Raises OutputError for a folder that holds other files, a demo with other choices, or this one, finished.
    """
    note = folder / "demo.json"
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file. Give the demo a folder of its own.")
    if folder.exists() and any(folder.iterdir()):
        earlier = _read_note(note)
        if earlier is None:
            raise OutputError(f"{folder} holds other files. Give the demo a folder of its own.")
        if overwrite:
            _clear(folder)
        elif earlier != choices:
            raise OutputError(
                f"{folder} holds the demo with {earlier}, not {choices}. Give another folder, or --overwrite."
            )
        elif (folder / "scores.json").exists():
            raise OutputError(f"{folder} holds this demo, finished. Give another folder, or --overwrite.")
    write_json(note, choices, overwrite=True)


def _read_note(note: Path) -> dict[str, object] | None:
    """The choices of the demo that a folder holds; None where it is no demo's folder."""
    try:
        choices = read_json(note)
    except (OSError, ValueError):
        return None
    return choices if isinstance(choices, dict) and choices.keys() == {"quick", "seed", "factors", "kind"} else None


def _clear(folder: Path) -> None:
    """Remove what a demo made, and nothing else that lies in its folder."""
    for name in ("inputs", "prepared", "model", "map", "inventory", "scores", "pictures"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("scores.json", "site.toml", "run.toml"):
        (folder / name).unlink(missing_ok=True)


def _at_root(site_file: Path) -> str:
    """The site file as it reads from the run folder, one level up from the inputs."""
    head, _, rest = site_file.read_text(encoding="utf-8").partition("\n")
    return f'{head}\ndata = "{site_file.parent.name}"\n{rest}'


def _pictures(folder: Path, scored: Evaluation, name: str) -> None:
    """Draw input, label, split, training, probability and map into the folder's `pictures`."""
    pictures, prepared = folder / "pictures", folder / "prepared"
    stack, label, split = prepared / "stack.tif", prepared / "label.tif", folder / "model" / "split.tif"
    probability = folder / "map" / "probability.tif"
    draw_input(stack, pictures / "1_input.png", True)
    draw_label(stack, label, pictures / "2_label.png", True)
    draw_split(stack, split, pictures / "3_split.png", True)
    draw_history(folder / "model" / "history.csv", pictures / "4_training.png", True)
    draw_probability(probability, pictures / "5_probability.png", True)
    title = f"{name}: kappa {scored.scores['kappa']:.3f} on ground never trained on"
    panel = Panel(title, probability, scored.threshold, split)
    draw_judged(panel, label, stack, pictures / "6_map.png", overwrite=True)
