from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import GRID, TinySite
from real_data import ROOT

from landslip.errors import ChannelError, ModelError, RasterError, RunError
from landslip.evaluation.evaluate import evaluate
from landslip.geo.geotiff import write_raster
from landslip.geo.grid import Window, tiles
from landslip.geo.raster import PROBABILITY, read, read_info, read_stored
from landslip.geo.tiling import Tile, Tiling
from landslip.inference.mapping import map_site
from landslip.inference.predict import Uncertainty
from landslip.inventory.inventory import make_inventory
from landslip.models import build_model
from landslip.models.forward import disagreement, probabilities
from landslip.models.scaling import Scaling
from landslip.training.checkpoint import load_model
from landslip.training.training_pixels import area_of


@pytest.mark.parametrize("method", ["halo", "paper"])
def test_every_valid_pixel_is_mapped_and_no_other(made: TinySite, tmp_path: Path, method: str) -> None:
    stack = made.folder / "prepared" / "stack.tif"
    valid = read_stored(made.folder / "prepared" / "valid.tif")
    valid[:5] = 0
    valid[50:60, 70:90] = 0
    write_raster(tmp_path / "valid.tif", valid[None], GRID, ["valid"])
    done = map_site(
        load_model(made.folder / "model"), stack, tmp_path / "p.tif", method=method, valid_path=tmp_path / "valid.tif"
    )  # type: ignore[arg-type]
    p = read(tmp_path / "p.tif")[0]
    assert np.array_equal(~np.isnan(p), valid == 1) and done.valid_pixels == (valid == 1).sum()
    assert np.nanmin(p) >= 0 and np.nanmax(p) <= 1
    assert float(read_info(tmp_path / "p.tif").tags["threshold"]) == load_model(made.folder / "model").threshold


def test_a_map_is_cloud_optimized_and_says_where_it_comes_from(made: TinySite, tmp_path: Path) -> None:
    cogeo = pytest.importorskip("rio_cogeo", reason="rio-cogeo checks that a GeoTIFF is cloud-optimized")
    model, out = load_model(made.folder / "model"), tmp_path / "p.tif"
    map_site(model, made.folder / "prepared" / "stack.tif", out)
    assert cogeo.cog_validate(str(out), strict=True) == (True, [], [])
    info = read_info(out)
    assert info.names == (PROBABILITY,)
    assert info.tags["model_sha256"] == model.facts["weights_sha256"] and info.tags["landslip"]
    assert info.tags["network"] == "fc_densenet"
    assert "singlebandpseudocolor" in out.with_suffix(".qml").read_text()
    out.with_suffix(".qml").write_text("somebody's own")
    map_site(model, made.folder / "prepared" / "stack.tif", out, overwrite=True)
    assert out.with_suffix(".qml").read_text() == "somebody's own"


def test_one_window_is_the_network_on_the_whole_raster(made: TinySite, tmp_path: Path) -> None:
    model = load_model(made.folder / "model")
    stack = made.folder / "prepared" / "stack.tif"
    map_site(model, stack, tmp_path / "p.tif", precision_choice="fp32")
    whole = probabilities(model.network, model.zscore.apply(read(stack))[None], "fp32")[0]
    np.testing.assert_allclose(read(tmp_path / "p.tif")[0], whole, atol=1e-6)


def test_the_papers_method_is_the_mean_of_overlapping_windows(made: TinySite, tmp_path: Path) -> None:
    model = load_model(made.folder / "model")
    stack = made.folder / "prepared" / "stack.tif"
    map_site(model, stack, tmp_path / "p.tif", method="paper", precision_choice="fp32")
    x = model.zscore.apply(read(stack))
    sums, counts = np.zeros(GRID.shape), np.zeros(GRID.shape)
    for row in range(0, GRID.height - 31, 16):  # windows of 32 at step 16 fit this raster exactly
        for column in range(0, GRID.width - 31, 16):
            at = (slice(row, row + 32), slice(column, column + 32))
            sums[at] += probabilities(model.network, x[None, :, at[0], at[1]].copy(), "fp32")[0]
            counts[at] += 1
    np.testing.assert_allclose(read(tmp_path / "p.tif")[0], sums / counts, atol=1e-5)


