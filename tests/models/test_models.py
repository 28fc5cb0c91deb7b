"""The five networks against the paper's Table IX, and what a caller may rely on."""

import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from landslip.errors import ModelError, RunError
from landslip.models import NETWORKS, build_model
from landslip.models.fc_densenet import DenseBlock, FCDenseNet, TransitionDown, TransitionUp
from landslip.models.fcn8s import FCN8s
from landslip.models.initialization import he_, positive_unit_ball_
from landslip.models.layers import layer_table, macs, parameter_count

# Parameters, statistics and total at 7 channels (the total is Gao et al. 2021, Table IX), total at 16, MACs
# of one 64 x 64 block at 7 and 16 channels: a search, apart from this code, for layouts that give the table.
COUNTS = {
    "fcn8s": (6_296_581, 3_968, 6_300_549, 6_328_773, 391_938_048, 507_543_552),
    "segnet": (29_445_379, 15_874, 29_461_253, 29_466_437, 2_508_193_792, 2_529_427_456),
    "unet": (7_700_741, 0, 7_700_741, 7_705_925, 2_613_321_728, 2_634_555_392),
    "resunet": (9_863_685, 10_752, 9_874_437, 9_877_317, 1_240_473_600, 1_252_270_080),
    "fc_densenet": (2_934_162, 27_514, 2_961_676, 2_965_564, 1_421_958_048, 1_437_883_296),
    # the totals at 16: nine more channels in the first 3x3 convolution to 64, 9 * 64 * 9 = 5,184 weights more
    "fc_densenet_shallow": (2_946_014, 15_662, 2_961_676, 2_966_860, 2_394_028_752, 2_415_262_416),
}
MULTIPLES = {
    "fcn8s": 32,
    "segnet": 32,
    "unet": 8,
    "resunet": 16,
    "fc_densenet": 16,
    "fc_densenet_shallow": 16,
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small arrays: more threads only wait for each other on a busy machine
    yield
    torch.set_num_threads(threads)


def _built(name: str, in_channels: int, **options: Any) -> nn.Module:
    torch.manual_seed(3)
    model = build_model(name, in_channels, **options)
    he_(model, torch.Generator().manual_seed(3))
    return model


def _drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("name", NETWORKS)
def test_counts_equal_those_by_hand(name: str) -> None:
    """Of the paper's five they are those of its Table IX."""
    assert name in COUNTS, f"count {name} by hand, and enter it in COUNTS and MULTIPLES"
    parameters, statistics, total, total_16, macs_7, macs_16 = COUNTS[name]
    seven, sixteen = build_model(name, 7), build_model(name, 16)
    assert parameter_count(seven) == (parameters, statistics, total)
    assert parameter_count(sixteen)[2] == total_16
    assert macs(seven, 7) == macs_7
    assert macs(sixteen, 16) == macs_16


def test_fc_densenet_at_19_channels() -> None:
    # planes encoding: 7 bands, 9 planes, 3 lithology classes; 2,961,676 + 12 channels * 48 * 9
    assert parameter_count(build_model("fc_densenet", 19))[2] == 2_966_860 == 2_961_676 + 12 * 48 * 9


@pytest.mark.parametrize("name", NETWORKS)
def test_any_multiple_gives_one_logit_a_pixel(name: str) -> None:
    model = _built(name, 5).eval()
    multiple = MULTIPLES[name]
    assert model.multiple == multiple
    for height, width in [(multiple, 3 * multiple), (2 * multiple, multiple)]:
        with torch.no_grad():
            logits = model(_drawn(2, 5, height, width))
        assert logits.shape == (2, 1, height, width)
        assert logits.std() > 0
    with pytest.raises(ModelError, match=f"multiple of {multiple}"):
        model(_drawn(1, 5, multiple, multiple + multiple // 2))
    with pytest.raises(ModelError, match=r"\(B, 5, H, W\)"):
        model(_drawn(1, 6, multiple, multiple))


@pytest.mark.parametrize("name", NETWORKS)
def test_gradient_reaches_every_parameter_and_channel(name: str) -> None:
    model = _built(name, 5).train()
    x = _drawn(4, 5, 32, 32).requires_grad_()
    (model(x) * _drawn(4, 1, 32, 32)).sum().backward()
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None, path
        # a bias before a batch norm is subtracted again: its gradient is rounding error, rightly
        assert parameter.ndim == 1 or parameter.grad.abs().sum() > 0, path
    assert x.grad is not None and bool((x.grad.abs().amax((0, 2, 3)) > 0).all())


@pytest.mark.parametrize("name", NETWORKS)
def test_eval_is_deterministic_and_blind_to_the_batch(name: str) -> None:
    model = _built(name, 5).eval()
    x = _drawn(2, 5, 32, 32)
    with torch.no_grad():
        both = model(x)
        assert torch.equal(both, model(x))
        torch.testing.assert_close(both[1:], model(x[1:]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_channels_last_and_bf16_give_the_same_map(name: str) -> None:
    model = _built(name, 5).train()
    x = _drawn(4, 5, 32, 32)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0  # running statistics of this batch, so that eval is well scaled
        model(x)
        model.eval()
        expected = model(x)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = x.contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(model(x), expected, rtol=1e-3, atol=1e-3)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(x).float()
    # bf16 keeps 8 bits: the maps agree, the digits do not; in SegNet the places of near-equal maxima jump too
    # (0.99 with the places of fp32)
    agreement = torch.corrcoef(torch.stack([rough.flatten(), expected.flatten()]))[0, 1]
    assert agreement > (0.5 if name == "segnet" else 0.95)


@pytest.mark.parametrize("name", ["unet", "resunet"])
def test_head_adds_two_rectified_maps(name: str) -> None:
    model = _built(name, 5).eval()
    last = model.get_submodule("head.2")
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    with torch.no_grad():
        last.weight.fill_(1.0)
        last.bias.zero_()
        logits = model(_drawn(2, 5, 32, 32))
    assert logits.min() >= 0 and logits.max() > 0


@pytest.mark.parametrize("name", ["unet", "resunet"])
@pytest.mark.parametrize("seed", range(8))
def test_a_head_of_two_maps_starts_linear(name: str, seed: int) -> None:
    # w max(a, 0) - w max(-a, 0) = w a: no pixel is without a gradient, and the logit can be raised and lowered
    model = build_model(name, 3)
    he_(model, torch.Generator().manual_seed(seed))
    head = model.get_submodule("head")
    x = _drawn(2, head[0].in_channels, 16, 16).requires_grad_()  # type: ignore[index]
    head(x).sum().backward()  # type: ignore[operator]
    assert x.grad is not None and (x.grad.abs().sum(dim=1) > 0).all()
    with torch.no_grad():
        torch.testing.assert_close(head(-x), -head(x))  # type: ignore[operator]
        assert head(x).min() < 0 < head(x).max()  # type: ignore[operator]


def test_fcn8s_scores_go_up_bilinearly() -> None:
    model = FCN8s(2).eval()
    with torch.no_grad():
        for score in (model.score32, model.score16, model.score8):
            score.weight.zero_()
            assert score.bias is not None
            score.bias.zero_()
        model.head.weight.fill_(1.0)
        assert model.head.bias is not None
        model.head.bias.zero_()
        # scores 0, 1, 2, 3 side by side, up x8 with pixel centres at (i + 1/2) / 8 - 1/2, held at the ends
        model.score8.register_forward_hook(lambda *_: torch.arange(4.0).expand(1, 1, 4, 4))
        row = model(torch.zeros(1, 2, 32, 32))[0, 0, 0]
    torch.testing.assert_close(row, ((torch.arange(32) + 0.5) / 8 - 0.5).clamp(0, 3))


def test_names_and_options_are_refused_with_the_nearest() -> None:
    with pytest.raises(RunError, match=r"'fcdensenet'.*did you mean fc_densenet\?.*fcn8s, segnet, unet"):
        build_model("fcdensenet", 7)
    with pytest.raises(RunError, match=r"'growth'.*did you mean growth_rate\?.*compression"):
        build_model("fc_densenet", 7, growth=12)
    with pytest.raises(RunError, match=r"'dropout' is no option of network unet.*none"):
        build_model("unet", 7, dropout=0.1)
    for channels in (0, -1, True, 7.0):
        with pytest.raises(RunError, match="1 channel or more"):
            build_model("unet", channels)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("growth_rate", 0),
        ("growth_rate", "16"),
        ("first_width", 2.5),
        ("layers", (4, 4)),
        ("layers", (4, 0, 4)),
        ("layers", ()),
        ("layers", "444"),
        ("compression", 0),
        ("compression", 1.5),
        ("compression", 0.001),
        ("up_width", "both"),
        ("dropout", 1.0),
        ("dropout", -0.1),
    ],
)
def test_fc_densenet_refuses_options(option: str, value: object) -> None:
    with pytest.raises(RunError, match=option):
        build_model("fc_densenet", 7, **{option: value})


def test_importing_the_names_does_not_import_torch() -> None:
    script = "import sys, landslip.models; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


# FC-DenseNet


def _closed_form(c: int, k: int, layers: list[int], first: int, theta: float) -> tuple[list[int], int]:
    """Widths after each dense block, and Keras's count, from the formulas of Huang et al. and Jegou et al."""

    def conv(i: int, o: int, kernel: int) -> int:
        return i * o * kernel**2 + o

    def block(w: int, n: int) -> int:
        return sum(4 * (w + i * k) + conv(w + i * k, 4 * k, 1) + 4 * 4 * k + conv(4 * k, k, 3) for i in range(n))

    depth = len(layers) // 2
    w, total, widths, skips = first, conv(c, first, 3), [], []
    for n in layers[:depth]:
        total, w = total + block(w, n), w + n * k
        widths.append(w)
        skips.append(w)
        total, w = total + 4 * w + conv(w, int(theta * w), 1), int(theta * w)
    total, w = total + block(w, layers[depth]), w + layers[depth] * k
    widths.append(w)
    for n, skip in zip(layers[depth + 1 :], skips[::-1], strict=True):
        total, w = total + conv(w, skip, 3), 2 * skip
        total, w = total + block(w, n), w + n * k
        widths.append(w)
    return widths, total + conv(w, 1, 1) + 4


@settings(max_examples=12)
@given(
    c=st.integers(1, 9),
    k=st.integers(1, 5),
    layers=st.sampled_from([(2,), (1, 3, 2), (2, 1, 3, 1, 2)]),
    first=st.integers(4, 12),
    theta=st.sampled_from([0.5, 0.75, 1.0]),
)
def test_fc_densenet_is_as_wide_as_the_formula(
    c: int, k: int, layers: tuple[int, ...], first: int, theta: float
) -> None:
    model = FCDenseNet(c, growth_rate=k, layers=layers, first_width=first, compression=theta)
    widths, total = _closed_form(c, k, list(layers), first, theta)
    table = layer_table(model, c, 4 * model.multiple)
    assert [row.channels for row in table if row.kind == "DenseBlock"] == widths
    assert parameter_count(model)[2] == total


def test_fc_densenet_default_widths() -> None:
    table = layer_table(build_model("fc_densenet", 16), 16)
    widths = [row.channels for row in table if row.kind == "DenseBlock"]
    # by hand: 48 + 4*16 = 112; 56 + 64 = 120; 60 + 96 = 156; 78 + 96 = 174; 87 + 160 = 247; 2*174 + 96 = 444
    assert widths == [112, 120, 156, 174, 247, 444, 408, 304, 288]
    assert widths == _closed_form(16, 16, [4, 4, 6, 6, 10, 6, 6, 4, 4], 48, 0.5)[0]


def test_dense_block_keeps_its_input_and_feeds_every_layer_all_maps() -> None:
    block = DenseBlock(width=6, layers=3, growth_rate=4, dropout=0.0, bias=True, checkpoint=False).eval()
    seen: list[Tensor] = []
    for layer in block.layers:
        layer.register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0]))
    x = _drawn(2, 6, 8, 8)
    out = block(x)
    assert [maps.shape[1] for maps in seen] == [6, 10, 14] and out.shape[1] == 18
    for maps, later in pairwise([x, *seen[1:], out]):
        assert torch.equal(later[:, : maps.shape[1]], maps)


