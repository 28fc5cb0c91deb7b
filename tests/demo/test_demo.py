import json
from pathlib import Path

import pytest
from conftest import TINY

from landslip.demo import demo as module
from landslip.demo.demo import Kind, _claim, demo
from landslip.errors import OutputError

SMALL_RUN = f"""
[blocks]
window = 32
step = 16

[split]
region = 64
guard = 8

[network]
{TINY}

[training]
epochs = 1
precision = "fp32"
"""


def test_an_interrupted_demo_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUICK", (256, 320))
    monkeypatch.setattr(module, "QUICK_RUN", SMALL_RUN)
    folder = tmp_path / "demo"

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "map_site", stopped)
        with pytest.raises(KeyboardInterrupt):
            demo(folder, quick=True, seed=3)
    kept = {name: (folder / name).stat().st_mtime_ns for name in ("inputs/site.toml", "model/model.safetensors")}
    scored = demo(folder, quick=True, seed=3)
    assert kept == {name: (folder / name).stat().st_mtime_ns for name in kept}

    found = json.loads((folder / "scores.json").read_text())
    assert {"accuracy", "precision", "recall", "f1", "kappa", "miou", "split", "part", "threshold"} <= set(found)
    assert (found["split"], found["part"], found["leaky"]) == ("apart", "test", False)
    assert found["kappa"] == pytest.approx(scored.scores["kappa"])
    assert len(list((folder / "pictures").glob("*.png"))) == 6
    assert {"site.toml", "run.toml", "prepared", "model", "map", "inventory", "scores"} <= {
        p.name for p in folder.iterdir()
    }

    with pytest.raises(OutputError, match="holds this demo, finished"):
        demo(folder, quick=True, seed=3)


@pytest.mark.parametrize("kind, name", [("rule", "Made-up site 3"), ("scars", "Made-up scars 3")])
def test_a_kind_of_site(kind: Kind, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "QUICK", (128, 160))
    monkeypatch.setattr(module, "prepare", stopped)
    with pytest.raises(KeyboardInterrupt):
        demo(tmp_path / "demo", quick=True, seed=3, kind=kind)
    assert (tmp_path / "demo" / "site.toml").read_text().startswith(f'name = "{name}"')
    with pytest.raises(OutputError, match="holds the demo with"):
        demo(tmp_path / "demo", quick=True, seed=3, kind="scars" if kind == "rule" else "rule")


def test_the_site_file_of_the_run_folder_is_the_users_own(tmp_path: Path) -> None:
    from landslip.config.site import read_site
    from landslip.demo.demo import _at_root

    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs" / "site.toml").write_text('name = "a"\n\n[dem]\npath = "dem.tif"\n')
    (tmp_path / "site.toml").write_text(_at_root(tmp_path / "inputs" / "site.toml"))
    inner, outer = read_site(tmp_path / "inputs" / "site.toml"), read_site(tmp_path / "site.toml")
    assert inner.dem is not None and outer.dem is not None
    assert inner.dem.path.resolve() == outer.dem.path.resolve()


def test_a_demo_takes_a_folder_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(OutputError, match="holds other files"):
        _claim(tmp_path, {"seed": 1}, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "all of it"


def test_another_demo_is_replaced_only_on_demand(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    one: dict[str, object] = {"quick": True, "seed": 1, "factors": True, "kind": "rule"}
    two: dict[str, object] = {**one, "seed": 2}
    _claim(folder, one, overwrite=False)
    (folder / "model").mkdir()
    with pytest.raises(OutputError, match=r"'seed': 1.*not .*'seed': 2"):
        _claim(folder, two, overwrite=False)
    _claim(folder, one, overwrite=False)
    assert (folder / "model").exists()
    _claim(folder, two, overwrite=True)
    assert not (folder / "model").exists()
