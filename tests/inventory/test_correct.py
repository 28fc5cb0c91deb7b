"""A corrected label: pixels set by hand, and a training that takes the folder as it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from command import command
from conftest import GRID, TinySite, frame, polygon, rewrite_split

from landslip.config.run import read_run
from landslip.dataset.training_data import build_training_data, carried_note, input_hashes
from landslip.errors import GridError, LabelError, OutputError, ReviewError, SplitError
from landslip.geo.geopackage import write_vector
from landslip.geo.geotiff import write_raster
from landslip.geo.grid import Window
from landslip.geo.raster import read_stored
from landslip.inventory.correct import correct
from landslip.inventory.inventory import begin_inventory
from landslip.review import reviews
from landslip.runtime.disk import file_hash
from landslip.training.train import train


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    path = tmp_path / "landslides.gpkg"
    shapes = [polygon(0, 0, 4, 4), polygon(40, 40, 20, 20), polygon(80, 8, 6, 6), polygon(100, 100, 5, 5)]
    write_vector(path, frame(shapes, id=[1, 2, 3, 4]), "inventory")
    reviews.decide(path, 1, "accepted")
    reviews.decide(path, 2, "rejected")
    reviews.decide(path, 3, "redrawn", outline=polygon(80, 10, 8, 3))
    reviews.decide(path, None, "drawn", outline=polygon(50, 50, 5, 5))  # on what 2 rejects
    return path


def test_reviewed_outlines_are_burnt_and_the_rest_stays(made: TinySite, inventory: Path, tmp_path: Path) -> None:
    before = read_stored(made.folder / "prepared" / "label.tif")
    expected = before.copy()
    expected[40:60, 40:60] = 0
    expected[0:4, 0:4] = 1
    expected[80:88, 10:13] = 1
    expected[50:55, 50:55] = 1
    valid = read_stored(made.folder / "prepared" / "valid.tif") == 1
    expected[~valid] = before[~valid]
    done = correct(made.folder / "prepared", inventory, tmp_path / "corrected")
    after = read_stored(tmp_path / "corrected" / "label.tif")
    assert np.array_equal(after, expected)
    assert done.states == {"accepted": 1, "rejected": 1, "redrawn": 1, "drawn": 1}
    assert done.to_landslide == int(((expected == 1) & (before != 1)).sum()) > 0
    assert done.to_other == int(((expected == 0) & (before != 0)).sum()) > 0
    manifest = json.loads((tmp_path / "corrected" / "manifest.json").read_text())
    corrected = manifest["corrected"]
    assert corrected["label_before_sha256"] == file_hash(made.folder / "prepared" / "label.tif")
    assert corrected["label_after_sha256"] == file_hash(tmp_path / "corrected" / "label.tif")
    assert corrected["inventory_sha256"] == file_hash(inventory)
    assert manifest["site"]["name"] == "tiny"
    assert file_hash(tmp_path / "corrected" / "stack.tif") == file_hash(made.folder / "prepared" / "stack.tif")


def test_training_takes_the_corrected_site_as_it_is(made: TinySite, inventory: Path, tmp_path: Path) -> None:
    correct(made.folder / "prepared", inventory, tmp_path / "corrected")
    train(read_run(made.run, {"training.epochs": 1}), tmp_path / "corrected", tmp_path / "model")
    facts = json.loads((tmp_path / "model" / "model.json").read_text())
    assert file_hash(tmp_path / "corrected" / "label.tif") in json.dumps(facts)


def test_ground_that_is_not_valid_stays_unknown(made: TinySite, inventory: Path, tmp_path: Path) -> None:
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    for name in ("stack.tif", "channels.json", "manifest.json"):
        (prepared / name).write_bytes((made.folder / "prepared" / name).read_bytes())
    label = read_stored(made.folder / "prepared" / "label.tif")
    valid = np.ones(label.shape, np.uint8)
    valid[:, :2], label[:, :2] = 0, 255
    write_raster(prepared / "valid.tif", valid[None], GRID, ["valid"])
    write_raster(prepared / "label.tif", label[None], GRID, ["label"], 255)
    correct(prepared, inventory, tmp_path / "corrected")
    after = read_stored(tmp_path / "corrected" / "label.tif")
    assert (after[0:4, 0:2] == 255).all() and (after[0:4, 2:4] == 1).all()


def test_refusals(made: TinySite, inventory: Path, tmp_path: Path) -> None:
    prepared = made.folder / "prepared"
    with pytest.raises(OutputError, match="is what is corrected"):
        correct(prepared, inventory, prepared, overwrite=True)
    bare = tmp_path / "bare.gpkg"
    write_vector(bare, frame([polygon(0, 0, 4, 4)], id=[1]), "inventory")
    with pytest.raises(ReviewError, match="holds no review"):
        correct(prepared, bare, tmp_path / "corrected")
    elsewhere = tmp_path / "elsewhere.gpkg"
    write_vector(elsewhere, frame([polygon(0, 0, 4, 4)], id=[1]).set_crs(32650, allow_override=True), "inventory")
    reviews.decide(elsewhere, 1, "accepted")
    with pytest.raises(GridError, match=r"EPSG:32650 and .* EPSG:32649"):
        correct(prepared, elsewhere, tmp_path / "corrected")
    whole = tmp_path / "whole.gpkg"
    write_vector(whole, frame([polygon(-5, -5, 300, 300)], id=[1]), "inventory")
    reviews.decide(whole, 1, "rejected")
    with pytest.raises(LabelError, match="rejects every landslide"):
        correct(prepared, whole, tmp_path / "corrected")
    assert not (tmp_path / "corrected").exists()


# ---- the parts of the model go with the label ----


def parts_of(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return np.asarray(dataset.read(1))


def test_a_label_that_knows_no_other_ground_is_not_corrected(made: TinySite, inventory: Path, tmp_path: Path) -> None:
    """As of a site that is prepared without landslides, which were then drawn: what is no landslide nobody has said."""
    prepared = Path(shutil.copytree(made.folder / "prepared", tmp_path / "prepared"))
    write_raster(prepared / "label.tif", np.full((1, *GRID.shape), 255, np.uint8), GRID, ["label"], 255, overwrite=True)
    drawn = tmp_path / "drawn.gpkg"
    begin_inventory(drawn, prepared / "stack.tif")
    reviews.decide(drawn, None, "drawn", outline=polygon(50, 50, 5, 5))
    with pytest.raises(LabelError, match=r"Name drawn\.gpkg in the site file"):
        correct(prepared, drawn, tmp_path / "corrected")
    assert not (tmp_path / "corrected").exists()
    correct(prepared, inventory, tmp_path / "corrected")  # which rejects one


def test_training_after_a_correction_keeps_the_parts(reviewed: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The road of README: correct, then the same run file. Without the split carried, most of the ground changes."""
    prepared, again = reviewed / "prepared", reviewed / "corrected"
    done = command("correct", prepared, reviewed / "inventory" / "landslides.gpkg", again)
    assert done.code == 0, done.err
    old, before, after = (parts_of(path) for path in
                          (reviewed / "model" / "split.tif", prepared / "label.tif", again / "label.tif"))  # fmt: skip
    names = {"train": 1, "validation": 2, "test": 3, "none": 0}
    counts = {name: int(np.count_nonzero((old == part) & (before != after))) for name, part in names.items()}
    assert counts["train"] > 0 and sum(counts.values()) == np.count_nonzero(before != after)
    assert json.loads((again / "manifest.json").read_text())["corrected"]["pixels_by_part"] == counts
    listed = ", ".join(f"{n} in {'no part' if name == 'none' else name}" for name, n in counts.items())
    assert f"which training keeps; of the pixels that changed {listed}" in done.out

    trained = command("train", reviewed / "run.toml", again, reviewed / "model2", "--set", "training.epochs=1")
    assert trained.code == 0, trained.err
    assert (
        "the parts are those of the model before the correction" in capfd.readouterr().err + trained.err + trained.out
    )
    assert np.array_equal(parts_of(reviewed / "model2" / "split.tif"), old)
    first, second = (json.loads((reviewed / name / "model.json").read_text()) for name in ("model", "model2"))
    assert second["split"] == first["split"] | {"carried_from": first["weights_sha256"]}
    assert second["site_inputs"]["split.tif"] == file_hash(again / "split.tif")
    (again / "split.tif").unlink()
    anew = build_training_data(read_run(reviewed / "run.toml"), again)
    assert (anew.split.parts != old).mean() > 0.1 and not anew.split.carried_from

    # and once more, from the second model: the same parts
    second_map = reviewed / "map2.tif"
    assert command("map", reviewed / "model2", again / "stack.tif", second_map).code == 0
    assert command("inventory", second_map, reviewed / "inventory2" / "landslides.gpkg").code == 0
    reviews.decide(reviewed / "inventory2" / "landslides.gpkg", 1, "rejected")
    done = command("correct", again, reviewed / "inventory2" / "landslides.gpkg", reviewed / "corrected2")
    assert done.code == 0 and f"those of {reviewed}/model2/split.tif" in done.out
    assert np.array_equal(
        build_training_data(read_run(reviewed / "run.toml"), reviewed / "corrected2").split.parts, old
    )


