import numpy as np
import pytest

from landslip.geo import mapped_array as module
from landslip.geo.grid import Window
from landslip.geo.mapped_array import bounding_window, from_windows, mapped_zeros, strips, union_of_windows


@pytest.mark.parametrize("large", [1, 2**26])
def test_an_array_in_a_file_is_as_one_in_memory(large: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE", large)
    array = mapped_zeros((700, 5), np.int32)
    assert array.shape == (700, 5) and array.dtype == np.int32 and not array.any()
    array[600:, 1] = 7
    assert array.sum() == 700 and (array.base is None) == (large > 1)
    out = from_windows((700, 5), np.uint8, lambda window: np.full((window.height, 5), window.row // module.ROWS))
    assert out[:, 0].tolist() == [0] * 256 + [1] * 256 + [2] * 188
    union = union_of_windows([Window(-2, 1, 4, 2), Window(699, 3, 4, 4)], (700, 5))
    assert np.argwhere(union).tolist() == [[0, 1], [0, 2], [1, 1], [1, 2], [699, 3], [699, 4]]


def test_without_room_in_the_temporary_folder_memory_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "LARGE", 1)
    monkeypatch.setattr("os.posix_fallocate", full)
    array = mapped_zeros((3, 4), bool)
    array[1] = True
    assert array.sum() == 4


def test_strips_cover_a_raster_once() -> None:
    counts = np.zeros((600, 3), int)
    for window in strips((600, 3)):
        counts[window.slices] += 1
    assert (counts == 1).all() and list(strips((600, 3)))[-1] == Window(512, 0, 88, 3)


def test_a_box_holds_all_pixels_of_a_mask_and_no_more() -> None:
    mask = np.zeros((9, 8), bool)
    mask[2, 5] = mask[6, 3] = True
    assert bounding_window(mask) == Window(2, 3, 5, 3)
