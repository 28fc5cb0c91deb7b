import csv
import json
import math
import re
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import command
from conftest import TinySite
from safetensors.torch import load_file
from scipy import ndimage

from landslip.config.run import Run, TrainingChoice, read_run
from landslip.config.site import read_site
from landslip.dataset.channels import read_stack_info
from landslip.dataset.training_data import build_training_data, require_window
from landslip.errors import LabelError, ModelError, OutputError, ResumeError, RunError, SplitError, TrainingError
from landslip.geo.geotiff import write_raster
from landslip.models import build_model
from landslip.preparation.prepare import prepare
from landslip.runtime.provenance import repeated
from landslip.training import loop
from landslip.training import train as module
from landslip.training.checkpoint import load_model
from landslip.training.loop import learning_rate, masked_loss
from landslip.training.model_files import STATE
from landslip.training.train import train


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_a_model_folder_holds_all_that_is_promised(made: TinySite) -> None:
    folder = made.folder / "model"
    promised = {"model.safetensors", "model.json", "history.csv", "split.tif", "training_pixels.safetensors"}
    assert {p.name for p in folder.iterdir()} == promised
    facts = json.loads((folder / "model.json").read_text())
    assert facts["split"] == {"kind": "apart", "leaky": False, "guard": 8}
    assert facts["machine"]["threads"] >= 1 and facts["software"]["torch"]
    assert len(facts["mean"]) == len(facts["channels"]) == 18
    with (folder / "history.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]


def test_an_interrupted_training_ends_with_the_same_weights(made: TinySite, tmp_path: Path) -> None:
    run, prepared = read_run(made.run), made.folder / "prepared"

    class Pulled(Exception):
        pass

    from landslip.training import train as module

    keep, kept = module.keep, []

    def pull(*args: object) -> None:
        keep(*args)  # type: ignore[arg-type]
        kept.append(1)
        if len(kept) == 2:
            raise Pulled

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "keep", pull)
        with pytest.raises(Pulled):
            train(run, prepared, tmp_path / "model")
    assert (tmp_path / "model" / STATE).exists() and not (tmp_path / "model" / "model.json").exists()
    train(run, prepared, tmp_path / "model")
    assert weights(tmp_path / "model") == weights(made.folder / "model")
    pixels = "training_pixels.safetensors"
    assert (tmp_path / "model" / pixels).read_bytes() == (made.folder / "model" / pixels).read_bytes()


def test_model_json_suffices_to_train_the_same_model_again(made: TinySite, tmp_path: Path) -> None:
    facts = made.folder / "model" / "model.json"
    done = command("train", facts, made.folder / "prepared", tmp_path / "again")
    assert done.code == 0 and "the same weights as before, bit for bit" in done.out
    assert weights(tmp_path / "again") == weights(made.folder / "model")
    done = command("train", facts, made.folder / "prepared", tmp_path / "other", "--set", "training.epochs=1")
    assert done.code == 0 and "other weights than before: its run is another" in done.out