def carried(run: Path, changes: dict[str, Any]) -> bool:
    """Whether a run file with changes keeps the parts of `corrected`."""
    return "split.tif" in input_hashes(read_run(run / "run.toml", changes), run / "corrected")


def test_who_asks_for_another_split_gets_it_and_is_told(reviewed: Path) -> None:
    correct(reviewed / "prepared", reviewed / "inventory" / "landslides.gpkg", reviewed / "corrected")
    for same in ({}, {"training.seed": 3}, {"blocks.step": 8}, {"network.name": "unet"}, {"split.kind": "given"}):
        assert carried(reviewed, same)
    for other in ({"split.seed": 1}, {"split.region": 16}, {"split.kind": "paper"}, {"split.folds": 3}):
        assert not carried(reviewed, other)
        run = read_run(reviewed / "run.toml", other)
        assert "other choices of [split]" in carried_note(run, reviewed / "corrected")
    assert carried_note(read_run(reviewed / "run.toml"), reviewed / "prepared") == ""
    paper = build_training_data(read_run(reviewed / "run.toml", {"split.kind": "paper"}), reviewed / "corrected")
    assert paper.split.leaky and not paper.split.carried_from


def test_a_guard_that_a_larger_window_asks_for_is_not_undercut(reviewed: Path) -> None:
    """[split] guard left out is the window: parts 16 pixels apart are not enough for windows of 32."""
    text = (reviewed / "run.toml").read_text()
    assert "guard = 8\n" in text
    (reviewed / "run.toml").write_text(text.replace("guard = 8\n", ""))
    tags = {"split": "apart", "leaky": "no", "guard": "16"}
    rewrite_split(reviewed / "model", parts_of(reviewed / "model" / "split.tif"), tags)
    facts = json.loads((reviewed / "model" / "model.json").read_text())
    facts["run"]["split"]["guard"] = None
    (reviewed / "model" / "model.json").write_text(json.dumps(facts))
    correct(reviewed / "prepared", reviewed / "inventory" / "landslides.gpkg", reviewed / "corrected")
    assert not carried(reviewed, {}) and carried(reviewed, {"blocks.window": 16})


