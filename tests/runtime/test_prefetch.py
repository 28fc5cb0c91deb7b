"""The thread that reads the next block while this one is computed."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.transform import from_origin

from landslip.errors import RasterError
from landslip.geo.geotiff import write_raster
from landslip.geo.grid import Grid, Window
from landslip.geo.raster import open_raster, read_window
from landslip.runtime.prefetch import prefetch


def test_everything_comes_in_order_and_only_one_is_made_ahead():
    made, used = [], []

    def make(item: int) -> int:
        made.append(item)
        assert threading.current_thread() is not threading.main_thread()
        return item * item

    for item, square in prefetch(make, range(5)):
        used.append((item, square))
        assert len(made) <= item + 2  # this one and the next
    assert used == [(i, i * i) for i in range(5)]
    assert list(prefetch(make, [])) == []


def test_a_given_thread_stays_open_for_writing():
    with ThreadPoolExecutor(1) as files:
        for item, text in prefetch(str, [1, 2], files):
            assert files.submit(int, text).result() == item
        assert files.submit(len, "abc").result() == 3


def test_an_error_while_reading_is_raised_where_it_is_used_and_nothing_is_printed(tmp_path: Path, capfd):
    path = tmp_path / "noise.tif"
    noise = np.random.default_rng(0).random((1, 512, 512), np.float32)
    write_raster(path, noise, Grid(CRS.from_epsg(32649), from_origin(0, 0, 15, 15), 512, 512), ["noise"])
    stored = bytearray(path.read_bytes())
    middle = len(stored) // 2
    stored[middle : middle + 5000] = bytes(5000)  # damages a stored block, not the header
    path.write_bytes(stored)
    seen = []
    with open_raster(path) as dataset, pytest.raises(RasterError) as refused:
        for window, _ in prefetch(lambda w: read_window(dataset, w), [Window(0, 0, 256, 256), Window(0, 0, 512, 512)]):
            seen.append(window)
    assert seen == [Window(0, 0, 256, 256)]
    assert "noise.tif" in str(refused.value) and "band 1" in str(refused.value)  # GDAL's own reason
    assert capfd.readouterr() == ("", "")
