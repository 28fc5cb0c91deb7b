"""Engines give what the network gives; memory is counted the same everywhere."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TinySite

from landslip.errors import DependencyError, ModelError, RunError
from landslip.inference.engines import (
    BASE,
    FEW,
    HELD_INPUTS,
    SHARE_HELD,
    bytes_of_a_pixel,
    choose_engine,
    most_pixels,
    openvino_engine,
    openvino_graph,
    require_memory,
    size_in_bytes,
    torch_engine,
)
from landslip.models import NETWORKS, build_model
from landslip.models.initialization import he_
from landslip.training.checkpoint import Model, load_model


def untrained(name: str, made: TinySite, **options: Any) -> Model:
    """A model of another network on the tiny site's channels, with running statistics that are not 0 and 1."""
    model = load_model(made.folder / "model")
    network = build_model(name, len(model.channels), **options)
    generator = torch.Generator().manual_seed(0)
    he_(network, generator)
    for key, tensor in network.state_dict().items():
        if key.endswith("running_mean"):
            tensor.normal_(0, 0.1, generator=generator)
        elif key.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=generator)
    facts = {**model.facts, "run": {**model.facts["run"], "network": {"name": name, "options": options}}}
    return replace(model, network=network.eval(), facts=facts)


@pytest.mark.parametrize("name", [name for name, network in NETWORKS.items() if not network.torch_only])
def test_openvino_gives_the_networks_logits(made: TinySite, name: str) -> None:
    pytest.importorskip("openvino", reason="the engine openvino needs OpenVINO")
    model = untrained(name, made)
    engine = openvino_engine(model, "fp32")
    for shape in ((1, 64, 64), (2, 64, 96), (1, 64, 64)):  # another shape, and back
        block = np.random.default_rng(0).normal(size=(shape[0], len(model.channels), *shape[1:])).astype(np.float32)
        expected = torch_engine(model, "fp32").logits(block)
        found = engine.logits(block)
        assert found.shape == shape and found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())
        assert np.array_equal(engine.logits(block), found)