def test_a_paper_split_is_carried_and_stays_leaky(reviewed: Path) -> None:
    run = read_run(reviewed / "run.toml", {"split.kind": "paper"})
    ground = build_training_data(run, reviewed / "prepared")
    rewrite_split(reviewed / "model", ground.split.parts, ground.split.tags())
    facts = json.loads((reviewed / "model" / "model.json").read_text())
    facts["run"]["split"] = run.split.model_dump(mode="json")
    (reviewed / "model" / "model.json").write_text(json.dumps(facts))
    correct(reviewed / "prepared", reviewed / "inventory" / "landslides.gpkg", reviewed / "corrected")
    again = build_training_data(run, reviewed / "corrected")
    assert np.array_equal(again.split.parts, ground.split.parts) and again.split.leaky is True
    assert all((ground.split.parts[window.slices] == 1).all() for window in again.windows)


def test_without_a_model_it_is_said_that_the_split_is_drawn_anew(reviewed: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    shutil.move(reviewed / "model", away / "model")
    words = ("correct", reviewed / "prepared", reviewed / "inventory" / "landslides.gpkg")
    done = command(*words, reviewed / "corrected")
    assert done.code == 0 and "no model beside" in done.out and "training draws the parts anew" in done.out
    assert not (reviewed / "corrected" / "split.tif").exists()
    done = command(*words, reviewed / "named", "--model", away / "model")
    assert done.code == 0 and f"parts: those of {away}/model/split.tif, which training keeps" in done.out
    assert np.array_equal(parts_of(reviewed / "named" / "split.tif"), parts_of(away / "model" / "split.tif"))
    # another model beside it, whose weights made another map, is not taken for it
    shutil.copytree(away / "model", reviewed / "model")
    facts = json.loads((reviewed / "model" / "model.json").read_text())
    (reviewed / "model" / "model.json").write_text(json.dumps(facts | {"weights_sha256": "0" * 64}))
    assert "no model beside" in command(*words, reviewed / "other").out


def test_a_model_of_another_site_and_folds_keep_no_parts(reviewed: Path) -> None:
    prepared, own = reviewed / "prepared", reviewed / "inventory" / "landslides.gpkg"
    facts = json.loads((reviewed / "model" / "model.json").read_text())
    facts["run"]["split"] |= {"folds": 3, "fold": 1}
    (reviewed / "model" / "model.json").write_text(json.dumps(facts))
    done = correct(prepared, own, reviewed / "folds")
    assert done.split is None and "one of 3 folds" in done.note
    smaller = GRID.crop(Window(0, 0, 64, 64))
    write_raster(reviewed / "model" / "split.tif", np.ones((1, 64, 64), np.uint8), smaller, ["part"], overwrite=True)
    facts["split_sha256"] = file_hash(reviewed / "model" / "split.tif")
    (reviewed / "model" / "model.json").write_text(json.dumps(facts))
    done = correct(prepared, own, reviewed / "elsewhere")
    assert done.split is None and "was trained on another site" in done.note
    with pytest.raises(GridError, match="do not lie on one grid"):
        correct(prepared, own, reviewed / "named", model=reviewed / "model")


def test_a_carried_part_without_landslides_says_what_to_do(reviewed: Path) -> None:
    path = reviewed / "inventory" / "landslides.gpkg"
    parts = parts_of(reviewed / "model" / "split.tif")
    top, left = (int(at.min()) for at in np.nonzero(parts == 2))
    bottom, right = (int(at.max()) + 1 for at in np.nonzero(parts == 2))
    outline = polygon(top, left, bottom - top, right - left)  # around the whole validation part
    drawn = reviews.decide(path, None, "drawn", outline=outline)
    reviews.decide(path, drawn.landslide, "rejected", drawn.version)
    first = reviews.read_inventory(path)[0].id  # accepted, and landslide wins
    reviews.decide(path, first, "rejected", reviews.read_reviews(path)[first].version)
    correct(reviewed / "prepared", path, reviewed / "corrected")
    with pytest.raises(SplitError, match=r"validation part holds no landslide.*Remove that file to have it drawn anew"):
        build_training_data(read_run(reviewed / "run.toml"), reviewed / "corrected")
