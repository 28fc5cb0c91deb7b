"""Lithology: classes as planes (default encoding) or as one ordinal channel (the paper's).

`classes` is (row, column) of integer codes as mapped. `table` names the class of each code ({3: "hard", 5:
"soft"}); several codes may share a class. A code that the table lacks is undefined, and so is `nodata`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from landslip.errors import RasterError, SiteError

Codes = NDArray[np.integer]
Float32 = NDArray[np.float32]


def planes(classes: Codes, table: Mapping[int, str], names: Sequence[str], *, nodata: int | None = None) -> Float32:
    """One plane per class of `names`, float32 (class, row, column): 1 inside, 0 outside, NaN undefined.

    Raises SiteError if names repeat or the table names a class that is not among them; RasterError if the
    codes are not integers in (row, column).
    """
    out = np.full((len(names), *_codes(classes).shape), np.nan, np.float32)
    members = _members(table, names, nodata)
    defined = np.isin(classes, [code for codes in members for code in codes])
    for plane, codes in zip(out, members, strict=True):
        plane[defined] = 0
        plane[np.isin(classes, codes)] = 1
    return out


def ordinal(classes: Codes, table: Mapping[int, str], names: Sequence[str], *, nodata: int | None = None) -> Float32:
    """The rank of each pixel's class in `names`, 1 to n, float32 (row, column); NaN where undefined.

    The paper's encoding: list the names from soft to hard. Same errors as `planes`.
    """
    out = np.full(_codes(classes).shape, np.nan, np.float32)
    for rank, codes in enumerate(_members(table, names, nodata), start=1):
        out[np.isin(classes, codes)] = rank
    return out


def unmapped(codes: Codes, table: Mapping[int, str], *, nodata: int | None = None) -> dict[int, int]:
    """The codes in use that the table lacks, ascending, each with its number of pixels; without nodata.

    Raises RasterError if the codes are not integers in (row, column).
    """
    used, counts = np.unique(_codes(codes), return_counts=True)
    return {
        int(code): int(count)
        for code, count in zip(used, counts, strict=True)
        if int(code) not in table and int(code) != nodata
    }


def _codes(classes: Codes) -> Codes:
    """The classes as they are. Raises RasterError where they are not integer codes (row, column)."""
    if classes.ndim != 2 or not np.issubdtype(classes.dtype, np.integer):
        raise RasterError(f"lithology is {classes.dtype} of shape {classes.shape}: give integer codes (row, column)")
    return classes


def _members(table: Mapping[int, str], names: Sequence[str], nodata: int | None) -> list[list[int]]:
    """The codes of each name, in the order of names."""
    if len(set(names)) != len(names):
        raise SiteError(f"lithology classes repeat: {list(names)}; name each once")
    strange = sorted(set(table.values()) - set(names))
    if strange:
        raise SiteError(f"the lithology table names {strange}, not among the classes {list(names)}: add or correct it")
    return [[code for code, name in table.items() if name == class_name and code != nodata] for class_name in names]