def test_a_model_trained_again_in_its_own_folder_is_compared_with_what_it_was(made: TinySite, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(made.folder / "model", model)
    words = (
        "train",
        model / "model.json",
        made.folder / "prepared",
        model,
        "--overwrite",
        "--set",
        "training.epochs=1",
    )
    done = command(*words)
    assert done.code == 0 and "other weights than before: its run is another" in done.out


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda facts: facts.pop("run"), "holds no run"),
        (lambda facts: facts.update(run=[1]), "holds no run"),
        (lambda facts: facts.update(fine_tuned_from="abc"), "was fine-tuned"),
        (lambda facts: facts["run"].update(colour=1), "unknown key"),
    ],
)
def test_a_model_json_that_cannot_be_repeated(
    made: TinySite, tmp_path: Path, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    facts = json.loads((made.folder / "model" / "model.json").read_text())
    change(facts)
    (tmp_path / "model.json").write_text(json.dumps(facts))
    with pytest.raises(RunError, match=says):
        read_run(tmp_path / "model.json")


def test_what_tells_a_repeated_training_from_the_first() -> None:
    first = {"weights_sha256": "1", "run": {}, "precision": "fp32", "site_inputs": {"stack.tif": "a"}}
    first |= {"software": {"torch": "2.6"}, "machine": {"threads": 1}}
    again = first | {"weights_sha256": "2", "site_inputs": {"stack.tif": "b"}, "machine": {"threads": 2}}
    assert repeated(first, first) == "the same weights as before, bit for bit"
    assert repeated(first, again) == "other weights than before: stack.tif is another; threads is 2, and was 1"


def test_other_inputs_or_choices_are_not_resumed(made: TinySite, tmp_path: Path) -> None:
    prepared = made.folder / "prepared"
    train(read_run(made.run), prepared, tmp_path / "model")
    from landslip.training import train as module
    from landslip.training.state import kept_state

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_write_model", lambda *given, **choices: None)
        train(read_run(made.run, {"training.epochs": 1}), prepared, tmp_path / "cut")
    with pytest.raises(ResumeError, match=r"\[training\] epochs was 1 and is 3.*--overwrite"):
        train(read_run(made.run), prepared, tmp_path / "cut")
    assert kept_state(tmp_path / "none", "") is None


def test_a_finished_model_is_not_replaced(made: TinySite) -> None:
    before = weights(made.folder / "model")
    with pytest.raises(OutputError, match="exists already"):
        train(read_run(made.run), made.folder / "prepared", made.folder / "model")
    assert weights(made.folder / "model") == before


def test_an_earlier_model_stays_until_the_new_one_is_finished(made: TinySite, tmp_path: Path) -> None:
    import shutil

    from landslip.training import train as module

    shutil.copytree(made.folder / "model", tmp_path / "model")
    before = {p.name: p.read_bytes() for p in (tmp_path / "model").iterdir()}
    other = read_run(made.run, {"training.seed": 5})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "choose_threshold", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(other, made.folder / "prepared", tmp_path / "model", overwrite=True)
    after = {p.name: p.read_bytes() for p in (tmp_path / "model").iterdir() if p.name != STATE}
    assert after == before
    train(other, made.folder / "prepared", tmp_path / "model", overwrite=True)
    assert weights(tmp_path / "model") != before["model.safetensors"]


@pytest.mark.parametrize("stop", range(5))
def test_files_of_two_trainings_are_no_model(
    made: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """A kill between the names of the files of a model that replaces another, of which five are given."""
    model = tmp_path / "model"
    shutil.copytree(made.folder / "model", model)
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    (model / "history.png").touch()
    other, named = read_run(made.run, {"training.seed": 5, "training.epochs": 1}), 0
    replace = Path.replace

    def stopping(path: Path, to: Path) -> Path:
        nonlocal named
        if to.parent == model and to.name in before and path.name != ".state.part.safetensors":
            if named == stop:
                raise SystemExit(137)
            named += 1
        return replace(path, to)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Path, "replace", stopping)
        train(other, made.folder / "prepared", model, overwrite=True)
    after = {path.name: path.read_bytes() for path in model.iterdir() if path.name not in (STATE, "history.png")}
    if stop == 0:
        assert after == before
    else:
        with pytest.raises(ModelError, match="truncated or altered"):
            load_model(model)
    train(other, made.folder / "prepared", model, overwrite=True)
    assert load_model(model).facts["seed"] == 5
    assert {path.name for path in model.iterdir()} == before.keys()


def test_the_zscore_is_that_of_the_training_windows(made: TinySite) -> None:
    from landslip.geo.raster import read

    ground = build_training_data(read_run(made.run), made.folder / "prepared")
    union = np.zeros(made.label.shape, bool)
    for window in ground.windows:
        union[window.slices] = True
    values = read(made.folder / "prepared" / "stack.tif")[:, union & ground.valid].astype(float)
    model = load_model(made.folder / "model")
    for i, channel in enumerate(model.channels):
        if channel.standardised:
            assert model.zscore.mean[i] == pytest.approx(values[i].mean(), rel=1e-9, abs=1e-12)
            assert model.zscore.std[i] == pytest.approx(values[i].std(), rel=1e-9)
        else:
            assert (model.zscore.mean[i], model.zscore.std[i]) == (0, 1)


def test_bands_alone_can_be_chosen(made: TinySite) -> None:
    ground = build_training_data(read_run(made.run, {"channels.factors": "none"}), made.folder / "prepared")
    assert [c.name for c in ground.channels] == ["coastal", "blue", "green", "red", "nir", "swir1", "swir2"]
    ground = build_training_data(
        read_run(made.run, {"channels.factors": ["aspect"], "channels.bands": "none"}), made.folder / "prepared"
    )
    assert [c.name for c in ground.channels] == ["aspect_sin", "aspect_cos"]


def test_a_label_without_landslides_cannot_train(tiny: TinySite) -> None:
    text = tiny.site.read_text()
    tiny.site.write_text(text[: text.index("[landslides]")])
    prepare(read_site(tiny.site), tiny.folder / "p")
    with pytest.raises(LabelError, match=r"label\.tif holds no landslide"):
        train(read_run(tiny.run), tiny.folder / "p", tiny.folder / "model")


def test_a_window_that_the_network_cannot_take_is_refused(made: TinySite, tmp_path: Path) -> None:
    with pytest.raises(SplitError, match="multiple of 2"):
        train(read_run(made.run, {"blocks.window": 33}), made.folder / "prepared", tmp_path / "m")


@pytest.mark.parametrize("name", ["resunet", "fc_densenet"])
def test_a_window_that_the_poolings_leave_one_pixel_of_is_refused(made: TinySite, tmp_path: Path, name: str) -> None:
    # four poolings take 16 px to one; a last batch of one block would have no variance to normalise by
    small = {"blocks.window": 16, "network.name": name, "network.options": {}, "training.batch": 1}
    with pytest.raises(SplitError, match=f"window = 16 is too small for {name}.*32 or more, a multiple of 16"):
        train(read_run(made.run, small), made.folder / "prepared", tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(("name", "window"), [("fcn8s", 32), ("segnet", 32), ("unet", 16), ("fc_densenet", 32)])
def test_the_smallest_windows_can_be_trained_on(made: TinySite, name: str, window: int) -> None:
    run = read_run(made.run, {"blocks.window": window, "network.name": name, "network.options": {}})
    require_window(run, 7)
    with torch.no_grad():
        assert build_model(name, 7).train()(torch.zeros(1, 7, window, window)).shape == (1, 1, window, window)


def test_a_loss_that_is_not_finite_stops_training(made: TinySite, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "masked_loss", lambda logits, y, kind: logits.sum() * float("nan"))
        with pytest.raises(TrainingError, match=r"nan in epoch 1.*learning_rate"):
            train(read_run(made.run), made.folder / "prepared", tmp_path / "m")


def test_the_loss_is_the_cross_entropy_of_known_pixels() -> None:
    logits = torch.tensor([[[0.0, 2.0], [-1.0, 9.0]]])
    label = torch.tensor([[[1, 0], [0, 255]]], dtype=torch.uint8)
    # -log sigmoid(0), -log(1 - sigmoid(2)), -log(1 - sigmoid(-1)); the unknown pixel does not count
    expected = (math.log(2) + math.log(1 + math.exp(2)) + math.log(1 + math.exp(-1))) / 3
    assert masked_loss(logits, label, "bce").item() == pytest.approx(expected, rel=1e-6)
    p = [1 / (1 + math.exp(-v)) for v in (0, 2, -1)]
    dice = 1 - (2 * p[0] + 1) / (sum(p) + 1 + 1)
    assert masked_loss(logits, label, "bce+dice").item() == pytest.approx(expected + dice, rel=1e-6)
    own = [p[0], 1 - p[1], 1 - p[2]]  # -(1 - p)^2 log p (Lin et al. 2017), p that of each pixel's class
    focal = -sum((1 - q) ** 2 * math.log(q) for q in own) / 3
    assert masked_loss(logits, label, "focal").item() == pytest.approx(focal, rel=1e-5)


def test_the_boundary_loss_counts_pixels_near_outlines_three_times() -> None:
    # A label with a gap of unknown ground in it; what is near both classes is found by scipy's dilation.
    rng = np.random.default_rng(0)
    label = np.zeros((2, 24, 20), np.uint8)
    label[0, 5:14, 4:12], label[1, 15:, 10:], label[:, 8:16, 6:14] = 1, 1, 255
    logits = rng.normal(size=label.shape).astype(np.float32)
    square = np.ones((5, 5), bool)
    near = [np.stack([ndimage.binary_dilation(x == of, square) for x in label]) for of in (0, 1)]
    weight = np.where(near[0] & near[1], 3.0, 1.0) * (label != 255)
    p = 1 / (1 + np.exp(-logits.astype(float)))
    entropy = -np.log(np.where(label == 1, p, 1 - p))
    landslide, known = label == 1, label != 255
    dice = (2 * p[landslide].sum() + 1) / (p[known].sum() + landslide.sum() + 1)
    expected = (weight * entropy).sum() / weight.sum() + 0.2 * (1 - dice)
    measured = masked_loss(torch.from_numpy(logits), torch.from_numpy(label), "boundary")
    assert measured.item() == pytest.approx(expected, rel=1e-5)


def test_the_schedule_rises_then_falls_and_the_papers_is_constant() -> None:
    choice = TrainingChoice(learning_rate=1.0)
    rates = [learning_rate(choice, step, 100) for step in range(100)]
    assert max(rates) == pytest.approx(1.0) and int(np.argmax(rates)) == 9
    assert rates[-1] == pytest.approx(0.02) and all(a >= b for a, b in pairwise(rates[9:]))
    paper = TrainingChoice(schedule="constant", learning_rate=1e-4)
    assert {learning_rate(paper, step, 100) for step in range(100)} == {1e-4}


def test_the_papers_recipe_trains_on_the_leaky_split(made: TinySite, tmp_path: Path) -> None:
    changes = {"training.recipe": "paper", "training.epochs": 1, "split.kind": "paper", "training.batch": 2}
    run = Run.model_validate(
        {**read_run(made.run).model_dump(), "split": {"kind": "paper"}, "training": {"recipe": "paper", "epochs": 1}}
    )
    assert changes["training.batch"] == run.training.batch
    facts = train(run, made.folder / "prepared", tmp_path / "m")
    assert facts["split"]["leaky"] and load_model(tmp_path / "m").threshold == 0.5


def test_a_given_split_is_used_as_it_is(made: TinySite, tmp_path: Path) -> None:
    prepared = tmp_path / "prepared"
    shutil.copytree(made.folder / "prepared", prepared)
    stack = read_stack_info(prepared / "stack.tif")
    parts = np.zeros(stack.grid.shape, np.uint8)
    parts[:64], parts[64:96], parts[96:] = 1, 2, 3
    run = Run.model_validate({**read_run(made.run).model_dump(), "split": {"kind": "given"}})
    with pytest.raises(ModelError, match=r"split\.tif does not exist"):
        build_training_data(run, prepared)
    write_raster(prepared / "split.tif", parts[None], stack.grid, ["part"], None, tags={"leaky": "no"})
    ground = build_training_data(run, prepared)
    assert (ground.split.parts == parts).all() and not ground.split.leaky
    assert ground.windows and all(w.row + w.height <= 64 for w in ground.windows)
    nowhere = np.where(parts == 2, 0, parts).astype(np.uint8)
    write_raster(prepared / "split.tif", nowhere[None], stack.grid, ["part"], None, tags={}, overwrite=True)
    with pytest.raises(SplitError, match="its validation part holds no landslide"):
        build_training_data(run, prepared)
    write_raster(prepared / "split.tif", parts[None] + 1, stack.grid, ["part"], None, tags={}, overwrite=True)
    with pytest.raises(SplitError, match="holds 4"):
        build_training_data(run, prepared)
    write_raster(
        prepared / "split.tif", parts[None], stack.grid, ["part"], None, tags={"guard": "wide"}, overwrite=True
    )
    with pytest.raises(SplitError, match="its guard is 'wide'"):
        build_training_data(run, prepared)


def test_a_training_on_another_given_split_does_not_go_on(
    made: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, folder = tmp_path / "prepared", tmp_path / "model"
    shutil.copytree(made.folder / "prepared", prepared)
    stack = read_stack_info(prepared / "stack.tif")
    parts = np.zeros(stack.grid.shape, np.uint8)
    parts[:64], parts[64:96], parts[96:] = 1, 2, 3
    write_raster(prepared / "split.tif", parts[None], stack.grid, ["part"], None, tags={"leaky": "no"})
    run = Run.model_validate({**read_run(made.run).model_dump(), "split": {"kind": "given"}})
    with monkeypatch.context() as patch:
        patch.setattr(module, "choose_threshold", stop)
        with pytest.raises(KeyboardInterrupt):
            train(run, prepared, folder)
    write_raster(
        prepared / "split.tif", parts[::-1][None], stack.grid, ["part"], None, tags={"leaky": "no"}, overwrite=True
    )
    with pytest.raises(ResumeError, match=r"split\.tif changed"):
        train(run, prepared, folder)


def stop(*_: object) -> None:
    raise KeyboardInterrupt


def test_weights_that_the_last_step_of_an_epoch_spoils_are_not_kept(
    made: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = loop.validate

    def spoilt(state: loop.State, *given: object) -> object:
        if state.epoch == 2:
            for weights in (*state.averaged.values(), *state.network.state_dict().values()):
                weights.mul_(math.nan) if weights.is_floating_point() else None
        return real(state, *given)

    monkeypatch.setattr(loop, "validate", spoilt)
    with pytest.raises(TrainingError, match=r"finite at the end of epoch 2\..* of epoch 1, are kept as a model"):
        train(read_run(made.run), made.folder / "prepared", tmp_path / "model")
    kept = load_file(tmp_path / "model" / STATE)
    assert all(bool(t.isfinite().all()) for name, t in kept.items() if name.startswith("best."))
    stopped = load_file(tmp_path / "model" / "stopped" / "model.safetensors")
    assert all(bool(t.isfinite().all()) for t in stopped.values())


def test_a_loss_that_goes_wrong_later_leaves_a_model_that_maps(
    made: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, epochs, model = loop.set_training, [], tmp_path / "model"

    def third(*given: object, **choices: bool) -> None:
        epochs.append(1)
        if len(epochs) == 3:
            monkeypatch.setattr(loop, "masked_loss", lambda logits, y, kind: logits.sum() * math.nan)
        real(*given, **choices)

    monkeypatch.setattr(loop, "set_training", third)
    refused = command("train", made.run, made.folder / "prepared", model)
    assert refused.code == 2 and "the loss is nan in epoch 3" in refused.err
    assert f"are kept as a model in {model / 'stopped'}" in refused.err.replace("\n", "")
    assert not (model / "model.json").exists() and (model / STATE).exists()
    monkeypatch.undo()
    done = command("map", model / "stopped", made.folder / "prepared" / "stack.tif", tmp_path / "p.tif")
    assert done.code == 0 and "stopped     the loss is nan in epoch 3" in command("info", model / "stopped").out
    assert weights(model / "stopped") != weights(made.folder / "model")
    assert command("train", made.run, made.folder / "prepared", model).code == 0  # nothing was wrong with it after all
    assert weights(model) == weights(made.folder / "model") and not (model / "stopped").exists()


def test_training_windows_of_one_class_are_refused(made: TinySite, tmp_path: Path) -> None:
    prepared = tmp_path / "prepared"
    shutil.copytree(made.folder / "prepared", prepared)
    stack = read_stack_info(prepared / "stack.tif")
    label = np.zeros(stack.grid.shape, np.uint8)
    parts = np.full(stack.grid.shape, 1, np.uint8)
    parts[96:] = 2
    label[:64, :64] = 1  # the windows seeded there that lie wholly on it hold nothing else
    parts[:96] = 0
    parts[:64, :64] = 1
    label[96:, :64] = 1
    write_raster(prepared / "label.tif", label[None], stack.grid, ["label"], 255, tags={}, overwrite=True)
    write_raster(prepared / "split.tif", parts[None], stack.grid, ["part"], None, tags={"leaky": "no"})
    run = Run.model_validate({**read_run(made.run).model_dump(), "split": {"kind": "given"}})
    with pytest.raises(LabelError, match="hold no pixel of other ground"):
        build_training_data(run, prepared)


def test_trainings_of_several_seeds_share_split_and_windows(made: TinySite) -> None:
    run = read_run(made.run)
    other = read_run(made.run, {"training.seed": 9})
    a, b = build_training_data(run, made.folder / "prepared"), build_training_data(other, made.folder / "prepared")
    assert a.windows == b.windows and (a.split.parts == b.split.parts).all()
    c = build_training_data(read_run(made.run, {"split.seed": 9}), made.folder / "prepared")
    assert (c.split.parts != a.split.parts).any()


def test_a_run_that_does_not_fit_is_told_choices_that_do(made: TinySite) -> None:
    """What is proposed trains as it is: the first try of a new user, an empty run file on a small site."""
    prepared, options = made.folder / "prepared", read_run(made.run).network
    run = Run.model_validate({"network": options.model_dump()})
    with pytest.raises(
        SplitError, match=r"too small or too unevenly mapped.* these work here: (.*) \((\d+) tr"
    ) as told:
        build_training_data(run, prepared)
    found = re.search(r"these work here: (.*) \((\d+) training windows\)\.$", str(told.value))
    assert found is not None
    values = run.model_dump()
    for table, keys in re.findall(r"\[(\w+)\] ([^\[]*?)(?= and \[|$)", found[1]):
        for key, value in re.findall(r"(\w+) = (\d+)", keys):
            assert values[table][key] != int(value)  # only what changes is named
            values[table][key] = int(value)
    ground = build_training_data(Run.model_validate(values), prepared)
    assert len(ground.windows) == int(found[2]) >= 8
    # as near to what was asked for as fits: no larger guard does with windows of this size
    assert values["blocks"]["window"] <= 64 and values["split"]["guard"] >= values["blocks"]["window"] // 2


def test_where_nothing_smaller_fits_nothing_is_proposed(made: TinySite, tmp_path: Path) -> None:
    prepared = tmp_path / "prepared"
    shutil.copytree(made.folder / "prepared", prepared)
    stack = read_stack_info(prepared / "stack.tif")
    label = np.zeros(stack.grid.shape, np.uint8)
    label[60:62, 60:62] = 1  # one landslide for three parts
    write_raster(prepared / "label.tif", label[None], stack.grid, ["label"], 255, tags={}, overwrite=True)
    with pytest.raises(SplitError, match="too small") as told:
        build_training_data(read_run(made.run), prepared)
    assert "work here" not in str(told.value)
