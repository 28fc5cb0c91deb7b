"""Permutation of a network's factors: by closed forms, and on ground held out from a training."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TinySite, rewrite_split

import landslip.importance.impurity
from landslip.dataset.zscore import ZScore
from landslip.geo.raster import read_stored
from landslip.importance.importance import importance
from landslip.importance.permutation import HeldOut, held_out, permutation_importance
from landslip.importance.sampling import read_prepared_info
from landslip.training.checkpoint import Model, load_model


class Channelwise(torch.nn.Module):
    """Maps landslide where the channel at `position` is positive, and sees no other."""

    multiple = 4

    def __init__(self, position: int) -> None:
        super().__init__()
        self.position = position
        self.scale = torch.nn.Parameter(torch.tensor(100.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x[:, self.position : self.position + 1]


def windows_of(x: np.ndarray, label: np.ndarray, factors: dict[str, list[int]], bands: list[int]) -> HeldOut:
    n = len(x)
    return HeldOut(
        x=x.astype(np.float32),
        label=label.astype(np.uint8),
        valid=np.ones(label.shape, bool),
        block=np.arange(n),
        factors=factors,
        bands=bands,
        notes=[],
    )


def network_of(position: int, folder: Path = Path("model")) -> Model:
    return Model(folder, Channelwise(position), (), ZScore(np.zeros(0), np.ones(0)), 0.5, {})


def test_a_channel_that_the_network_ignores_has_importance_exactly_zero() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 4, 10, 10))  # 10 is no multiple of 4: padded
    label = x[:, 2] > 0
    held = windows_of(x, label, {"idle": [0], "two": [1, 3], "sees": [2]}, [0, 1])
    scores = permutation_importance(network_of(2), held, [("idle", "sees")], 4, 0)
    found = {(s.measure, s.factor): s for s in scores}
    for measure in ("permutation_kappa", "permutation_f1"):
        for name in ("idle", "two", "bands"):
            score = found[measure, name]
            assert (score.estimate, score.low, score.high, score.effect) == (0, 0, 0, False)
        assert found[measure, "sees"].estimate == found[measure, "idle + sees"].estimate > 0.4
        assert found[measure, "sees"].effect is True and found[measure, "idle + sees"].kind == "together"


def test_permutation_of_two_windows_by_closed_form() -> None:
    # Two windows of 8 pixels, one all landslide, one with none, mapped without an error from one channel. Swapped,
    # every pixel is wrong: kappa falls from 1 to -1 and F1 from 1 to 0, whatever the order (there is only one).
    x = np.stack([np.full((1, 2, 4), 1.0), np.full((1, 2, 4), -1.0)])
    label = np.stack([np.ones((2, 4)), np.zeros((2, 4))])
    scores = permutation_importance(network_of(0), windows_of(x, label, {"slope": [0]}, []), [], 3, 0)
    assert {s.measure: s.estimate for s in scores} == {"permutation_kappa": 2.0, "permutation_f1": 1.0}


def test_pixels_are_scored_where_both_windows_are_valid() -> None:
    # as above, but the left half of the second window is undefined and unscored: only the right halves are compared
    x = np.stack([np.full((1, 2, 4), 1.0), np.full((1, 2, 4), -1.0)])
    x[1, :, :, :2] = 0
    label = np.stack([np.ones((2, 4)), np.zeros((2, 4))])
    label[1, :, :2] = 255
    held = windows_of(x, label, {"slope": [0]}, [])
    held.valid[1, :, :2] = False
    scores = permutation_importance(network_of(0), held, [], 2, 0)
    assert {s.measure: s.estimate for s in scores} == {"permutation_kappa": 2.0, "permutation_f1": 1.0}


def test_a_trained_network_is_permuted_on_its_test_part(
    made: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landslip.importance.impurity, "TREES", 10)
    # landslides of the tiny site are bright in every band, and nothing else tells them (conftest)
    found = importance(
        made.folder / "prepared", tmp_path / "o", made.folder / "model", repeats=4, block=16, sample=1000
    )
    network = {score.factor: score for score in found.scores if score.measure == "permutation_kappa"}
    assert network["bands"].rank is None and network["bands"].estimate > 0.3
    assert all(score.estimate < 0.2 for name, score in network.items() if name != "bands")
    notes = " ".join(found.notes)
    assert "on the test part" in notes and "LEAKY" not in notes
    # the swapped windows are those of the part, with the label of the part alone
    model = load_model(made.folder / "model")
    stack = read_prepared_info(made.folder / "prepared")
    held = held_out(model, stack, 16, 0)
    parts = read_stored(made.folder / "model" / "split.tif") == 3
    valid = read_stored(made.folder / "prepared" / "valid.tif") == 1
    label = read_stored(made.folder / "prepared" / "label.tif")
    assert (held.label != 255).sum() == (parts & valid & (label != 255)).sum()
    assert (held.label == 1).sum() == (parts & valid & (label == 1)).sum()


def test_a_leaky_split_is_named(made: TinySite, tmp_path: Path) -> None:
    model = shutil.copytree(made.folder / "model", tmp_path / "model")
    parts = read_stored(model / "split.tif")
    parts[parts == 3] = 2
    rewrite_split(model, parts, {"split": "paper", "leaky": "yes", "guard": "0"})
    loaded = load_model(model)
    held = held_out(loaded, read_prepared_info(made.folder / "prepared"), 32, 0)
    assert any(note.startswith("LEAKY") and "validation part" in note for note in held.notes)
    for tags in ({}, {"split": "given", "leaky": "unknown"}):  # as `landslip evaluate` says it
        rewrite_split(model, parts, tags)
        notes = " ".join(held_out(load_model(model), read_prepared_info(made.folder / "prepared"), 32, 0).notes)
        assert "leaky or not: unknown" in notes and "LEAKY" not in notes
