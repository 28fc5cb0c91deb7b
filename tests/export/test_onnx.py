"""A model as ONNX against PyTorch: raw values in, probability out, in any runtime and through Deepness's arithmetic."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CRS_UTM
from numpy.typing import NDArray

onnx = pytest.importorskip("onnx", reason="needs landslip[export]")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs landslip[export]")
pytest.importorskip("pystac", reason="needs landslip[export]")

from affine import Affine
from command import command

from landslip.dataset.channels import Channel
from landslip.dataset.zscore import ZScore
from landslip.errors import (
    ChannelError,
    DependencyError,
    LandslipError,
    ModelError,
    OutputError,
    RunError,
)
from landslip.export import onnx as export
from landslip.export.onnx_graph import RawToProbability
from landslip.geo.geotiff import write_raster
from landslip.geo.grid import Grid
from landslip.models import NETWORKS, build_model, fcn8s, resunet, segnet, unet
from landslip.models.forward import probabilities
from landslip.runtime.disk import file_hash
from landslip.training.checkpoint import load_model, save_model

PORTABLE = [name for name, network in NETWORKS.items() if not network.torch_only]
SMALL = {"layers": [1, 1, 1], "first_width": 8, "growth_rate": 4}
PLANES = (
    Channel("red", "red", "band", "reflectance"),
    Channel("elevation", "elevation", "factor", "m"),
    Channel("aspect_sin", "aspect", "factor", "", "sine"),
    Channel("lithology_hard", "lithology", "factor", "", "class"),
)
PAPER = (*PLANES[:2], Channel("aspect", "aspect", "factor", "degree"))
MEAN = {"red": 0.1, "elevation": 900.0, "aspect": 180.0}
STD = {"red": 0.03, "elevation": 150.0, "aspect": 100.0}


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The four networks without options, an eighth as wide or less: what they do stays the same."""
    monkeypatch.setattr(fcn8s, "WIDTHS", (4, 8, 8, 8, 16))
    monkeypatch.setattr(segnet, "DOWN", tuple((8,) * len(widths) for widths in segnet.DOWN))
    monkeypatch.setattr(segnet, "UP", tuple((8,) * len(widths) for widths in segnet.UP))
    monkeypatch.setattr(unet, "WIDTHS", (4, 8, 8))
    monkeypatch.setattr(unet, "BOTTOM", 16)
    monkeypatch.setattr(resunet, "WIDTHS", (4, 8, 8, 8, 16))


def write_model(
    folder: Path,
    name: str = "fc_densenet",
    channels: tuple[Channel, ...] = PLANES,
    temperature: float = 1.0,
    bias: float = 0.0,
) -> Path:
    """A model that nobody trained, but whose logits spread over some units, as a trained one's do."""
    torch.manual_seed(1)
    options: dict[str, Any] = SMALL if name.startswith("fc_densenet") else {}
    network = build_model(name, len(channels), **options)
    x = torch.randn(4, len(channels), 64, 64)
    with torch.no_grad():
        for _ in range(30):
            network(x)  # running statistics
        network.eval()
        logits = network(x)
        last = [
            module for module in network.head.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.BatchNorm2d)
        ]
        last[-1].weight *= 2 / float(logits.std())
        last[-1].bias -= float(network(x).mean())
    zscore = ZScore(*(np.array([of.get(c.name, rest) for c in channels]) for of, rest in ((MEAN, 0.0), (STD, 1.0))))
    facts = {
        "run": {"network": {"name": name, "options": options}, "blocks": {}},
        "site_inputs": {"stack.tif": "ab" * 32},
        "split": {"kind": "apart", "leaky": False, "guard": 32},
        "software": {"torch": torch.__version__},
        "temperature": temperature,
        "bias": bias,
    }
    save_model(folder, network.state_dict(), channels, zscore, 0.345, facts=facts)
    return folder


def raw_block(channels: tuple[Channel, ...], shape: tuple[int, ...], seed: int = 5) -> NDArray[np.float32]:
    """(N, C, H, W) in the channels' units, everything defined."""
    drawn = np.random.default_rng(seed).standard_normal((shape[0], len(channels), *shape[1:])).astype(np.float32)
    for i, channel in enumerate(channels):
        drawn[:, i] = drawn[:, i] * STD.get(channel.name, 1) + MEAN.get(channel.name, 0)
    return drawn


def by_hand(folder: Path, raw: NDArray[np.float32]) -> NDArray[np.float64]:
    """The probability from first principles: z-score, 0 where undefined, PyTorch's logits, sigmoid in float64."""
    model = load_model(folder)
    x = (raw.astype(np.float64) - model.zscore.mean[:, None, None]) / model.zscore.std[:, None, None]
    x = np.where(np.isfinite(x), x, 0).astype(np.float32)
    with torch.inference_mode():
        logits = model.network(torch.from_numpy(x)).numpy()[:, 0].astype(np.float64)
    return 1 / (1 + np.exp(-logits / model.scaling.temperature - model.scaling.bias))


