"""Windows of a plan: what every pixel is owed, whatever the raster, the valid ground and the memory."""

from pathlib import Path

import numpy as np
import pytest
from conftest import GRID
from hypothesis import given, settings
from hypothesis import strategies as st

from landslip.geo.geotiff import write_raster
from landslip.geo.grid import Window
from landslip.geo.tiling import CORE_CELL, HALO, cell_size, cells_holding, needed_cells, plan_tiles, smallest


@settings(max_examples=60)
@given(
    height=st.integers(1, 1200),
    width=st.integers(1, 1200),
    multiple=st.sampled_from([1, 4, 32]),
    most=st.integers(256 * 256, 700 * 700),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_cores_cover_what_is_needed_once_and_keep_their_halo(
    height: int, width: int, multiple: int, most: int, share: float, seed: int
) -> None:
    shape = (height, width)
    counts = -(-height // CORE_CELL), -(-width // CORE_CELL)
    needed = np.random.default_rng(seed).random(counts) < share
    plan = plan_tiles(shape, needed, multiple, most)
    seen = np.zeros(shape, np.uint8)
    for task in plan.tasks:
        core, read = task.core, task.read
        assert (read.height, read.width) == plan.read and read.area <= most
        assert read.row % multiple == read.column % multiple == read.height % multiple == read.width % multiple == 0
        seen[core.slices] += 1
        for at, of, first, extent, length in (
            (core.row, core.height, read.row, read.height, height),
            (core.column, core.width, read.column, read.width, width),
        ):
            assert first <= max(at - HALO, 0) and first + extent >= min(at + of + HALO, length)
            assert first >= 0 and first + extent <= length + multiple - 1
    assert seen.max(initial=0) <= 1
    assert seen[np.kron(needed, np.ones((CORE_CELL, CORE_CELL), bool))[:height, :width]].all()
    assert plan.skipped == pytest.approx(1 - seen.mean())


def test_a_raster_that_memory_holds_is_one_window() -> None:
    plan = plan_tiles((616, 976), np.ones((10, 16), bool), 32, 640 * 992)
    assert [(task.core, task.read) for task in plan.tasks] == [(Window(0, 0, 616, 976), Window(0, 0, 640, 992))]


def test_the_plan_computes_the_fewest_pixels_that_memory_allows() -> None:
    # four strips of 256 rows in 448 x 1024 are 1.835 megapixels; four squares of 512 in 704 x 704 would be 1.982
    plan = plan_tiles((1024, 1024), np.ones((16, 16), bool), 32, 704 * 704)
    assert plan.read == (448, 1024) and len(plan.tasks) == 4
    # where no window holds the whole width: 4 x 4 squares of 512 in 704 x 704
    plan = plan_tiles((2048, 2048), np.ones((32, 32), bool), 32, 704 * 704)
    assert plan.read == (704, 704) and len(plan.tasks) == 16


def test_empty_ground_between_valid_ground_is_left_out() -> None:
    needed = np.zeros((20, 30), bool)
    needed[3, 2] = needed[3, 25] = needed[17, 11] = True
    plan = plan_tiles((20 * 64, 30 * 64), needed, 32, 260 * 260)
    assert [task.core for task in plan.tasks] == [
        Window(r * 64, c * 64, 64, 64) for r, c in ((3, 2), (3, 25), (17, 11))
    ]
    assert plan.skipped == pytest.approx(1 - 3 / 600)


@pytest.mark.parametrize("shape", [(2000, 2000), (200, 2000), (50, 70)])
def test_the_smallest_window_can_be_planned_with(shape: tuple[int, int]) -> None:
    most = smallest(shape, 32)
    assert most == min(256, -(-shape[0] // 32) * 32) * min(256, -(-shape[1] // 32) * 32)
    needed = np.ones((-(-shape[0] // CORE_CELL), -(-shape[1] // CORE_CELL)), bool)
    assert {task.read.area for task in plan_tiles(shape, needed, 32, most).tasks} == {most}


def test_cells_of_a_raster_of_valid_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "valid.tif"
    valid = np.zeros(GRID.shape, np.uint8)
    valid[63, 64] = valid[127, 191] = 1
    write_raster(path, valid[None], GRID, ["valid"])
    expected = [[False, True, False], [False, False, True]]
    assert cells_holding(valid == 1, 64).tolist() == expected
    assert needed_cells(path, GRID.shape, 64).tolist() == expected
    monkeypatch.setattr("landslip.geo.tiling.STRIP", 64)
    assert needed_cells(path, GRID.shape, 64).tolist() == expected
    assert needed_cells(None, (65, 64), 64).tolist() == [[True], [True]]
    assert (cell_size(32), cell_size(1), cell_size(128), cell_size(48)) == (64, 64, 128, 192)
