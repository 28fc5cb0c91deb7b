from pathlib import Path

import numpy as np
import pytest
from conftest import GRID, TinySite
from hypothesis import given
from hypothesis import strategies as st

from landslip.checkpoint import load_model
from landslip.compute import CORE, HALO, halo_window, probabilities, trim
from landslip.errors import ChannelError, ModelError
from landslip.evaluate import evaluate
from landslip.grid import Window, tiles
from landslip.inference import map_site
from landslip.raster import read, read_info, read_stored, write_raster


@pytest.mark.parametrize("method", ["halo", "paper"])
def test_every_valid_pixel_is_mapped_and_no_other(made: TinySite, tmp_path: Path, method: str) -> None:
    stack = made.folder / "prepared" / "stack.tif"
    valid = read_stored(made.folder / "prepared" / "valid.tif")
    valid[:5] = 0
    valid[50:60, 70:90] = 0
    write_raster(tmp_path / "valid.tif", valid[None], GRID, ["valid"])
    done = map_site(
        load_model(made.folder / "model"), stack, tmp_path / "p.tif", method, valid_path=tmp_path / "valid.tif"
    )  # type: ignore[arg-type]
    p = read(tmp_path / "p.tif")[0]
    assert np.array_equal(~np.isnan(p), valid == 1) and done.valid_pixels == (valid == 1).sum()
    assert np.nanmin(p) >= 0 and np.nanmax(p) <= 1
    assert float(read_info(tmp_path / "p.tif").tags["threshold"]) == load_model(made.folder / "model").threshold


def test_one_window_is_the_network_on_the_whole_raster(made: TinySite, tmp_path: Path) -> None:
    model = load_model(made.folder / "model")
    stack = made.folder / "prepared" / "stack.tif"
    map_site(model, stack, tmp_path / "p.tif", precision_choice="fp32")
    whole = probabilities(model.network, model.zscore.apply(read(stack))[None], "fp32")[0]
    np.testing.assert_allclose(read(tmp_path / "p.tif")[0], whole, atol=1e-6)


def test_the_papers_method_is_the_mean_of_overlapping_windows(made: TinySite, tmp_path: Path) -> None:
    model = load_model(made.folder / "model")
    stack = made.folder / "prepared" / "stack.tif"
    map_site(model, stack, tmp_path / "p.tif", "paper", "fp32")
    x = model.zscore.apply(read(stack))
    sums, counts = np.zeros(GRID.shape), np.zeros(GRID.shape)
    for row in range(0, GRID.height - 31, 16):  # windows of 32 at step 16 fit this raster exactly
        for column in range(0, GRID.width - 31, 16):
            at = (slice(row, row + 32), slice(column, column + 32))
            sums[at] += probabilities(model.network, x[None, :, at[0], at[1]].copy(), "fp32")[0]
            counts[at] += 1
    np.testing.assert_allclose(read(tmp_path / "p.tif")[0], sums / counts, atol=1e-5)


@given(height=st.integers(1, 900), width=st.integers(1, 900))
def test_cores_tile_the_raster_and_keep_their_halo(height: int, width: int) -> None:
    seen = np.zeros((height, width), np.uint8)
    for core in tiles((height, width), CORE):
        seen[core.slices] += 1
        window = halo_window(core, (height, width))
        assert window.row == max(core.row - HALO, 0) and window.column == max(core.column - HALO, 0)
        assert window.row + window.height == min(core.row + core.height + HALO, height)
    assert (seen == 1).all()


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
    from landslip.checkpoint import save_model

    model = load_model(made.folder / "model")
    facts = {k: model.facts[k] for k in ("run", "split")}
    save_model(tmp_path, model.network.state_dict(), model.channels, model.zscore, 0.4, facts, half=True)
    again = load_model(tmp_path)
    x = np.random.default_rng(0).normal(size=(1, 18, 64, 64)).astype(np.float32)
    a, b = probabilities(model.network, x, "fp32"), probabilities(again.network, x, "fp32")
    assert 0 < np.abs(a - b).max() < 0.02
    # not half of the whole file: the running statistics and the names stay as they are
    assert (tmp_path / "model.safetensors").stat().st_size < (
        made.folder / "model" / "model.safetensors"
    ).stat().st_size


def test_the_threshold_is_the_best_of_the_validation_part_as_mapped(made: TinySite, tmp_path: Path) -> None:
    from landslip.metrics import Histogram

    model, prepared = load_model(made.folder / "model"), made.folder / "prepared"
    map_site(model, prepared / "stack.tif", tmp_path / "p.tif", precision_choice="fp32")
    p, label = read(tmp_path / "p.tif")[0], read_stored(prepared / "label.tif")
    part = read_stored(made.folder / "model" / "split.tif") == 2
    assert model.threshold == Histogram.from_arrays(p, label, part).best_threshold("kappa")


def test_a_core_is_trimmed_to_its_valid_pixels_in_steps_of_the_halo() -> None:
    valid = np.zeros((256, 200), bool)
    valid[70, 130] = valid[190, 140] = True
    assert trim(Window(512, 256, 256, 200), valid) == Window(512 + 64, 256 + 128, 128, 64)
    valid[255, 199] = True
    assert trim(Window(0, 0, 256, 200), valid) == Window(64, 128, 192, 72)
    assert trim(Window(0, 0, 256, 200), np.ones((256, 200), bool)) == Window(0, 0, 256, 200)


def test_trimming_changes_no_pixel_whose_surroundings_the_halo_holds(made: TinySite, tmp_path: Path) -> None:
    # the tiny network sees no further than 64 px; the raster is less than a core, so the whole is one window
    model, prepared = load_model(made.folder / "model"), made.folder / "prepared"
    map_site(model, prepared / "stack.tif", tmp_path / "all.tif", precision_choice="fp32")
    valid = read_stored(prepared / "valid.tif")
    valid[:110] = 0
    valid[:, :160] = 0
    assert valid.any()
    write_raster(tmp_path / "valid.tif", valid[None], GRID, ["valid"])
    map_site(
        model, prepared / "stack.tif", tmp_path / "few.tif", precision_choice="fp32", valid_path=tmp_path / "valid.tif"
    )
    whole, few = read(tmp_path / "all.tif")[0], read(tmp_path / "few.tif")[0]
    assert np.array_equal(~np.isnan(few), valid == 1)
    np.testing.assert_allclose(few[valid == 1], whole[valid == 1], atol=1e-5)


def test_the_model_in_the_repository_can_be_used_and_is_small() -> None:
    folder = Path(__file__).resolve().parents[1] / "models" / "valles_marineris"
    model = load_model(folder)
    x = np.zeros((1, len(model.channels), 64, 64), np.float32)
    p = probabilities(model.network, x, "fp32")
    assert np.isfinite(p).all() and 0 < p.mean() < 1 and 0 < model.threshold < 1
    assert (folder / "model.safetensors").stat().st_size < 6 * 2**20