def test_transition_down_takes_the_largest_of_four() -> None:
    down = TransitionDown(3, 2, dropout=0.5, bias=True).eval()
    x = _drawn(1, 3, 4, 6)
    full = down.conv(down.norm(x).relu())
    assert torch.equal(down(x), full.reshape(1, 2, 2, 2, 3, 2).amax((3, 5)))


def test_transition_up_convolves_before_it_upsamples() -> None:
    up = TransitionUp(3, 5, norm=False)
    x, skip = _drawn(1, 3, 4, 6), _drawn(1, 2, 8, 12)
    out = up(x, skip)
    assert torch.equal(out[:, 5:], skip)
    expected = up.conv(x).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(out[:, :5], expected)


def test_dropout_works_in_training_only() -> None:
    small = {"growth_rate": 4, "layers": (2, 2, 2), "first_width": 8}
    x = _drawn(2, 5, 16, 16)
    dropping, keeping = (
        _built("fc_densenet", 5, dropout=0.5, **small),
        _built("fc_densenet", 5, dropout=0.0, **small),
    )
    assert not torch.equal(dropping(x), dropping(x))
    assert torch.equal(keeping(x), keeping(x))
    assert sum(isinstance(m, nn.Dropout) and m.p == 0.5 for m in dropping.modules()) == 2 * 3 + 1


