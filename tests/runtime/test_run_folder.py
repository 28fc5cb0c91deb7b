"""A run folder is known by the names of what is in it."""

from pathlib import Path

import pytest

from landslip.errors import OutputError, RasterError
from landslip.runtime.run_folder import PLACES, open_run


def test_what_is_there_is_found_and_the_rest_is_none(tmp_path: Path) -> None:
    (tmp_path / "prepared").mkdir()
    (tmp_path / "prepared" / "stack.tif").write_bytes(b"")
    (tmp_path / "scores").mkdir()
    for name in ("test", "all"):
        (tmp_path / "scores" / f"{name}.json").write_text("{}")
    run = open_run(tmp_path)
    assert run.stack == tmp_path / "prepared" / "stack.tif"
    assert [path.name for path in run.scores] == ["all.json", "test.json"]
    assert all(not getattr(run, name) for name in PLACES if name != "stack")


def test_what_is_missing_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("")
    run = open_run(tmp_path)
    run.require("run")
    with pytest.raises(RasterError, match=r"holds no map/probability.tif.*landslip map MODEL/"):
        run.require("run", "probability")


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="holds none of a run's folders"):
        open_run(tmp_path)
    with pytest.raises(OutputError, match="is not a folder"):
        open_run(tmp_path / "absent")