def test_the_trained_map_finds_the_landslides_on_unseen_ground(made: TinySite, tmp_path: Path) -> None:
    stack = made.folder / "prepared" / "stack.tif"
    map_site(load_model(made.folder / "model"), stack, tmp_path / "p.tif")
    scored = evaluate(
        tmp_path / "p.tif", made.folder / "prepared" / "label.tif", made.folder / "model" / "split.tif", "test"
    )
    assert scored.scores["kappa"] > 0.8 and scored.leaky is False


def test_a_stack_that_lacks_a_channel_is_refused_with_both_lists(made: TinySite, tmp_path: Path) -> None:
    values = read(made.folder / "prepared" / "stack.tif", [1, 2])
    write_raster(tmp_path / "stack.tif", values, GRID, ["coastal", "blue"], float("nan"))
    with pytest.raises(ChannelError, match=r"lacks green.*trained on coastal, blue, green.*has coastal, blue\."):
        map_site(load_model(made.folder / "model"), tmp_path / "stack.tif", tmp_path / "p.tif")
    assert not (tmp_path / "p.tif").exists()


def test_channels_are_found_by_name_in_any_order(made: TinySite, tmp_path: Path) -> None:
    stack = made.folder / "prepared" / "stack.tif"
    names = list(read_info(stack).names)
    write_raster(tmp_path / "stack.tif", read(stack)[::-1].copy(), GRID, [str(n) for n in names[::-1]], float("nan"))
    model = load_model(made.folder / "model")
    map_site(model, stack, tmp_path / "a.tif", precision_choice="fp32")
    map_site(model, tmp_path / "stack.tif", tmp_path / "b.tif", precision_choice="fp32")
    assert np.array_equal(read(tmp_path / "a.tif"), read(tmp_path / "b.tif"))


def test_an_altered_model_is_refused(made: TinySite, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(made.folder / "model", tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10] + b"0123456789")
    with pytest.raises(ModelError, match="truncated or altered"):
        load_model(tmp_path / "model")
    with pytest.raises(ModelError, match="not a model folder"):
        load_model(tmp_path)


def test_weights_in_half_precision_map_alike(made: TinySite, tmp_path: Path) -> None:
    from landslip.training.checkpoint import save_model

    model = load_model(made.folder / "model")
    facts = {k: model.facts[k] for k in ("run", "split")}
    save_model(tmp_path, model.network.state_dict(), model.channels, model.zscore, 0.4, facts=facts, half=True)
    again = load_model(tmp_path)
    x = np.random.default_rng(0).normal(size=(1, 18, 64, 64)).astype(np.float32)
    a, b = probabilities(model.network, x, "fp32"), probabilities(again.network, x, "fp32")
    assert 0 < np.abs(a - b).max() < 0.02
    # not half of the whole file: the running statistics and the names stay as they are
    assert (tmp_path / "model.safetensors").stat().st_size < (
        made.folder / "model" / "model.safetensors"
    ).stat().st_size


def test_the_threshold_is_the_best_of_the_validation_part_as_mapped(made: TinySite, tmp_path: Path) -> None:
    from landslip.metrics.confusion import Histogram

    model, prepared = load_model(made.folder / "model"), made.folder / "prepared"
    map_site(model, prepared / "stack.tif", tmp_path / "p.tif", precision_choice="fp32", engine_choice="torch")
    p, label = read(tmp_path / "p.tif")[0], read_stored(prepared / "label.tif")
    part = read_stored(made.folder / "model" / "split.tif") == 2
    assert model.threshold == Histogram.from_arrays(p, label, part).best_threshold("kappa")


def test_skipping_changes_no_pixel_whose_surroundings_the_halo_holds(made: TinySite, tmp_path: Path) -> None:
    # the tiny network sees no further than 64 px
    model, prepared = load_model(made.folder / "model"), made.folder / "prepared"
    map_site(model, prepared / "stack.tif", tmp_path / "all.tif", precision_choice="fp32")
    valid = read_stored(prepared / "valid.tif")
    valid[:70] = 0
    valid[:, :140] = 0
    assert valid.any()
    write_raster(tmp_path / "valid.tif", valid[None], GRID, ["valid"])
    done = map_site(
        model, prepared / "stack.tif", tmp_path / "few.tif", precision_choice="fp32", valid_path=tmp_path / "valid.tif"
    )
    assert done.windows == 1 and done.skipped == pytest.approx(5 / 6)  # one cell of 2 x 3 holds what is valid
    whole, few = read(tmp_path / "all.tif")[0], read(tmp_path / "few.tif")[0]
    assert np.array_equal(~np.isnan(few), valid == 1)
    np.testing.assert_allclose(few[valid == 1], whole[valid == 1], atol=1e-5)