def run_onnx(path: Path, raw: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: raw})
    assert len(found) == 1
    return np.asarray(found[0])


def metadata(path: Path) -> dict[str, Any]:
    return {entry.key: json.loads(entry.value) for entry in onnx.load(path).metadata_props}


@pytest.mark.parametrize("name", PORTABLE)
def test_every_network_says_what_pytorch_says(tmp_path: Path, name: str) -> None:
    folder = write_model(tmp_path / "model", name, temperature=2.5, bias=-0.7)
    done = export.export_model(folder, tmp_path / "out", window=64)
    raw = raw_block(PLANES, (2, 96, 32))  # another batch and another shape than those that were exported
    raw[0, 1, 3:9, 4:20] = math.nan
    raw[1, 2, 40, 7] = math.inf
    found = run_onnx(tmp_path / "out" / "model.onnx", raw)
    expected = by_hand(folder, raw)
    missing = np.zeros((2, 96, 32), bool)
    missing[0, 3:9, 4:20] = missing[1, 40, 7] = True
    assert found.shape == (2, 1, 96, 32) and found.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(found[:, 0]), missing)
    assert np.abs(found[:, 0] - expected)[~missing].max() < 1e-5
    assert expected.std() > 0.05, "a network that says the same everywhere would prove nothing"
    assert set(done.differences) == {"random", "deepness"} and max(done.differences.values()) <= 1e-4


def test_a_network_that_only_pytorch_runs_is_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", "segnet")
    with pytest.raises(RunError, match=r"is a SegNet, whose unpooling only PyTorch has.*Map it with .*--engine torch"):
        export.export_model(folder, tmp_path / "out", window=64)
    assert not (tmp_path / "out").exists()


def test_the_temperature_is_in_the_graph(tmp_path: Path) -> None:
    cold = export.export_model(write_model(tmp_path / "a"), tmp_path / "cold", window=64).folder
    warm = export.export_model(write_model(tmp_path / "b", temperature=3.0), tmp_path / "warm", window=64).folder
    raw = raw_block(PLANES, (1, 32, 32))
    p, q = (run_onnx(folder / "model.onnx", raw).astype(np.float64) for folder in (cold, warm))
    np.testing.assert_allclose(np.log(p / (1 - p)) / 3, np.log(q / (1 - q)), atol=1e-4)  # logits over the temperature


def test_an_aspect_that_flat_ground_lacks_is_no_gap(tmp_path: Path) -> None:
    # As in `prepare`: aspect in degrees takes no part in valid. Undefined is the channel's mean.
    folder = write_model(tmp_path / "model", channels=PAPER)
    export.export_model(folder, tmp_path / "out", window=64)
    raw = raw_block(PAPER, (1, 32, 32))
    raw[0, 2, :, :10] = math.nan
    at_mean = raw.copy()
    at_mean[0, 2, :, :10] = MEAN["aspect"]
    found = run_onnx(tmp_path / "out" / "model.onnx", raw)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, run_onnx(tmp_path / "out" / "model.onnx", at_mean), atol=1e-6)
    raw[0, 0, 5, 5] = math.nan
    assert np.isnan(run_onnx(tmp_path / "out" / "model.onnx", raw)).sum() == 1


@pytest.mark.parametrize("nodata", [-9999, -999.25])  # Deepness's arithmetic keeps the first, moves the second
def test_nodata_is_undefined_too(tmp_path: Path, nodata: float) -> None:
    folder = write_model(tmp_path / "model")
    export.export_model(folder, tmp_path / "out", window=64, nodata=nodata)
    raw = raw_block(PLANES, (1, 64, 64))
    raw[0, 1, 8:20, 8:20] = math.nan
    stated = np.where(np.isnan(raw), np.float32(nodata), raw)
    for file in ("model.onnx", "deepness.onnx"):
        np.testing.assert_array_equal(run_onnx(tmp_path / "out" / file, stated), run_onnx(tmp_path / "out" / file, raw))
    through = as_deepness_feeds(tmp_path / "out" / "deepness.onnx", stated)
    assert (run_onnx(tmp_path / "out" / "deepness.onnx", through)[0, 0, 8:20, 8:20] == 0).all()
    with pytest.raises(RunError, match="aspect_sin, lithology_hard can have"):
        export.export_model(folder, tmp_path / "zero", nodata=0)


