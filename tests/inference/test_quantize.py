"""An int8 model is calibrated on training ground alone, compared as it is read, and maps nearly as fp32 does."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import command, contents
from conftest import SHAPE, TinySite, rewrite_split
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score, f1_score

import landslip.inference.quantize
from landslip.dataset.blocks import Blocks
from landslip.errors import DependencyError, GridError, ModelError, OutputError, ResumeError, RunError, SplitError
from landslip.geo.geotiff import write_raster
from landslip.geo.grid import Window
from landslip.geo.raster import read, read_info, read_stored
from landslip.inference.engines import choose_engine, openvino_graph
from landslip.inference.int8 import read_graph
from landslip.inference.mapping import map_site
from landslip.inference.quantize import quantization_table, quantize
from landslip.inference.tile_store import TileStore
from landslip.models import build_model
from landslip.runtime.disk import file_hash
from landslip.training.checkpoint import load_model, save_model

pytest.importorskip("openvino", reason="int8 needs OpenVINO")
pytest.importorskip("nncf", reason="calibrating for int8 needs NNCF")

FILES = ("int8.bin", "int8.json", "int8.xml")
NEAR = 0.06  # largest difference of probability between int8 and fp32, of the tiny network; measured: 0.029
MEAN = 0.006  # their mean; measured: 0.0026


@pytest.fixture(scope="module")
def int8(made: TinySite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model calibrated for int8; read only."""
    folder = tmp_path_factory.mktemp("int8") / "model"
    shutil.copytree(made.folder / "model", folder)
    done = command("quantize", folder, made.folder / "prepared")
    assert done.code == 0, done.err
    (folder.parent / "said").write_text(done.out)
    return folder


@pytest.fixture
def model(made: TinySite, tmp_path: Path) -> Path:
    """The tiny model, to be changed."""
    return Path(shutil.copytree(made.folder / "model", tmp_path / "model"))


@pytest.fixture
def changed(int8: Path, tmp_path: Path) -> Path:
    """The calibrated model, to be changed."""
    return Path(shutil.copytree(int8, tmp_path / "changed"))


def mapped(folder: Path, made: TinySite, out: Path, precision: str, **options: Any) -> NDArray[np.float32]:
    map_site(load_model(folder), made.folder / "prepared" / "stack.tif", out, precision_choice=precision, **options)
    return read_stored(out)


def test_what_is_written_and_said(made: TinySite, int8: Path) -> None:
    assert {p.name for p in int8.iterdir()} == {p.name for p in (made.folder / "model").iterdir()} | set(FILES)
    for path in (made.folder / "model").iterdir():
        assert (int8 / path.name).read_bytes() == path.read_bytes()
    facts, said = json.loads((int8 / "int8.json").read_text()), (int8.parent / "said").read_text()
    assert facts["weights_sha256"] == file_hash(int8 / "model.safetensors")
    assert facts["files"] == {name: file_hash(int8 / name) for name in ("int8.xml", "int8.bin")}
    assert {"openvino", "nncf"} <= set(facts["software"])
    first, *_, last = said.splitlines()  # nothing of NNCF's own before, between or after
    assert first.startswith(f"Calibrated on {facts['blocks']['count']} blocks of 32 px") and len(said.splitlines()) == 6
    assert last == f"Map with it: landslip map {int8} STACK.tif PROBABILITY.tif --precision int8"
    f1 = facts["validation"]["f1"]
    info = command("info", int8).out
    assert f"int8        F1 {f1['int8']:.4f} on validation ground, where fp32 has {f1['fp32']:.4f}" in info
    assert "int8" not in command("info", made.folder / "model").out


def test_the_comparison_is_that_of_the_maps_on_validation_ground(made: TinySite, int8: Path, tmp_path: Path) -> None:
    fp32 = mapped(int8, made, tmp_path / "a.tif", "fp32", engine_choice="openvino")
    other = mapped(int8, made, tmp_path / "b.tif", "int8")
    prepared = made.folder / "prepared"
    held = (read_stored(int8 / "split.tif") == 2) & (read_stored(prepared / "valid.tif") == 1)
    label = read_stored(prepared / "label.tif")[held]
    found = json.loads((int8 / "int8.json").read_text())["validation"]
    threshold = found["threshold"]
    assert threshold == load_model(int8).threshold and found["pixels"] == held.sum()
    # windows of the comparison and of the map end elsewhere, and in int8 rounding then falls otherwise
    for p, how, few in ((fp32[held], "fp32", 1e-6), (other[held], "int8", 0.002)):
        assert found["f1"][how] == pytest.approx(f1_score(label == 1, p >= threshold), abs=few)
        assert found["kappa"][how] == pytest.approx(cohen_kappa_score(label == 1, p >= threshold), abs=few)
    difference = np.abs(fp32[held] - other[held])
    assert found["mean_difference"] == pytest.approx(difference.mean(), rel=0.05)
    assert found["max_difference"] == pytest.approx(difference.max(), rel=0.2)
    assert found["changed"] == pytest.approx(((fp32 >= threshold) != (other >= threshold))[held].mean(), abs=0.002)