def test_a_network_is_traced_once_and_another_anew(made: TinySite, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch keeps all that it has traced: 11 MiB for each map of a full FC-DenseNet, in a process that maps many."""
    pytest.importorskip("openvino", reason="the engine openvino needs OpenVINO")
    traced: list[int] = []
    monkeypatch.setattr(
        "landslip.inference.engines.openvino_graph", lambda *given: traced.append(1) or openvino_graph(*given)
    )
    monkeypatch.setattr("landslip.inference.engines._traced", {})
    block = np.random.default_rng(0).normal(size=(1, 18, 64, 64)).astype(np.float32)
    model = load_model(made.folder / "model")
    first, second = openvino_engine(model, "fp32"), openvino_engine(load_model(made.folder / "model"), "fp32")
    assert len(traced) == 1
    found = first.logits(block)
    assert second.logits(np.zeros((2, 18, 32, 64), np.float32)).shape == (2, 32, 64)  # of its own shape
    assert np.array_equal(second.logits(block), found) and np.array_equal(first.logits(block), found)
    with torch.no_grad():
        next(model.network.parameters()).mul_(2)
    changed = openvino_engine(model, "fp32").logits(block)
    assert len(traced) == 2
    np.testing.assert_allclose(changed, torch_engine(model, "fp32").logits(block), atol=1e-4)
    assert not np.allclose(changed, found, atol=1e-2)


def test_what_an_engine_gave_is_not_overwritten_by_the_next_block(made: TinySite) -> None:
    pytest.importorskip("openvino", reason="the engine openvino needs OpenVINO")
    model = load_model(made.folder / "model")
    engine = openvino_engine(model)
    one, two = np.random.default_rng(0).normal(size=(2, 1, len(model.channels), 64, 64)).astype(np.float32)
    first = engine.logits(one)
    kept = first.copy()
    engine.logits(two)
    assert np.array_equal(first, kept)


def test_the_default_is_openvino_where_it_can_run(made: TinySite, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", reason="the engine openvino needs OpenVINO")
    if torch.cuda.is_available():
        pytest.skip("a GPU is here, and PyTorch runs on it")
    model = load_model(made.folder / "model")
    assert choose_engine(model).name == "openvino" and choose_engine(model, "torch").name == "torch"
    assert [choose_engine(model, pixels=pixels).name for pixels in (FEW - 1, FEW)] == ["torch", "openvino"]
    assert choose_engine(model, "openvino", pixels=1).name == "openvino"  # what is asked for is done
    segnet = untrained("segnet", made)
    assert choose_engine(segnet).name == "torch"
    with pytest.raises(RunError, match=r"is a SegNet.*--engine torch"):
        choose_engine(segnet, "openvino")
    monkeypatch.setattr("landslip.inference.engines.find_spec", lambda _: None)
    assert choose_engine(model).name == "torch"


def test_an_engine_that_is_not_installed_is_named(made: TinySite, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(made.folder / "model")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(DependencyError, match=r"landslip\[fast\]"):
        choose_engine(model, "openvino")
    with pytest.raises(RunError, match="int8 goes with --engine openvino"):
        choose_engine(model, "torch", "int8")


def test_int8_needs_a_calibrated_model(made: TinySite) -> None:
    pytest.importorskip("openvino", reason="the engine openvino needs OpenVINO")
    with pytest.raises(ModelError, match=r"was not calibrated for int8.*landslip quantize"):
        choose_engine(load_model(made.folder / "model"), "auto", "int8")


class Two(torch.nn.Module):
    """A convolution to three maps and one to a logit: 16 bytes of output a pixel."""

    multiple = 4

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Conv2d(18, 3, 3, padding=1), torch.nn.Conv2d(3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.layers(x))


def test_bytes_of_a_pixel_are_counted_from_the_layers(made: TinySite) -> None:
    model = replace(load_model(made.folder / "model"), network=Two())
    inputs = HELD_INPUTS * 4 * len(model.channels)
    for engine, share in SHARE_HELD.items():
        assert bytes_of_a_pixel(model, engine) == pytest.approx(inputs + share * 16)
    assert not any(layer._forward_hooks for layer in model.network.modules())


def test_memory_sets_the_pixels_of_a_block() -> None:
    for engine, base in BASE.items():
        assert most_pixels(engine, 1000, base + 1e6, 1000) == 1000
    for memory in (BASE["torch"] + 1e6 - 1, 100 * 2**20):
        with pytest.raises(RunError, match=r"MiB holds no window: .* of 1000 pixels, a process takes 601 MiB"):
            most_pixels("torch", 1000, memory, 1000)


def test_processes_that_this_machine_cannot_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is here, and its memory is the limit")
    monkeypatch.setattr("landslip.inference.engines.machine_memory", lambda: 4 * BASE["torch"])
    require_memory("torch", BASE["torch"] / 1000, 1000, 2)
    with pytest.raises(RunError, match=r"3 processes of 1,200 MiB need more than the 2,400 MiB .* fewer workers"):
        require_memory("torch", BASE["torch"] / 1000, 1000, 3)
    with pytest.raises(RunError, match=r"^1 process of 3,000 MiB needs more than the 2,400 MiB .* --memory\.$"):
        require_memory("torch", 4 * BASE["torch"] / 1000, 1000, 1)
    monkeypatch.setattr("landslip.inference.engines.machine_memory", lambda: float("nan"))  # the system does not say
    require_memory("torch", BASE["torch"] / 1000, 1000, 3)


def test_sizes_are_read_as_people_write_them() -> None:
    texts = ("512", "800MB", "2GB", "1.5 GiB", "2g", "1TB")
    assert [size_in_bytes(text) for text in texts] == [512, 800 * 2**20, 2**31, 1.5 * 2**30, 2**31, 2**40]
    for wrong in ("", "much", "-1GB", "1,5GB", "GB"):
        with pytest.raises(RunError, match="not a size"):
            size_in_bytes(wrong)


def test_openvino_does_not_report_its_use(made: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", reason="the engine openvino needs OpenVINO")
    telemetry = pytest.importorskip("openvino_telemetry", reason="without it nothing could be reported")
    sent: list[Any] = []
    monkeypatch.setattr(telemetry.Telemetry, "send_event", lambda *a, **k: sent.append(a))
    monkeypatch.setattr(telemetry.Telemetry, "start_session", lambda *a, **k: sent.append(a))
    model = load_model(made.folder / "model")
    openvino_engine(model).logits(np.zeros((1, len(model.channels), 64, 64), np.float32))
    assert sent == []


def test_what_openvino_refuses_is_one_error(made: TinySite) -> None:
    pytest.importorskip("openvino", reason="the engine openvino needs OpenVINO")
    model = load_model(made.folder / "model")
    with pytest.raises(RunError, match=r"cannot run a window of 64 x 64 pixels .*--engine torch"):
        openvino_engine(model).logits(np.zeros((1, len(model.channels) + 1, 64, 64), np.float32))