def test_the_model_in_the_repository_can_be_used_and_is_small() -> None:
    folder = ROOT / "models" / "valles_marineris"
    model = load_model(folder)
    x = np.zeros((1, len(model.channels), 64, 64), np.float32)
    p = probabilities(model.network, x, "fp32")
    assert np.isfinite(p).all() and 0 < p.mean() < 1 and 0 < model.threshold < 1
    assert (folder / "model.safetensors").stat().st_size < 6 * 2**20


@pytest.fixture(scope="module")
def doubted(made: TinySite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("doubted")
    valid = read_stored(made.folder / "prepared" / "valid.tif")
    valid[:5] = 0
    valid[50:60, 70:90] = 0
    write_raster(out / "valid.tif", valid[None], GRID, ["valid"])
    model = load_model(made.folder / "model")
    stack = made.folder / "prepared" / "stack.tif"
    map_site(model, stack, out / "plain.tif", valid_path=out / "valid.tif", precision_choice="fp32")
    asked = Uncertainty(area_of(model), 3)
    map_site(model, stack, out / "u.tif", valid_path=out / "valid.tif", precision_choice="fp32", uncertainty=asked)
    return out


def test_uncertainty_is_three_bands_beside_an_unchanged_probability(made: TinySite, doubted: Path) -> None:
    info = read_info(doubted / "u.tif")
    assert info.names == ("landslide probability", "dissimilarity index", "area of applicability", "disagreement")
    p, index, inside, doubt = read(doubted / "u.tif")
    assert np.array_equal(p, read(doubted / "plain.tif")[0], equal_nan=True)
    valid = read_stored(doubted / "valid.tif") == 1
    for band in (p, index, inside, doubt):
        assert np.array_equal(~np.isnan(band), valid)
    model = load_model(made.folder / "model")
    area = area_of(model)
    x = model.zscore.apply(read(made.folder / "prepared" / "stack.tif"))
    np.testing.assert_allclose(index[valid], area.index(x[:, valid].T.copy()), rtol=1e-5)
    assert np.array_equal(inside[valid], index[valid] <= np.float32(area.threshold)) and 0 < inside[valid].mean() < 1
    assert float(info.tags["applicability_threshold"]) == area.threshold and info.tags["samples"] == "3"
    assert 0 < doubt[valid].max() < 0.58  # three numbers in [0, 1] deviate by at most 1 / sqrt(3)


def test_readers_of_a_probability_take_its_first_band_and_no_other_raster(made: TinySite, doubted: Path) -> None:
    label, stack = made.folder / "prepared" / "label.tif", made.folder / "prepared" / "stack.tif"
    assert evaluate(doubted / "u.tif", label).confusion == evaluate(doubted / "plain.tif", label).confusion
    one, other = (make_inventory(doubted / f"{name}.tif", doubted / f"{name}_i.gpkg") for name in ("u", "plain"))
    assert replace(one, threshold_source="") == replace(other, threshold_source="") and one.count > 10
    for refused in (lambda: evaluate(stack, label), lambda: make_inventory(stack, doubted / "s.gpkg")):
        with pytest.raises(RasterError, match=r"18 bands, and its first is called coastal, not landslide probability"):
            refused()


def test_disagreement_depends_on_place_and_on_nothing_else(
    made: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, stack = load_model(made.folder / "model"), made.folder / "prepared" / "stack.tif"
    asked = Uncertainty(area_of(model), 2)

    def mapped(name: str) -> np.ndarray:
        map_site(model, stack, tmp_path / name, precision_choice="fp32", uncertainty=asked)
        return read(tmp_path / name)

    whole = Window(0, 0, *GRID.shape)
    six = Tiling(GRID.shape, GRID.shape, tuple(Tile(core, whole) for core in tiles(GRID.shape, 64)))
    monkeypatch.setattr("landslip.inference.mapping.plan_tiles", lambda *_: six)
    first = mapped("a.tif")
    torch.manual_seed(99)
    stream = torch.get_rng_state()
    monkeypatch.setattr("landslip.inference.mapping.plan_tiles", lambda *_: replace(six, tasks=six.tasks[::-1]))
    assert np.array_equal(mapped("b.tif"), first)
    assert torch.equal(torch.get_rng_state(), stream) and not any(m.training for m in model.network.modules())
    seeds: list[int] = []

    def note(network: object, x: np.ndarray, how: str, samples: int, seed: int, scaling: Scaling) -> np.ndarray:
        seeds.append(seed)
        return np.zeros((1, *x.shape[2:]), np.float32)

    monkeypatch.setattr("landslip.inference.predict.disagreement", note)
    mapped("c.tif")
    assert len(set(seeds)) == len(seeds) == 6


class Coin(torch.nn.Module):
    """Probability 1/2 where the pixel is dropped, else as good as 1."""

    multiple = 1

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(1)  # with its statistics of mapping, 0 and 1, it changes nothing
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.norm(x))


def test_disagreement_of_a_coin_is_known() -> None:
    network, x = Coin(0.3).eval(), np.full((1, 1, 32, 32), 50, np.float32)
    found = disagreement(network, x, "fp32", 400, 1)
    # the probability is 1/2 + Bernoulli(0.7) / 2, so it deviates by sqrt(0.7 * 0.3) / 2
    assert found.shape == (1, 32, 32) and found.mean() == pytest.approx(0.21**0.5 / 2, rel=0.005)
    assert int(network.norm.num_batches_tracked) == 0
    # two samples either agree or deviate by 1/2 / sqrt(2)
    two = disagreement(network, x, "fp32", 2, 1)
    assert set(np.round(np.unique(two), 6)) == {0, np.float32(np.round(0.125**0.5, 6))}
    assert not np.array_equal(two, disagreement(network, x, "fp32", 2, 2))


def test_a_network_without_dropout_does_not_pretend_to_agree(
    made: TinySite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert np.isnan(disagreement(Coin(0.0).eval(), np.ones((1, 1, 4, 4), np.float32), "fp32", 2, 0)).all()
    model = load_model(made.folder / "model")
    options = {"layers": [1, 1, 1], "first_width": 8, "growth_rate": 4, "dropout": 0}
    network = build_model("fc_densenet", len(model.channels), **options)
    network.load_state_dict(model.network.state_dict())
    sure = replace(model, network=network)
    done = map_site(
        sure, made.folder / "prepared" / "stack.tif", tmp_path / "u.tif", uncertainty=Uncertainty(area_of(model))
    )
    _, _, inside, doubt = read(tmp_path / "u.tif")
    assert np.isnan(doubt).all() and done.outside == (inside == 0).sum() > 0
    assert "without dropout" in capsys.readouterr().err


def test_one_block_of_training_ground_leaves_the_area_undefined(
    made: TinySite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_model(made.folder / "model")
    asked = Uncertainty(replace(area_of(model), threshold=float("nan")), 2)
    done = map_site(model, made.folder / "prepared" / "stack.tif", tmp_path / "u.tif", uncertainty=asked)
    _, index, inside, _ = read(tmp_path / "u.tif")
    assert np.isnan(inside).all() and np.isfinite(index).any() and done.outside is None
    assert "one block of ground" in capsys.readouterr().err


def test_without_samples_the_disagreement_is_undefined_and_the_rest_there(
    made: TinySite, doubted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = load_model(made.folder / "model"), doubted / "none.tif"
    asked = Uncertainty(area_of(model), 0)
    stack, valid = made.folder / "prepared" / "stack.tif", doubted / "valid.tif"
    map_site(model, stack, out, precision_choice="fp32", valid_path=valid, uncertainty=asked)
    none, three = read(out), read(doubted / "u.tif")
    assert np.array_equal(none[:3], three[:3], equal_nan=True) and np.isnan(none[3]).all()
    assert "warning" not in capsys.readouterr().err


def test_uncertainty_by_the_papers_method_or_of_one_sample_is_refused(made: TinySite, tmp_path: Path) -> None:
    model, stack = load_model(made.folder / "model"), made.folder / "prepared" / "stack.tif"
    area = area_of(model)
    with pytest.raises(RunError, match="--method halo"):
        map_site(model, stack, tmp_path / "p.tif", method="paper", uncertainty=Uncertainty(area))
    with pytest.raises(RunError, match="2 or more"):
        map_site(model, stack, tmp_path / "p.tif", uncertainty=Uncertainty(area, 1))
    with pytest.raises(RunError, match="2 or more"):
        map_site(model, stack, tmp_path / "p.tif", uncertainty=Uncertainty(area, -2))
    assert not (tmp_path / "p.tif").exists()