def test_a_map_in_int8_is_near_that_in_fp32_and_says_so(made: TinySite, int8: Path, tmp_path: Path) -> None:
    fp32 = mapped(int8, made, tmp_path / "a.tif", "fp32", engine_choice="torch")
    done = command("map", int8, made.folder / "prepared" / "stack.tif", tmp_path / "b.tif", "--precision", "int8")
    assert done.code == 0, done.err
    other = read_stored(tmp_path / "b.tif")
    assert np.array_equal(np.isnan(other), np.isnan(fp32))
    difference = np.abs(other - fp32)[~np.isnan(fp32)]
    assert 1e-4 < difference.mean() < MEAN and difference.max() < NEAR
    tags = read_info(tmp_path / "b.tif").tags
    assert tags["precision"] == "int8" and tags["engine"] == "openvino"
    mapped(int8, made, tmp_path / "c.tif", "int8")
    assert file_hash(tmp_path / "c.tif") == file_hash(tmp_path / "b.tif")


def test_the_weights_are_stored_in_int8(made: TinySite, int8: Path) -> None:
    ops = read_graph(int8 / "int8.xml").get_ordered_ops()
    held = [op for op in ops if op.get_type_name() == "Constant" and op.get_element_type().to_string() == "i8"]
    kernels = [p.numel() for p in load_model(int8).network.parameters() if p.ndim == 4]
    assert sum(np.prod(list(op.shape)) for op in held) >= 0.9 * sum(kernels)
    assert any(op.get_type_name() == "FakeQuantize" for op in ops)


def test_the_same_inputs_give_the_same_bytes(made: TinySite, int8: Path, changed: Path) -> None:
    before = contents(changed)
    with pytest.raises(OutputError, match=r"int8\.json exists already"):
        quantize(changed, made.folder / "prepared")
    quantize(changed, made.folder / "prepared", overwrite=True)
    assert contents(changed) == before


def test_calibration_sees_training_ground_alone(made: TinySite, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Window] = []

    def stop(_: Any, __: Any, blocks: Blocks, windows: list[Window]) -> None:
        seen.extend(windows)
        block = blocks.cut(windows[0])[0]  # as the network sees it in training
        assert block.shape == (18, 32, 32) and np.abs(block).max() < 30
        raise KeyboardInterrupt

    monkeypatch.setattr(landslip.inference.quantize, "_calibrated", stop)
    monkeypatch.setattr(landslip.inference.quantize, "MOST_BLOCKS", 9)
    parts = read_stored(model / "split.tif")
    draws = []
    for _ in range(2):
        seen.clear()
        with pytest.raises(KeyboardInterrupt):
            quantize(model, made.folder / "prepared")
        draws.append(list(seen))
    assert len(seen) == len(set(seen)) == 9 and draws[0] == draws[1]
    assert all((parts[w.slices] == 1).all() for w in seen)