def test_checkpointing_changes_no_number() -> None:
    small = {"growth_rate": 4, "layers": (2, 2, 2), "first_width": 8, "dropout": 0.2}
    x = _drawn(2, 5, 16, 16)
    results = []
    for checkpoint in (False, True):
        model = _built("fc_densenet", 5, checkpoint=checkpoint, **small).train()
        torch.manual_seed(9)
        for _ in range(2):
            model(x).square().mean().backward()
        results.append((model.state_dict(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    (state, gradient), (state_again, gradient_again) = results
    assert all(torch.equal(state[key], state_again[key]) for key in state)  # running statistics among them
    assert len(gradient) == len(gradient_again) == len(list(model.parameters()))
    assert all(torch.equal(gradient[key], gradient_again[key]) for key in gradient)


def test_checkpointing_recomputes() -> None:
    block = DenseBlock(width=6, layers=3, growth_rate=4, dropout=0.2, bias=True, checkpoint=True).train()
    runs = []
    for layer in block.layers:
        layer.register_forward_pre_hook(lambda _layer, _inputs: runs.append(1))
    block(_drawn(2, 6, 8, 8)).sum().backward()
    assert len(runs) == 2 * 3


# Initial weights


@pytest.mark.parametrize("name", ["unet", "fc_densenet"])
def test_positive_unit_ball(name: str) -> None:
    model = build_model(name, 5)
    positive_unit_ball_(model, torch.Generator().manual_seed(1))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            assert (module.weight >= 0).all() and (module.weight != module.weight.mean()).any()
            torch.testing.assert_close(module.weight.sum((1, 2, 3)), torch.ones(module.out_channels))
            assert module.bias is not None and not module.bias.any()
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and not module.bias.any()


def test_positive_unit_ball_of_a_linear_layer() -> None:
    layer = nn.Linear(7, 3)
    positive_unit_ball_(layer, torch.Generator().manual_seed(1))
    torch.testing.assert_close(layer.weight.sum(1), torch.ones(3))


def test_he_has_the_variance_of_the_paper() -> None:
    layer = nn.Conv2d(64, 128, 3)
    he_(layer, torch.Generator().manual_seed(1))
    # He et al. 2015, eq. 10: variance 2 / (inputs * kernel area); 73,728 draws give it within 2 %
    assert layer.weight.var().item() == pytest.approx(2 / (64 * 9), rel=0.02)
    assert layer.bias is not None and not layer.bias.any()


@pytest.mark.parametrize("fill", [positive_unit_ball_, he_])
def test_one_seed_is_one_set_of_weights(fill: Any) -> None:
    def filled(seed: int) -> list[Tensor]:
        model = build_model("resunet", 3)
        fill(model, torch.Generator().manual_seed(seed))
        return [parameter.detach() for parameter in model.parameters()]

    torch.manual_seed(0)
    first = filled(1)
    torch.manual_seed(1)  # the global generator plays no part
    assert all(torch.equal(a, b) for a, b in zip(first, filled(1), strict=True))
    assert not torch.equal(first[0], filled(2)[0])


@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_seed_fills_every_weight_of_a_network(name: str) -> None:
    torch.manual_seed(0)
    first, second = build_model(name, 3), build_model(name, 3)
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    for network in (first, second):
        he_(network, torch.Generator().manual_seed(1))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_layer_that_no_seed_fills_is_refused() -> None:
    with pytest.raises(ModelError, match="ConvTranspose2d has weights that no seed fills"):
        he_(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.ConvTranspose2d(4, 1, 2)), torch.Generator())


@pytest.mark.parametrize("name", list(NETWORKS))
def test_the_prior_bias_is_what_an_idle_network_gives(name: str) -> None:
    from landslip.models.initialization import prior_bias_

    network = build_model(name, 3)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    prior_bias_(network, 0.06)
    given = torch.sigmoid(network.eval()(torch.randn(1, 3, 32, 32)))
    assert torch.allclose(given, torch.tensor(0.06), atol=1e-6)


@pytest.mark.parametrize("name", ["unet", "resunet"])
def test_a_head_of_two_maps_starts_alive_everywhere(name: str) -> None:
    """Drawn apart, seeds 5 and 7 of U-Net leave 7 and 13 % of such ground alive, and training stays at the prior."""
    generator = torch.Generator().manual_seed(0)
    x = torch.nn.functional.avg_pool2d(torch.randn(2, 7, 48, 48, generator=generator), 5, 1, 2) * 4
    for seed in range(8):
        model = build_model(name, 7)
        he_(model, torch.Generator().manual_seed(seed))
        alive: list[torch.Tensor] = []
        model.head[1].register_forward_hook(lambda module, given, out, alive=alive: alive.append((out > 0).any(1)))
        with torch.no_grad():
            model(x)
        assert alive[0].float().mean() > 0.999


def test_options_that_torch_cannot_build_are_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def build(in_channels: int, *, width: object = 8) -> torch.nn.Module:
        return torch.nn.Conv2d(in_channels, width, 1)  # type: ignore[arg-type]

    monkeypatch.setattr("landslip.models.unet.UNet", build)
    assert build_model("unet", 3, width=4).out_channels == 4
    with pytest.raises(RunError, match=r"network unet cannot be built with width = '16' \(.*Mend its options"):
        build_model("unet", 3, width="16")
