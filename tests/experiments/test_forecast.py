"""How long a comparison will take, said before it begins: sums by hand, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command import command, contents
from conftest import TINY, TinySite
from rich.console import Console

from landslip.config.run import Run, read_run
from landslip.dataset.training_data import build_training_data
from landslip.errors import LandslipError
from landslip.experiments import forecast as module
from landslip.experiments.compare import compare
from landslip.experiments.forecast import Pace, Size, forecast_table, seconds_of, size_of
from landslip.experiments.trial_result import TrialResult
from landslip.experiments.trials import Trial, _time_left

FAILED = TrialResult(split="apart", method="unet", channels="bands", seed=0, network=True, failed="made to fail")
COMPARE = f"""
[compare]
networks = ["fc_densenet", "resunet"]
baselines = ["random_forest"]
channels = ["bands", "bands + factors"]
splits = ["apart"]
{TINY.replace("options = {", "options.fc_densenet = {")}
"""


@pytest.fixture
def run_file(made: TinySite, tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(made.run.read_text() + COMPARE)
    return path


def test_a_run_is_its_windows_its_looks_its_maps_and_two_starts() -> None:
    run = Run.model_validate({"training": {"epochs": 10}, "blocks": {"window": 32, "step": 16}})
    size = Size(windows=30, validation=5, mapped=4 * 32**2)
    # 10 epochs of 30 x 0.2 s and 5 x 0.1 s; 4 windows' worth of pixels mapped at 0.1 s each; 2 starts of 3 s
    assert seconds_of(run, size, Pace(0.2, 0.1), 3.0) == pytest.approx(10 * (6 + 0.5) + 0.4 + 6)


def test_the_size_of_a_survey_is_what_training_and_mapping_go_over(made: TinySite) -> None:
    ground = build_training_data(read_run(made.run), made.folder / "prepared")
    size = size_of(ground)
    assert (size.windows, size.validation) == (len(ground.windows), len(ground.validation))
    # the site of 128 x 192 pixels is less than a window with its halo, so each of the two maps reads all of it
    assert size.mapped == 2 * 128 * 192 and ground.scored().any()


def test_the_table_adds_up_by_network_and_names_what_is_not_timed() -> None:
    text = forecast_table([("unet", 3600.0), ("segnet", 60.0), ("unet", 1800.0)], ["svm", "ann", "svm"])
    assert text.splitlines() == [
        "  unet: 2 runs, about 1 h 30 min",
        "  segnet: 1 run, about 1 min 0 s",
        "in all about 1 h 31 min, and 3 runs of svm, ann, which are not timed beforehand",
    ]


def test_the_plan_says_hours_by_network_and_leaves_no_file(
    made: TinySite, run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple] = []
    paces = {"fc_densenet": Pace(2.0, 0.0), "resunet": Pace(4.0, 0.0)}
    target = "landslip.experiments.trials.run_in_process"
    monkeypatch.setattr(target, lambda *asked: given.append(asked) or (paces, 1e9))
    prepared, out = made.folder / "prepared", tmp_path / "out"
    before = contents(prepared)
    outcome = command("compare", run_file, prepared, out, "--plan")
    assert outcome.code == 0 and not out.exists() and contents(prepared) == before
    windows = len(build_training_data(read_run(run_file), prepared).windows)
    seconds = 3 * windows * 2  # epochs x windows x seconds, for each of two choices of channels
    assert [line.split("about ")[0] for line in outcome.out.splitlines()] == [
        "6 runs, 0 of them finished", "  fc_densenet: 2 runs, ", "  resunet: 2 runs, ", "in all ",
    ]  # fmt: skip
    assert f"about {module.duration(2 * seconds)}\n" in outcome.out
    assert f"in all about {module.duration(6 * seconds)}, and 2 runs of random_forest" in outcome.out
    (step, timed, at), *others = given
    assert step is module.paces and at == prepared and not others
    # one choice of channels stands for both
    assert [(run.network.name, run.channels.factors) for run in timed] == [("fc_densenet", "all"), ("resunet", "all")]
    ladder = command("ladder", run_file, prepared, tmp_path / "ladder", "--plan", "--set", "split.folds=2")
    assert ladder.code == 0 and not (tmp_path / "ladder").exists()
    assert ladder.out.startswith("3 runs, 0 of them finished\n  fc_densenet: 3 runs, about ")


def test_networks_are_timed_on_the_site_itself(made: TinySite, run_file: Path) -> None:
    run, prepared = read_run(run_file), made.folder / "prepared"
    before = contents(made.folder)
    cells = [
        Trial(split="apart", method=name, channels="bands + factors", seed=0, network=True)
        for name in ("fc_densenet", "resunet")
    ]
    paces, seconds = module.paces([cell.run(run) for cell in cells], prepared)
    assert list(paces) == ["fc_densenet", "resunet"]
    spent = np.array([(pace.step, pace.look) for pace in paces.values()])
    assert (spent > 0).all() and spent.sum() < seconds
    assert contents(made.folder) == before


def test_a_run_is_forecast_until_one_like_it_is_made() -> None:
    cells = [Trial(split="apart", method=name, channels="bands", seed=0, network=True) for name in ("unet", "segnet")]
    ahead = {cells[0]: 100.0, cells[1]: 200.0}
    assert _time_left(cells, [], ahead) == "about 5 min 0 s left for all"
    assert _time_left(cells, [(cells[1], 20.0)], ahead) == "about 2 min 0 s left for all"
    assert _time_left(cells, []) == "time left is known after the first network"


def test_a_timing_that_fails_stops_nothing(
    made: TinySite, run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landslip.experiments.trials.run_in_process", lambda step, *given: step(*given))
    outcome = command(
        "compare",
        run_file,
        made.folder / "prepared",
        tmp_path / "out",
        "--plan",
        "--set",
        "training.learning_rate=1e30",
    )
    assert outcome.code == 0 and "no forecast could be made" in outcome.err
    assert "in all about 0 s" not in outcome.out


FAILURES = [
    (LandslipError("a loss that is not finite."), "a loss that is not finite."),
    (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"), "CUBLAS_STATUS_ALLOC_FAILED"),
    (KeyError(), "KeyError"),
]


@pytest.mark.parametrize("error, why", FAILURES)
def test_whatever_fails_in_a_timing_is_said_in_a_line_and_the_runs_are_made(
    made: TinySite,
    run_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    why: str,
) -> None:
    def fails(*_: object) -> dict[str, object]:
        raise error

    tried: list[Trial] = []
    monkeypatch.setattr("landslip.experiments.trials.run_in_process", fails)
    monkeypatch.setattr("landslip.experiments.trials._make", lambda trial, *_, **__: tried.append(trial) or FAILED)
    monkeypatch.setattr("landslip.runtime.progress._console", lambda: Console(stderr=True, highlight=False))
    compare(read_run(run_file), made.folder / "prepared", tmp_path / "out")
    said = capsys.readouterr().err.splitlines()
    assert f"no forecast could be made of how long they take: {why}" in said and len(tried) == 6


def test_ctrl_c_ends_a_timing(made: TinySite, run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> dict[str, object]:
        raise KeyboardInterrupt

    monkeypatch.setattr("landslip.experiments.trials.run_in_process", stopped)
    monkeypatch.setattr("landslip.experiments.trials._make", lambda *_, **__: pytest.fail("a run was made"))
    with pytest.raises(KeyboardInterrupt):
        compare(read_run(run_file), made.folder / "prepared", tmp_path / "out")