def as_deepness_feeds(path: Path, raw: NDArray[np.float32]) -> NDArray[np.float32]:
    """The plugin's arithmetic on (N, H, W, C) with the file's own metadata.

    PUTvision/qgis-plugin-deepness, models/preprocessing_utils.py and model_base.py: np.float32(x * 1. / 255.),
    minus the mean and over the deviation as float32 arrays, then (N, C, H, W).
    """
    about = metadata(path)
    mean, std = (np.array([float(v) for v in about[f"standardization_{key}"]], np.float32) for key in ("mean", "std"))
    with np.errstate(invalid="ignore"):
        tiles = (np.float32(raw.transpose(0, 2, 3, 1) * 1.0 / 255.0) - mean) / std
    return np.ascontiguousarray(tiles.transpose(0, 3, 1, 2))


def test_deepness_reads_it_and_its_arithmetic_is_the_identity(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", temperature=1.7)
    grid = Grid(CRS_UTM, Affine(12.5, 0, 460_000, 0, -12.5, 3_430_000), 40, 50)
    write_raster(folder / "split.tif", np.ones((1, 40, 50), np.uint8), grid, ["part"])
    done = export.export_model(folder, tmp_path / "out", window=64)
    path = tmp_path / "out" / "deepness.onnx"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given, output = session.get_inputs(), session.get_outputs()
    # Segmentor.check_loaded_model_outputs and get_number_of_output_channels: one output, four dimensions, square
    assert len(given) == len(output) == 1
    assert given[0].shape[1:] == [4, 64, 64] and isinstance(given[0].shape[0], str)
    assert output[0].shape[1:] == [1, 64, 64]
    about = {key: json.loads(text) for key, text in session.get_modelmeta().custom_metadata_map.items()}
    assert str(about["model_type"]).capitalize() == "Segmentor"
    assert about["class_names"] == {"0": "not landslide", "1": "landslide"}
    assert about["resolution"] == 1250.0 and done.resolution == 12.5  # centimetres and metres
    assert about["tile_size"] == 64 and about["seg_small_segment"] == 0
    assert about["seg_thresh"] == 0.345
    raw = raw_block(PLANES, (1, 64, 64))
    raw[0, 1, :8, :8] = math.nan
    fed = as_deepness_feeds(path, raw)
    result = run_onnx(path, fed)
    expected = by_hand(folder, raw)
    expected[0, :8, :8] = 0  # NaN would be landslide there: MapProcessorSegmentation takes what is not 0
    assert np.abs(result[:, 0] - expected).max() <= 1e-4
    result[result < about["seg_thresh"]] = 0.0
    sure = np.abs(expected - 0.345) > 1e-4
    np.testing.assert_array_equal((result[:, 0] != 0)[sure], (expected >= 0.345)[sure])
    assert np.nanmax(np.abs(run_onnx(path, raw / 255)[:, 0] - expected)) > 0.05, "without our metadata it would differ"


def test_deepness_overlaps_as_far_as_landslip_looks_around() -> None:
    # Deepness: overlap = int(tile * per cent / 100 * 2) // 2, half of it cut off on each side (processing_overlap.py)
    class Fake:
        channels, threshold = PLANES, 0.5

    for window, cut in ((512, 97), (256, 64), (128, 32)):  # the halo is 96, and Deepness allows half a tile
        percent = export.deepness_metadata(Fake(), window, None)["tiles_overlap"]
        assert int(window * percent / 100 * 2) // 2 // 2 == cut
        assert "resolution" not in export.deepness_metadata(Fake(), window, None)


def test_the_metadata_say_what_the_model_is(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", temperature=1.5)
    done = export.export_model(folder, tmp_path / "out", window=64)
    about = metadata(tmp_path / "out" / "model.onnx")
    assert [c["name"] for c in about["landslip_channels"]] == [c.name for c in PLANES]
    assert about["landslip_channels"][1] == {
        "name": "elevation",
        "factor": "elevation",
        "group": "factor",
        "unit": "m",
        "kind": "continuous",
        "mean": 900.0,
        "std": 150.0,
    }
    assert about["landslip_threshold"] == 0.345 and about["landslip_temperature"] == 1.5
    assert about["landslip_weights_sha256"] == file_hash(folder / "model.safetensors")
    assert about["landslip_site_inputs"] == {"stack.tif": "ab" * 32}
    assert about["landslip_differences"] == done.differences
    assert about["landslip_exported_with"]["onnxruntime"] == onnxruntime.__version__
    assert "standardization_mean" not in about and "resolution" not in about
    proto = onnx.load(tmp_path / "out" / "model.onnx")
    assert about["landslip_opset"] == proto.opset_import[0].version == 17
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["files"] == {n: file_hash(tmp_path / "out" / n) for n in manifest["files"]}
    item = json.loads((tmp_path / "out" / "item.json").read_text())
    assert item["assets"]["model"]["href"] == "./model.onnx"
    assert item["assets"]["model"]["file:checksum"] == "1220" + file_hash(tmp_path / "out" / "model.onnx")
    assert item["properties"]["mlm:input"][0]["value_scaling"] is None  # in the graph


def test_real_blocks_are_compared_too(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    grid = Grid(CRS_UTM, Affine(15, 0, 460_000, 0, -15, 3_430_000), 70, 300)
    values = raw_block(PLANES, (1, 70, 300))[0]
    values[:, :20] = np.nan
    names = [channel.name for channel in PLANES]
    write_raster(tmp_path / "stack.tif", values[::-1].copy(), grid, names[::-1], nodata=math.nan)  # in any order
    done = export.export_model(folder, tmp_path / "out", window=64, check=tmp_path / "stack.tif")
    assert 0 < done.differences["real"] <= 1e-4
    write_raster(tmp_path / "few.tif", values[:2], grid, names[:2], nodata=math.nan)
    with pytest.raises(ChannelError, match="lacks aspect_sin, lithology_hard"):
        export.export_model(folder, tmp_path / "few", check=tmp_path / "few.tif")
    values[1] = np.nan
    write_raster(tmp_path / "gap.tif", values, grid, names, nodata=math.nan)
    with pytest.raises(ModelError, match="no pixel that is defined in every channel"):
        export.export_model(folder, tmp_path / "gap", check=tmp_path / "gap.tif")
    assert not (tmp_path / "few").exists() and not (tmp_path / "gap").exists()


def test_a_graph_that_says_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = write_model(tmp_path / "model"), tmp_path / "out"
    real = probabilities
    monkeypatch.setattr("landslip.export.onnx_check.probabilities", lambda *args: real(*args) + np.float32(2e-4))
    with pytest.raises(ModelError, match=r"differs from PyTorch by 0\.0002 .*random blocks.*onnxruntime"):
        export.export_model(folder, out, window=64)
    monkeypatch.setattr("landslip.export.onnx_check.probabilities", real)
    monkeypatch.setattr("landslip.export.onnx_check.deepness_statistics", lambda n: ([0.0] * n, [1.0] * n))
    with pytest.raises(ModelError, match="deepness blocks"):
        export.export_model(folder, out, window=64)
    monkeypatch.undo()
    monkeypatch.setattr(Channel, "decides_valid", property(lambda channel: channel.name != "red"))  # in the graph only
    module = RawToProbability(load_model(folder), None, math.nan).eval()
    monkeypatch.undo()
    monkeypatch.setattr("landslip.export.onnx_graph.RawToProbability", lambda *args, **kwargs: module)
    with pytest.raises(ModelError, match="differs from PyTorch by inf"):
        export.export_model(folder, out, window=64)
    assert not list(tmp_path.glob("*out*"))


def test_what_cannot_be_exported_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = write_model(tmp_path / "model"), tmp_path / "out"
    with pytest.raises(RunError, match=r"--window 66 does not fit fc_densenet.*multiple of 2\b|--window"):
        export.export_model(folder, out, window=65)
    with pytest.raises(RunError, match="--resolution -3"):
        export.export_model(folder, out, resolution=-3)

    def fails(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("no such operator")

    with monkeypatch.context() as patched:
        patched.setattr(torch.onnx, "export", fails)
        with pytest.raises(ModelError, match=r"torch \d.*onnx \d.*onnxruntime \d.*no such operator"):
            export.export_model(folder, out)
    for name in ("onnx", "onnxruntime", "pystac"):
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, name, None)
            with pytest.raises(DependencyError, match=rf"needs {name}.*pip install landslip\[export\]"):
                export.export_model(folder, out)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for altered in (whole[:-40], bytes([whole[-1] ^ 1]).join([whole[:-1], b""])):
        weights.write_bytes(altered)
        with pytest.raises(ModelError, match="truncated or altered"):
            export.export_model(folder, out)
    weights.write_bytes(whole)
    assert not out.exists()


def test_an_earlier_export_is_replaced_only_when_told(tmp_path: Path) -> None:
    folder, out = write_model(tmp_path / "model"), tmp_path / "out"
    words = ("export", folder, out, "--window", 64)
    first = command(*words)
    assert first.code == 0 and "largest difference from PyTorch" in first.out and "--resolution" in first.err, first
    stamp = (out / "manifest.json").read_bytes()
    assert command(*words).code == 2 and (out / "manifest.json").read_bytes() == stamp
    assert command(*words, "--resolution", 15, "--overwrite").code == 0
    assert metadata(out / "deepness.onnx")["resolution"] == 1500
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="did not write"):
        export.export_model(folder, tmp_path / "mine", overwrite=True)
    with pytest.raises(LandslipError):
        export.export_model(folder, folder, overwrite=True)
