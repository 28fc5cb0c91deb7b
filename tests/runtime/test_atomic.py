"""An output appears whole under its name, or not at all, whatever interrupts the writing."""

import errno
import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from landslip.errors import OutputError
from landslip.runtime.atomic import (
    atomic_files,
    atomic_folder,
    atomic_write,
    refuse_existing,
    refuse_input,
)
from landslip.runtime.disk import file_hash, require_space
from landslip.runtime.locks import exclusive_lock
from landslip.runtime.text import write_json, write_text

INTERRUPTIONS = [ValueError("bad"), KeyboardInterrupt(), SystemExit(1), MemoryError()]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_only_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "map.tif"
    with atomic_write(path) as aside:
        aside.write_text("half")
        assert not path.exists()
        assert aside.suffix == ".tif" and aside.parent == path.parent  # a driver may go by the suffix
    assert path.read_text() == "half"
    assert names(path.parent) == ["map.tif"]


@pytest.mark.parametrize("interruption", INTERRUPTIONS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("earlier", [None, "earlier"])
def test_an_interruption_leaves_what_was_there(
    tmp_path: Path, interruption: BaseException, earlier: str | None
) -> None:
    path = tmp_path / "scores.json"
    if earlier:
        path.write_text(earlier)
    with pytest.raises(type(interruption)), atomic_write(path, overwrite=True) as aside:
        aside.write_text("half")
        raise interruption
    assert names(tmp_path) == ([path.name] if earlier else [])
    assert not earlier or path.read_text() == earlier


@pytest.mark.parametrize("interruption", INTERRUPTIONS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("earlier", [False, True])
def test_an_interrupted_folder_leaves_what_was_there(
    tmp_path: Path, interruption: BaseException, earlier: bool
) -> None:
    path = tmp_path / "model"
    if earlier:
        path.mkdir()
        (path / "manifest.json").write_text("{}")
    with pytest.raises(type(interruption)), atomic_folder(path, overwrite=True) as aside:
        (aside / "manifest.json").write_text("half")
        raise interruption
    assert names(tmp_path) == (["model"] if earlier else [])
    assert not earlier or (path / "manifest.json").read_text() == "{}"


@pytest.mark.parametrize("replaced", [True, False])
def test_a_folder_in_the_place_of_a_file_is_seen_before_any_file_is_replaced(tmp_path: Path, replaced: bool) -> None:
    (tmp_path / "a.csv").write_text("1")
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "mine").touch()
    with (
        pytest.raises(OutputError, match="z is a folder"),
        atomic_files(tmp_path, ["z", "a.csv"]) as aside,
    ):
        for name in ("a.csv", "z")[: 1 + replaced]:
            (aside / name).write_text("2")
    assert (tmp_path / "a.csv").read_text() == "1" and names(tmp_path) == ["a.csv", "z"]


def test_files_get_their_names_together_and_the_last_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.json", "b.csv", "other"):
        (tmp_path / name).write_text("1")
    with pytest.raises(OutputError, match=r"No space"), atomic_files(tmp_path, ["b.csv", "a.json"]) as aside:
        (aside / "b.csv").write_text("2")
        raise OutputError(f"No space for {aside / 'a.json'}")
    assert {path.read_text() for path in tmp_path.iterdir()} == {"1"}
    named: list[str] = []
    replace, unlink = Path.replace, Path.unlink
    monkeypatch.setattr(Path, "replace", lambda path, to: (named.append(to.name), replace(path, to)))
    monkeypatch.setattr(Path, "unlink", lambda path, **more: (named.append(path.name), unlink(path, **more)))
    (tmp_path / "d.png").touch()
    with atomic_files(tmp_path, ["b.csv", "c.png", "d.png", "e.png", "a.json"]) as aside:
        for name in ("a.json", "b.csv", "c.png"):
            (aside / name).write_text("2")
    named = [name for name in named if not name.startswith(".")]
    assert named == ["b.csv", "c.png", "d.png", "e.png", "a.json"]
    assert names(tmp_path) == ["a.json", "b.csv", "c.png", "other"]
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == ["2", "2", "2", "1"]


def test_a_folder_appears_whole_and_replaces_whole(tmp_path: Path) -> None:
    path = tmp_path / "model"
    for content in ("one", "two"):
        with atomic_folder(path, overwrite=content == "two") as aside:
            (aside / "manifest.json").write_text(content)
            (aside / content).write_text("")
        assert names(tmp_path) == ["model"]
        assert names(path) == ["manifest.json", content]


def test_existing_outputs_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "map.tif"
    path.write_text("earlier")
    for attempt in (atomic_write, atomic_folder):
        with pytest.raises(OutputError, match=r"map\.tif exists already.*--overwrite"), attempt(path):
            pytest.fail("the block must not run")
    assert path.read_text() == "earlier"
    write_text(path, "later", overwrite=True)
    assert path.read_text() == "later"


def test_a_strangers_folder_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "photographs"
    path.mkdir()
    (path / "holiday.jpg").write_text("sea")
    with pytest.raises(OutputError, match="did not write"), atomic_folder(path, overwrite=True):
        pytest.fail("the block must not run")
    with pytest.raises(OutputError, match="did not write"):
        refuse_existing(path, overwrite=True)
    assert names(path) == ["holiday.jpg"]


def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "map.tif"
    with atomic_write(path) as aside:
        aside.write_text("")
        left = aside
    path.unlink()
    left.write_text("half of a killed run")
    with atomic_write(path) as aside:
        assert not aside.exists()
        aside.write_text("whole")
    assert names(tmp_path) == ["map.tif"] and path.read_text() == "whole"
    folder = tmp_path / "model"
    (tmp_path / ".model.part").mkdir()
    (tmp_path / ".model.part" / "half").write_text("")
    with atomic_folder(folder) as aside:
        (aside / "manifest.json").write_text("{}")
    assert names(folder) == ["manifest.json"]


def test_a_full_disk_says_so(tmp_path: Path) -> None:
    path = tmp_path / "map.tif"
    with pytest.raises(OutputError, match=r"map\.tif: the disk is full \(.* MiB free\)"), atomic_write(path) as aside:
        aside.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == []
    with pytest.raises(OutputError, match=r"needs about 1\d{9}\.\d MiB"):
        require_space(path, 2**20 * 1e9)
    require_space(tmp_path / "not" / "there" / "yet", 1)


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(OutputError, match="cannot be written"):
        write_text(tmp_path / "run" / "scores.json", "{}")


def test_json_has_null_for_undefined(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    value = {
        "f1": math.nan,
        "n": np.int64(3),
        "a": [np.float32(0.5), math.inf],
        "p": Path("a") / "b",
        "k": (True, None),
    }
    write_json(path, value)
    assert json.loads(path.read_text()) == {"f1": None, "n": 3, "a": [0.5, None], "p": "a/b", "k": [True, None]}


def test_hash_is_sha256(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")  # the first test vector of FIPS 180-2, appendix B.1
    assert file_hash(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_file_does_not_become_a_folder_nor_a_folder_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.tif").write_text("mine")
    with pytest.raises(OutputError, match="is a file, and a folder"), atomic_folder(tmp_path / "mine.tif", True):
        pass
    assert (tmp_path / "mine.tif").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    with pytest.raises(OutputError, match="is a folder, and a file"):
        refuse_existing(tmp_path / "empty", overwrite=True)


def test_an_input_that_is_a_link_to_itself_is_left_to_its_reader(tmp_path: Path) -> None:
    (tmp_path / "loop.tif").symlink_to("loop.tif")
    refuse_input(tmp_path / "new.tif", [tmp_path / "loop.tif"])
    (tmp_path / "other.tif").symlink_to("new.tif")
    with pytest.raises(OutputError, match="cannot be its output too"):
        refuse_input(tmp_path / "new.tif", [tmp_path / "other.tif"])


# ---- two runs at once ----

HOLDING = """
import sys
from pathlib import Path
from landslip.runtime.locks import exclusive_lock
with exclusive_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")
def test_what_another_process_writes_is_left_to_it(tmp_path: Path) -> None:
    words = [sys.executable, "-c", HOLDING, str(tmp_path / "a")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        for entering in (lambda: atomic_write(tmp_path / "a"), lambda: atomic_folder(tmp_path / "a")):
            with pytest.raises(OutputError, match="a is being written by another run"), entering():
                pass
        with atomic_write(tmp_path / "b") as aside:
            aside.write_text("another file is nobody's")
        other.communicate("")
    with atomic_write(tmp_path / "a") as aside:
        aside.write_text("its turn")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_the_folder_one_is_in_is_a_folder_like_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    with exclusive_lock(Path(), inside=True), pytest.raises(OutputError, match="being written by another run"):
        assert names(tmp_path) == ["a"] and names(tmp_path / "a") == [".landslip.lock"]
        with ThreadPoolExecutor(1) as another:
            another.submit(exclusive_lock(tmp_path / "a", inside=True).__enter__).result()
    with atomic_files(Path(), ["b"]) as aside:
        (aside / "b").touch()
    with pytest.raises(OutputError, match=r"^\. is a folder, and no name"), atomic_folder(Path(), overwrite=True):
        pass
    with exclusive_lock(tmp_path / "c", inside=True):
        pass
    assert names(tmp_path) == ["a"]  # c was made for the lock alone


def test_a_lock_that_a_killed_process_left_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / ".a.lock").touch()
    with exclusive_lock(tmp_path / "a"), atomic_write(tmp_path / "a") as aside:  # of one process, one inside the other
        aside.write_text("")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_pipe_is_no_output(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    with pytest.raises(OutputError, match="neither a file nor a folder"):
        refuse_existing(tmp_path / "a", overwrite=True)
