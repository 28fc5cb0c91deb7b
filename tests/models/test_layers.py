"""Counts, against arithmetic done by hand."""

import pytest
import torch
from torch import nn

from landslip.errors import ModelError
from landslip.models import NETWORKS, build_model
from landslip.models.layers import Pointwise, check_input, layer_table, macs, parameter_count


def test_check_input_names_size_and_multiple() -> None:
    check_input(torch.zeros(1, 3, 32, 64), 3, 16)
    with pytest.raises(ModelError, match=r"32 x 40 pixels.*multiple of 16"):
        check_input(torch.zeros(1, 3, 32, 40), 3, 16)
    with pytest.raises(ModelError, match=r"24 x 32 pixels.*multiple of 16"):
        check_input(torch.zeros(1, 3, 24, 32), 3, 16)
    with pytest.raises(ModelError, match="0 x 32 pixels"):
        check_input(torch.zeros(1, 3, 0, 32), 3, 16)
    with pytest.raises(ModelError, match=r"\(B, 3, H, W\), not \(1, 4, 32, 32\)"):
        check_input(torch.zeros(1, 4, 32, 32), 3, 16)
    with pytest.raises(ModelError, match=r"\(B, 3, H, W\), not \(3, 32, 32\)"):
        check_input(torch.zeros(3, 32, 32), 3, 16)


def test_parameter_count_by_hand() -> None:
    # 3x3 from 2 to 5 with bias: 2*5*9 + 5 = 95; batch norm of 5: scale and shift 10, statistics 10
    model = nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5))
    assert parameter_count(model) == (105, 10, 115)


def test_macs_by_hand() -> None:
    # one row per child; 8 x 8 outputs of the strided 3x3 with groups, then 8 x 8 of the 1x1
    model = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), nn.ReLU(), nn.Conv2d(6, 1, 1))
    first, last = 8 * 8 * 6 * (4 // 2) * 9, 8 * 8 * 6
    assert [row.macs for row in layer_table(model, 4, 16)] == [first, 0, last]
    assert macs(model, 4, 16) == first + last


def test_table_follows_the_data() -> None:
    rows = layer_table(build_model("unet", 7), 7, 64)
    assert [(row.name, row.channels, row.rows, row.columns) for row in rows] == [
        ("down.0", 64, 64, 64),
        ("down.1", 128, 32, 32),
        ("down.2", 256, 16, 16),
        ("bottom", 512, 8, 8),
        ("up.0", 256, 16, 16),
        ("join.0", 256, 16, 16),
        ("up.1", 128, 32, 32),
        ("join.1", 128, 32, 32),
        ("up.2", 64, 64, 64),
        ("join.2", 64, 64, 64),
        ("head", 1, 64, 64),
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_table_adds_up_to_the_network(name: str) -> None:
    model = build_model(name, 5)
    rows = layer_table(model, 5, 32)
    assert sum(row.parameters for row in rows) == sum(p.numel() for p in model.parameters())
    assert sum(row.parameters + row.statistics for row in rows) == parameter_count(model)[2]


class Nested(nn.Module):
    """Convolutions in a list of lists and in a dictionary, as U-Net++ has them."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.ModuleList([nn.ModuleList([nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)])])
        self.named = nn.ModuleDict({"head": nn.Conv2d(2, 1, 3, padding=1)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.rows[0]:
            x = layer(x)
        return self.named["head"](x)


def test_parts_in_lists_of_lists_and_dictionaries_count() -> None:
    rows = layer_table(Nested(), 2, 8)
    assert [row.name for row in rows] == ["rows.0.0", "rows.0.1", "named.head"]
    assert sum(row.macs for row in rows) == 8 * 8 * (2 * 2 + 2 * 2 + 2 * 9)


def test_parameters_in_no_part_are_an_error() -> None:
    model = Nested()
    model.scale = nn.Parameter(torch.ones(3))
    with pytest.raises(ModelError, match="has 34 parameters, and 31 of them"):
        layer_table(model, 2, 8)


def test_table_leaves_the_network_alone() -> None:
    model = build_model("resunet", 5).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    layer_table(model, 5, 32)
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
    for key, value in model.state_dict().items():
        assert value.device.type == "cpu" and torch.equal(value, before[key])


@pytest.mark.parametrize("bias", [True, False])
def test_pointwise_is_a_1x1_convolution_in_training_and_in_use(bias: bool) -> None:
    torch.manual_seed(3)
    layer = Pointwise(5, 4, bias)
    plain = nn.Conv2d(5, 4, 1, bias=bias)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(2, 5, 6, 7).to(memory_format=torch.channels_last)
    weight = torch.randn(2, 4, 6, 7)
    found = []
    for one in (layer.train(), plain):
        given = x.clone().requires_grad_()
        out = one(given)
        (out * weight).sum().backward()
        found.append((out.detach(), given.grad, one.weight.grad))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(layer.eval()(x), plain(x), rtol=0, atol=0)
