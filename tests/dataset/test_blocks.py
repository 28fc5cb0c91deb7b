import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landslip.config.run import BlockChoice
from landslip.dataset.blocks import aspect_positions, seeded_windows, turn
from landslip.dataset.channels import Channel
from landslip.errors import LabelError
from landslip.factors.terrain import aspect_sin_cos
from landslip.geo.grid import Window, lattice


def test_windows_are_those_of_the_lattice_that_hold_a_landslide_pixel() -> None:
    label = np.zeros((128, 160), np.uint8)
    label[70, 90] = 1
    windows = seeded_windows(label, label < 2, BlockChoice(window=64, step=32), np.random.default_rng(0))
    # III.A: every window of the step-32 lattice that holds the pixel, counted by hand
    assert windows == [Window(r, c, 64, 64) for r in (32, 64) for c in (32, 64)]


def test_landslides_on_invalid_ground_seed_nothing() -> None:
    label = np.ones((64, 64), np.uint8)
    assert seeded_windows(label, np.zeros((64, 64), bool), BlockChoice(), np.random.default_rng(0)) == []


def test_fewer_seeds_draw_fewer_windows_and_background_adds_empty_ones() -> None:
    rng = np.random.default_rng(1)
    label = np.zeros((640, 640), np.uint8)
    label[::97, ::89] = 1
    every = seeded_windows(label, label < 2, BlockChoice(window=32, step=32), rng)
    some = seeded_windows(label, label < 2, BlockChoice(window=32, step=32, seeds=10), rng)
    assert len(some) == 10 and set(some) < set(every)
    more = seeded_windows(label, label < 2, BlockChoice(window=32, step=32, background=0.5), rng)
    extra = more[len(every) :]
    assert len(extra) == round(0.5 * len(every))
    assert not any(label[w.slices].any() for w in extra)


@given(quarter=st.integers(0, 3), mirror=st.booleans(), seed=st.integers(0, 99))
def test_aspect_turns_with_the_image(quarter: int, mirror: bool, seed: int) -> None:
    """Turning the image and its aspect gives the aspect of the turned elevation: f(turn(z)) = turn(f(z))."""
    z = np.random.default_rng(seed).normal(0, 30, (12, 12)).astype(np.float32)
    sine, cosine = aspect_sin_cos(z, 15.0, 15.0)
    x, y = turn(np.stack([z, sine, cosine]), (z > 0).astype(np.uint8), quarter, mirror, (1, 2))
    expected = aspect_sin_cos(x[0], 15.0, 15.0)
    np.testing.assert_allclose(x[1:], expected, atol=1e-5)
    assert np.array_equal(y, x[0] > 0)


def test_aspect_in_degrees_cannot_be_turned() -> None:
    with pytest.raises(LabelError, match="augment = false"):
        aspect_positions([Channel("aspect", "aspect", "factor", "degree")])
    assert aspect_positions([Channel("red", "red", "band")]) is None


def test_a_block_beyond_the_edge_is_zero_and_unknown(made) -> None:  # type: ignore[no-untyped-def]
    from landslip.dataset.blocks import Blocks
    from landslip.geo.raster import open_raster, read_stored
    from landslip.training.checkpoint import load_model

    model = load_model(made.folder / "model")
    prepared = made.folder / "prepared"
    label, valid = read_stored(prepared / "label.tif"), read_stored(prepared / "valid.tif") == 1
    with open_raster(prepared / "stack.tif") as dataset:
        blocks = Blocks(dataset, tuple(range(len(model.channels))), model.zscore, valid, label)
        x, y = blocks.cut(Window(-16, -16, 32, 32))
        whole, _ = blocks.cut(Window(0, 0, 16, 16))
    assert (x[:, :16] == 0).all() and (y[:16] == 255).all()
    np.testing.assert_array_equal(x[:, 16:, 16:], whole)
    assert np.array_equal(y[16:, 16:] == 1, made.label[:16, :16])


def test_the_lattice_of_the_paper_covers_site_1() -> None:
    covered = np.zeros((616, 976), bool)
    for window in lattice((616, 976), 64, 32):
        covered[window.slices] = True
    assert covered.all()
