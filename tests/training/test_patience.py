"""Where a training ends by itself."""

import csv
import math
from pathlib import Path

import pytest
from conftest import TinySite

from landslip.config.run import TrainingChoice, read_run
from landslip.training import loop
from landslip.training import train as module
from landslip.training.loop import no_longer_gains
from landslip.training.train import train

# Means of two: 0.65 after epoch 2, 0.75 after 4, 0.75 again after 6.
SCORES = [0.6, 0.7, 0.8, 0.7, 0.6, 0.9]


def history(scores: list[float], score: str = "f1") -> list[dict[str, float]]:
    return [{f"validation_{score}": value} for value in scores]


@pytest.mark.parametrize(("epochs", "ends"), [(1, False), (3, False), (4, False), (5, True), (6, True)])
def test_training_ends_where_the_mean_of_the_last_epochs_is_no_higher(epochs: int, ends: bool) -> None:
    # 0.8 + 0.7 > 0.6 + 0.7; 0.7 + 0.6 <= 0.7 + 0.8; 0.6 + 0.9 <= 0.8 + 0.7
    choice = TrainingChoice(patience=2, threshold="f1")
    assert no_longer_gains(history(SCORES[:epochs]), choice) is ends


def test_no_patience_and_undefined_scores_end_nothing() -> None:
    flat = history([0.5] * 20)
    assert not no_longer_gains(flat, TrainingChoice(threshold="f1"))
    assert no_longer_gains(flat, TrainingChoice(threshold="f1", patience=10))
    assert not no_longer_gains(history([0.5] * 19 + [math.nan]), TrainingChoice(threshold="f1", patience=10))


def test_epochs_are_compared_by_the_score_of_the_threshold() -> None:
    rows = [{"validation_f1": 0.5, "validation_kappa": 0.4}, {"validation_f1": 0.6, "validation_kappa": 0.3}]
    assert no_longer_gains(rows, TrainingChoice(threshold="kappa", patience=1))
    assert not no_longer_gains(rows, TrainingChoice(threshold="f1", patience=1))
    assert not no_longer_gains(rows, TrainingChoice(threshold=0.5, patience=1))


def test_a_training_ends_early_and_a_kill_after_its_last_epoch_does_not_lengthen_it(
    made: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = iter([0.5, 0.6, 0.6, 0.7])
    choose, keep = loop.choose, module.keep

    def fixed(*given: object) -> tuple[float, dict[str, float]]:
        threshold, _ = choose(*given)  # type: ignore[arg-type]
        value = next(scores)
        return threshold, {"f1": value, "kappa": value}

    def killed(state: loop.State, *given: object) -> None:
        keep(state, *given)  # type: ignore[arg-type]
        if state.epoch == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "choose", fixed)
    run = read_run(made.run, {"training.patience": 1, "training.epochs": 9})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "keep", killed)
        train(run, made.folder / "prepared", tmp_path / "model")
    train(run, made.folder / "prepared", tmp_path / "model")
    with (tmp_path / "model" / "history.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]
    said = capsys.readouterr().err
    assert "training ends after epoch 3 of 9: scores on validation ground no longer gain" in said
    assert "([training] patience = 1)" in said