def test_another_int8_model_does_not_go_on_from_a_killed_map(
    made: TinySite, changed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = mapped(changed, made, tmp_path / "whole.tif", "int8")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("landslip.inference.mapping._assemble", stop)
        mapped(changed, made, tmp_path / "p.tif", "int8")
    facts = json.loads((changed / "int8.json").read_text())
    (changed / "int8.json").write_text(json.dumps({**facts, "blocks": "others"}))
    with pytest.raises(ResumeError, match="another engine"):
        mapped(changed, made, tmp_path / "p.tif", "int8")
    (changed / "int8.json").write_text(json.dumps(facts, indent=2) + "\n")
    with monkeypatch.context() as patch:
        patch.setattr(TileStore, "keep", lambda *_: pytest.fail("computed again"))
        assert np.array_equal(mapped(changed, made, tmp_path / "p.tif", "int8"), whole, equal_nan=True)
    assert file_hash(tmp_path / "p.tif") == file_hash(tmp_path / "whole.tif")


def test_an_altered_int8_model_is_refused(made: TinySite, changed: Path) -> None:
    for name in ("int8.bin", "int8.xml"):
        kept = (changed / name).read_bytes()
        for harm in (kept[:-4], kept[:100] + bytes([kept[100] ^ 1]) + kept[101:], None):
            (changed / name).unlink() if harm is None else (changed / name).write_bytes(harm)
            with pytest.raises(
                ModelError, match=rf"{name} is not the file that int8\.json describes.*landslip quantize"
            ):
                choose_engine(load_model(changed), "auto", "int8")
        (changed / name).write_bytes(kept)
    facts = json.loads((changed / "int8.json").read_text())
    for text in ("{}", "[1]", "nothing", json.dumps({**facts, "files": {}})):
        (changed / "int8.json").write_text(text)
        with pytest.raises(ModelError, match=r"int8\.json does not describe an int8 model"):
            choose_engine(load_model(changed), "auto", "int8")
    (changed / "int8.json").write_text(json.dumps({**facts, "weights_sha256": "0" * 64}))
    with pytest.raises(ModelError, match=r"of other weights \(SHA-256 0{12}\).*trained anew"):
        choose_engine(load_model(changed), "auto", "int8")


def test_a_killed_calibration_leaves_no_int8_model_and_is_made_again(
    made: TinySite, int8: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, before = made.folder / "prepared", contents(model)
    with monkeypatch.context() as patch:
        patch.setattr(
            landslip.inference.quantize, "write_json", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            quantize(model, prepared)
    assert {p.name for p in model.iterdir()} == set(before) | {"int8.xml", "int8.bin"}
    with pytest.raises(ModelError, match="was not calibrated for int8"):
        choose_engine(load_model(model), "auto", "int8")
    (model / "int8.bin").write_bytes(b"half")
    quantize(model, prepared)
    assert contents(model) == contents(int8)


def test_an_int8_model_that_loses_too_much_is_not_written(
    made: TinySite, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, before = made.folder / "prepared", contents(model)

    def spoilt(*_: object) -> Any:
        """The graph of a network that finds nothing anywhere."""
        network = load_model(model).network
        for parameter in network.parameters():
            parameter.data.zero_()
        list(network.parameters())[-1].data.fill_(-9)  # the head's bias
        return openvino_graph(network, 18)

    monkeypatch.setattr(landslip.inference.quantize, "_calibrated", spoilt)
    with pytest.raises(ModelError, match=r"F1 0\.9\d+ on validation ground in fp32 and 0\.0000 in int8.*than 0\.01"):
        quantize(model, prepared)
    assert contents(model) == before
    done = quantize(model, prepared, tolerance=1)
    assert done.facts["validation"]["f1"]["int8"] == 0 and "0.00 %" in quantization_table(done)


def test_what_cannot_be_calibrated_is_refused_before_any_work(
    made: TinySite, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, before = made.folder / "prepared", contents(model)
    monkeypatch.setattr(landslip.inference.quantize, "_calibrated", lambda *_: pytest.fail("calibrated"))
    for tolerance in (-0.1, 1.5, float("nan")):
        with pytest.raises(RunError, match="--tolerance"):
            quantize(model, prepared, tolerance)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "nncf", None)
        with pytest.raises(DependencyError, match=r"pip install landslip\[int8\]"):
            quantize(model, prepared)
    further_south = read_info(prepared / "label.tif").grid.crop(Window(1, 0, *SHAPE))
    for name in ("stack.tif", "valid.tif", "label.tif"):
        info = read_info(prepared / name)
        values = read(prepared / name) if info.count > 1 else read_stored(prepared / name)[None]
        write_raster(tmp_path / "other" / name, values, further_south, [str(n) for n in info.names], info.nodata[0])
    with pytest.raises(GridError, match="do not lie on one grid"):
        quantize(model, tmp_path / "other")
    assert contents(model) == before
    label = read_stored(prepared / "label.tif")
    for kept, missing in ((label == 1, "other ground"), (label == 0, "landslide")):
        rewrite_split(model, np.where(kept, 2, 1).astype(np.uint8), {"split": "apart", "leaky": "no", "guard": "8"})
        with pytest.raises(SplitError, match=f"no known pixel of {missing}"):
            quantize(model, prepared)
    rewrite_split(model, np.full(SHAPE, 2, np.uint8), {"split": "apart", "leaky": "no", "guard": "8"})
    with pytest.raises(ModelError, match="no training window of 32 px"):
        quantize(model, prepared)
    (model / "split.tif").unlink()
    with pytest.raises(ModelError, match=r"split\.tif does not exist"):
        quantize(model, prepared)


def test_segnet_is_refused(made: TinySite, model: Path) -> None:
    loaded = load_model(model)
    facts = {**loaded.facts, "run": {**loaded.facts["run"], "network": {"name": "segnet", "options": {}}}}
    for key in ("format", "channels", "mean", "std", "threshold", "weights_sha256"):
        facts.pop(key)
    network = build_model("segnet", 18)
    save_model(model, network.state_dict(), loaded.channels, loaded.zscore, 0.5, facts=facts, overwrite=True)
    with pytest.raises(RunError, match="is a SegNet, whose unpooling only PyTorch has"):
        quantize(model, made.folder / "prepared")


def test_nncf_may_not_report_its_use() -> None:
    program = (
        "from landslip.inference.quantize import _libraries; _libraries(); import os; "
        "assert 'NNCF_CI' not in os.environ; "
        "from nncf.telemetry.wrapper import telemetry; print(type(telemetry).__name__)"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NNCF")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "MagicMock\n"  # its own stand-in, in place of NNCFTelemetry
