"""A site divided into training, validation and test ground: the parts, what is said of them, and the paper's split.

The paper divides windows 3:7 at random and has no test part. That is always leaky, since overlapping windows share
pixels. `spatial_split` divides whole regions, which is the default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landslip.errors import SplitError
from landslip.geo.grid import Window
from landslip.geo.mapped_array import mapped_zeros, strips
from landslip.runtime.progress import plural

NONE, TRAIN, VALIDATION, TEST = 0, 1, 2, 3
PARTS = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
PAPER_TRAIN_SHARE = 0.3  # of the windows; the other 70 % validate (the paper's III.A)


@dataclass(frozen=True, kw_only=True)
class Split:
    """A site divided into parts: (H, W) uint8, 0 guard or nothing, 1 train, 2 validation, 3 test.

    `leaky` is None where nobody knows; `guard` are the pixels that parts lie apart; `fold` says which fold of how many
    it is, "" without folds. `carried_from` is the SHA-256 of the weights of an earlier model whose parts these are, ""
    where they are drawn.
    """

    kind: str
    leaky: bool | None
    guard: int
    parts: NDArray[np.uint8]
    fold: str = ""
    carried_from: str = ""

    def inside(self, windows: Sequence[Window], part: int) -> list[Window]:
        """The windows that lie wholly inside a part."""
        shape = self.parts.shape
        return [w for w in windows if w.clip(shape) == w and bool((self.parts[w.slices] == part).all())]

    def at(self, window: Window) -> NDArray[np.uint8]:
        """(h, w) uint8 parts at a window; beyond the raster 0."""
        inside = window.clip(self.parts.shape)
        out = np.zeros((window.height, window.width), np.uint8)
        out[inside.within(window)] = self.parts[inside.slices]
        return out

    def tags(self) -> dict[str, str]:
        """What split.tif says of itself."""
        tags = {"split": self.kind, "leaky": leaky_tag(self.leaky), "guard": str(self.guard)}
        further = {"fold": self.fold, "carried_from": self.carried_from}
        return tags | {key: value for key, value in further.items() if value}


def worst_leak(leaks: Iterable[bool | None]) -> bool | None:
    """Of several scores: leaky where one is, else unknown where one is unknown."""
    kinds = set(leaks)
    return True if True in kinds else None if None in kinds else False


def leaky_tag(leaky: bool | None) -> str:
    """What the tag `leaky` of a split.tif says, as `leaky_of` reads it."""
    return {True: "yes", False: "no", None: "unknown"}[leaky]


def leaky_of(tags: Mapping[str, str]) -> bool | None:
    """Whether a split.tif of these tags is leaky; None where they do not say. A paper split always is."""
    if tags.get("split") == "paper":
        return True
    return {"yes": True, "no": False}.get(tags.get("leaky", ""))


def leakage_note(tags: Mapping[str, str], part: str) -> str:
    """What a reader of scores on a part must know of a split.tif of these tags; "" where it is not leaky."""
    name = tags.get("split", "unknown")
    return {
        True: f"LEAKY: the {name} split shares pixels between training and the {part} part",
        False: "",
        None: f"leaky or not: unknown: the {name} split does not say whether training ground meets the {part} part",
    }[leaky_of(tags)]


def by_part_text(counts: Mapping[str, int]) -> str:
    """How many pixels lie in each part, by its name or `none`, in words."""
    return ", ".join(f"{n:,} in {'no part' if name == 'none' else name}" for name, n in counts.items())


def split_paper(
    windows: Sequence[Window], shape: tuple[int, int], rng: np.random.Generator
) -> tuple[Split, list[Window]]:
    """The paper's split: 30 % of the windows at random train; the rest of the ground under windows validates.

    Returns the split and the training windows. Raises SplitError where there are fewer than two windows.
    """
    if len(windows) < 2:
        raise SplitError(f"landslides lie in {plural(len(windows), 'window')}, and two are needed. Use a smaller step.")
    order = rng.permutation(len(windows))
    count = max(1, round(PAPER_TRAIN_SHARE * len(windows)))
    train = [windows[i] for i in sorted(order[:count])]
    parts = mapped_zeros(shape, np.uint8)
    for i in order[count:]:
        parts[windows[i].clip(shape).slices] = VALIDATION
    for window in train:
        parts[window.clip(shape).slices] = TRAIN
    if not any((parts[strip.slices] == VALIDATION).any() for strip in strips(shape)):
        raise SplitError("the training windows cover all validation ground. Use more or smaller windows.")
    return Split(kind="paper", leaky=True, guard=0, parts=parts), train
