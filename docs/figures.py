"""The figures of docs/method.md: `python docs/figures.py` writes docs/figures/*.svg, `--check` finds stale ones.

The paper's Figs. 3 to 6 drawn anew for what landslip does. Widths and sizes of the network are read from the network
itself (`layer_table`), windows, cells and halo from the code that cuts them, so that the drawings cannot say anything
else. Lengths are inches from the lower left corner. docs/figures/demo_map.png is not made here and not checked: it is
pictures/6_map.png of a whole `landslip demo`, which takes minutes, and its bytes follow from the machine's arithmetic.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from landslip.config.run import BlockChoice
from landslip.geo.tiling import CORE_CELL, HALO
from landslip.models import build_model
from landslip.models.layers import layer_table

OUT = Path(__file__).resolve().parent / "figures"
WIDTH = 7.8  # inches: the width of a page of text
INK, LINE = "#1a1a1a", "#404040"
# Apart in lightness, so that they stay apart in grey: files are white, steps pale, what is learnt darker.
FILE, STEP, LEARNT, PANEL = "#ffffff", "#dcebf7", "#9fc5e0", "#f4f4f4"
DENSE, DOWN, UP, CONV = "#9fc5e0", "#fbe3a6", "#d9d9d9", "#fafafa"
CHANNELS = 19  # bands and factors with three lithology classes
SIDE = BlockChoice().window

Point = tuple[float, float]


def network() -> Any:
    """The network that is drawn: FC-DenseNet as built by default."""
    return build_model("fc_densenet", CHANNELS)


def canvas(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    """An empty figure and axes over all of it, in inches."""
    figure = Figure(figsize=(width, height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return figure, axes


def box(axes: Axes, x: float, y: float, width: float, height: float, text: str, fill: str, size: float = 8.5) -> None:
    """A box with its lower left corner at (x, y) and text in its middle; files have square corners."""
    if fill == FILE:
        axes.add_patch(Rectangle((x, y), width, height, facecolor=fill, edgecolor=INK, lw=1.2))
    else:
        shape = "round,pad=0,rounding_size=0.07"
        axes.add_patch(FancyBboxPatch((x, y), width, height, shape, facecolor=fill, edgecolor=LINE, lw=0.9))
    label(axes, x + width / 2, y + height / 2, text, size)


def label(axes: Axes, x: float, y: float, text: str, size: float = 8.5, at: str = "center", bold: bool = False) -> None:
    """Text whose middle (or left or right end) is at (x, y)."""
    weight = "bold" if bold else "normal"
    axes.text(x, y, text, ha=at, va="center", size=size, color=INK, weight=weight, linespacing=1.25)


def arrow(axes: Axes, *points: Point, dashed: bool = False) -> None:
    """A line through points with an arrow head at the last."""
    style = (0, (4, 2.5)) if dashed else "solid"
    if len(points) > 2:
        axes.plot(*zip(*points[:-1], strict=True), color=LINE, lw=1.1, ls=style, solid_capstyle="butt")
    shape = {"arrowstyle": "-|>,head_length=0.35,head_width=0.18", "color": LINE, "lw": 1.1, "ls": style}
    axes.annotate("", points[-1], points[-2], arrowprops={**shape, "shrinkA": 0, "shrinkB": 0})


def panel(axes: Axes, y: float, height: float, title: str) -> None:
    """A grey field over the whole width with its title at the top left."""
    axes.add_patch(Rectangle((0.08, y), WIDTH - 0.16, height, facecolor=PANEL, edgecolor="#b0b0b0", lw=0.8))
    label(axes, 0.2, y + height - 0.17, title, size=9.5, at="left", bold=True)


def framework() -> Figure:
    """Fig. 3: from files to scores, in three parts."""
    figure, axes = canvas(8.12)
    panel(axes, 5.4, 2.64, "I  Data: check, prepare")
    rows = (
        ("Image bands", "to the grid, bilinear; NDVI and MNDWI from them there"),
        ("Elevation (DEM)", "slope, aspect, curvature at its own resolution, then to the grid"),
        ("Rivers, faults", "exact distance to the nearest, on a grid wide enough"),
        ("Lithology", "nearest (or polygons burnt); one plane a class"),
        ("Outline", "burnt: what is outside takes no part"),
        ("Landslides", "burnt: 1 landslide, 0 not, 255 unknown"),
    )
    for i, (given, done) in enumerate(rows):
        y = 7.39 - 0.37 * i
        box(axes, 0.2, y, 1.25, 0.28, given, FILE)
        box(axes, 1.7, y, 4.18, 0.28, done, STEP)
        arrow(axes, (1.45, y + 0.14), (1.7, y + 0.14))
        if i < 4:
            axes.plot([5.88, 6.12], [y + 0.14, y + 0.14], color=LINE, lw=1.1)
        else:
            box(axes, 6.45, y, 1.12, 0.28, ("valid.tif", "label.tif")[i - 4], FILE)
            arrow(axes, (5.88, y + 0.14), (6.45, y + 0.14))
    box(axes, 6.45, 6.74, 1.12, 0.48, "stack.tif\nC channels", FILE)
    axes.plot([6.12, 6.12], [6.42, 7.53], color=LINE, lw=1.1)
    arrow(axes, (6.12, 6.98), (6.45, 6.98))
    arrow(axes, (7.01, 6.74), (7.01, 6.19))
    label(axes, 6.95, 6.46, "defined in\nall of them", size=7.5, at="right")

    panel(axes, 2.92, 2.36, "II  Training: train")
    arrow(axes, (3.9, 5.4), (3.9, 5.28))
    train = "S Split into\ntrain, validation,\ntest; guard between"
    train += f"|S Windows {SIDE} × {SIDE}\nat landslides,\nwithin train"
    train += "|S z-score fitted on\ntheir valid pixels|S Blocks z-scored,\nturned, mirrored"
    row(axes, 4.22, train + "|L FC-DenseNet\ncross-entropy on\nknown pixels", "0123")
    row(axes, 3.1, "F split.tif||||L Average of the\nweights, scored\nevery epoch")
    for column in (0, 4):
        arrow(axes, (0.865 + 1.52 * column, 4.22), (0.865 + 1.52 * column, 3.76))
    box(axes, 3.97, 3.1, 2.0, 0.66, "Scored on validation\nground: best epoch,\nbest threshold", STEP)
    box(axes, 1.72, 3.1, 1.94, 0.66, "model/: weights, channels,\nmean and deviation,\nthreshold", FILE)
    arrow(axes, (6.28, 3.43), (5.97, 3.43))
    arrow(axes, (3.97, 3.43), (3.66, 3.43))

    panel(axes, 0.44, 2.36, "III  Mapping and evaluation: map, inventory, evaluate")
    arrow(axes, (3.9, 2.92), (3.9, 2.8))
    mapping = f"F stack.tif\nvalid.tif|S Cores of cells\nof {CORE_CELL} px, with a\nhalo of {HALO} px"
    mapping += "|L The model:\nz-score, network,\nsigmoid"
    row(axes, 1.72, mapping + "|F probability.tif|S At or above the\nthreshold; joined;\nspecks dropped", "0123")
    scores = "|F label.tif\nsplit.tif|S Compared on the\ntest part, known\npixels only|F Confusion matrix,\nsix scores"
    row(axes, 0.6, scores + "|F landslides.tif\nlandslides.gpkg", "12")
    arrow(axes, (5.425, 1.72), (5.425, 1.49), (3.905, 1.49), (3.905, 1.26))
    arrow(axes, (6.945, 1.72), (6.945, 1.26))
    for x, fill, text in ((0.2, FILE, "file"), (1.1, STEP, "step"), (2.0, LEARNT, "network")):
        box(axes, x, 0.14, 0.26, 0.16, "", fill)
        label(axes, x + 0.33, 0.22, text, size=8, at="left")
    return figure


def row(axes: Axes, y: float, texts: str, flow: str = "") -> None:
    """Five boxes side by side, "F file|S step|L learnt|..."; `flow`: those with an arrow to the next."""
    for i, text in enumerate(texts.split("|")):
        x = 0.2 + 1.52 * i
        if text:
            box(axes, x, y, 1.33, 0.66, text[2:], {"F": FILE, "S": STEP, "L": LEARNT}[text[0]])
        if str(i) in flow:
            arrow(axes, (x + 1.33, y + 0.33), (x + 1.52, y + 0.33))


def architecture() -> Figure:
    """Fig. 4: the network as built, with the channels and the size that every block gives."""
    net = network()
    found = {block.name: block for block in layer_table(net, CHANNELS, SIDE)}
    figure, axes = canvas(6.75)
    depth, wide, high, centre = len(net.dense_down), 1.16, 0.46, WIDTH / 2 + 0.285

    def dense(x: float, y: float, name: str, block: Any) -> None:
        """A dense block with its middle at x and its foot at y."""
        box(axes, x - wide / 2, y, wide, high, f"dense, {len(block.layers)} layers\n{found[name].channels}", DENSE)

    for i in range(depth):
        away, y, below = (
            3.4 - 0.5 * i,
            5.38 - 1.13 * i,
            4.71 - 1.13 * i,
        )  # from the centre; foot; top of the next level
        left, right, middle, last = centre - away + wide / 2, centre + away - wide / 2, y + high / 2, i == depth - 1
        down, ups = found[f"dense_down.{i}"], depth - 1 - i
        skip, joined = down.channels, found[f"transition_up.{ups}"].channels
        label(axes, 0.12, middle, f"{down.rows} × {down.columns}", at="left", bold=True)
        dense(left, y, f"dense_down.{i}", net.dense_down[i])
        dense(right, y, f"dense_up.{ups}", net.dense_up[ups])
        arrow(axes, (left + wide / 2, middle), (right - wide / 2, middle), dashed=True)
        label(axes, centre, middle + 0.21, f"skip {skip}, joined:\n{joined - skip} + {skip} = {joined}", size=8)
        x, target = left + 0.27, centre - 0.35 if last else left + 0.27
        box(axes, x - 0.51, below + 0.2, 1.02, 0.3, f"down: {found[f'transition_down.{i}'].channels}", DOWN)
        arrow(axes, (x, y), (x, below + 0.5))
        arrow(axes, (x, below + 0.2), (target, below))
        x, source = right - 0.27, centre + 0.35 if last else right - 0.27
        box(axes, x - 0.51, below + 0.2, 1.02, 0.3, f"up: {joined - skip}", UP)
        arrow(axes, (source, below), (x, below + 0.2))
        arrow(axes, (x, below + 0.5), (x, y))
    y = 5.38 - 1.13 * depth
    label(axes, 0.12, y + high / 2, f"{found['bottom'].rows} × {found['bottom'].columns}", at="left", bold=True)
    dense(centre, y, "bottom", net.bottom)
    left, right, top = centre - 3.4 + wide / 2, centre + 3.4 - wide / 2, 5.38 + high
    for x, above, text in (
        (left, "block, C channels", f"3 × 3 convolution\n{found['first'].channels}"),
        (right, "logits (sigmoid outside)", f"1 × 1 convolution,\nbatch norm: {found['head'].channels}"),
    ):
        label(axes, x, top + 0.8, above, size=8)
        box(axes, x - wide / 2, top + 0.2, wide, 0.44, text, CONV, size=8)
    arrow(axes, (left, top + 0.2), (left, top))
    arrow(axes, (right, top), (right, top + 0.2))
    legend(axes, net.dense_down[0].layers[0].conv2.out_channels)
    return figure


def legend(axes: Axes, growth: int) -> None:
    """What the blocks of the architecture are made of."""
    lines = (
        (DENSE, f"dense block: each layer adds {growth} maps; the block keeps its input"),
        (DOWN, "transition down: BN, ReLU, 1 × 1 convolution, dropout, 2 × 2 max-pooling"),
        (UP, "transition up: 3 × 3 convolution, then each pixel repeated 2 × 2"),
    )
    for i, (fill, text) in enumerate(lines):
        box(axes, 0.12, 0.49 - 0.2 * i, 0.26, 0.14, "", fill)
        label(axes, 0.46, 0.56 - 0.2 * i, text, size=8, at="left")
    arrow(axes, (5.25, 0.56), (5.6, 0.56), dashed=True)
    label(axes, 5.68, 0.56, "skip, concatenated", size=8, at="left")
    label(axes, 5.25, 0.36, "numbers: maps that come out", size=8, at="left")


def dense_block() -> Figure:
    """Fig. 5: who reads what in a dense block; the first one of the network."""
    net = network()
    count, first = len(net.dense_down[0].layers), net.first.out_channels
    growth = net.dense_down[0].layers[0].conv2.out_channels
    figure, axes = canvas(3.62)
    x0, apart, wide, high, base = 1.0, 1.24, 0.98, 0.5, 0.62
    lines = [base + high + 0.42 + 0.36 * i for i in range(count + 1)]  # x0 lowest, x4 highest
    columns = [x0 + apart * j for j in range(count + 1)]  # the input, then layers 1 to 4
    end = columns[-1] + apart + 0.1
    for i, y in enumerate(lines):
        start = columns[i] + (0.3 if i else 0)
        axes.plot([start, end], [y, y], color=LINE, lw=1.2)
        text = f"$x_0$: {first} maps" if i == 0 else f"$x_{i}$: {growth} maps"
        label(axes, start - 0.07, y, text, at="right")
    for j in range(1, count + 1):
        x, read = columns[j] - 0.2, first + (j - 1) * growth
        box(axes, columns[j] - wide / 2, base, wide, high, f"layer {j}\n{read} in, {growth} out", DENSE)
        arrow(axes, (x, lines[j - 1]), (x, base + high))
        axes.plot([x] * j, lines[:j], "o", color=INK, ms=5)
        arrow(axes, (columns[j] + 0.3, base + high), (columns[j] + 0.3, lines[j]))
    out = first + count * growth
    axes.add_patch(Rectangle((end, lines[0] - 0.15), 0.2, lines[-1] - lines[0] + 0.3, facecolor=UP, edgecolor=LINE))
    label(axes, end + 0.2, lines[-1] + 0.3, f"out: {out} maps", at="right", bold=True)
    axes.plot([0.2], [0.36], "o", color=INK, ms=5)
    note = f"the layer below reads these maps: {count * (count + 1) // 2} connections for {count} layers"
    label(axes, 0.32, 0.36, note, at="left")
    label(axes, 0.32, 0.15, "lines that cross without a dot do not meet", at="left")
    return figure


def bottleneck() -> Figure:
    """Fig. 6: a dense layer without and with a bottleneck; lengths of bars are numbers of maps."""
    last = network().bottom.layers[-1]
    width, inner, made = last.conv1.in_channels, last.conv1.out_channels, last.conv2.out_channels
    figure, axes = canvas(3.25)

    def maps(x: float, y: float, count: int) -> None:
        half = 0.5 * count / width
        axes.add_patch(Rectangle((x - 0.08, y - half), 0.16, 2 * half, facecolor=DENSE, edgecolor=INK, lw=0.9))
        label(axes, x, y - half - 0.12, f"{count} maps", size=8)

    def layer(y: float, title: str, steps: Sequence[tuple[int, int]]) -> tuple[float, int]:
        """Convolutions (side, maps made) one after the other; gives where the last maps end, and all weights."""
        label(axes, 0.12, y, title, at="left", bold=True)
        maps(1.55, y, width)
        x, read, total = 1.63, width, 0
        for side, made in steps:
            weights = read * made * side**2
            box(axes, x + 0.27, y - 0.25, 1.6, 0.5, f"BN, ReLU,\n{side} × {side} convolution", STEP)
            label(axes, x + 1.07, y + 0.37, f"{read} × {made} × {side**2} = {weights:,} weights", size=8)
            arrow(axes, (x, y), (x + 0.27, y))
            arrow(axes, (x + 1.87, y), (x + 2.14, y))
            maps(x + 2.22, y, made)
            x, read, total = x + 2.3, made, total + weights
        return x, total

    layer(2.52, "Without", [(3, made)])
    x, total = layer(0.95, "With bottleneck\n(DenseNet-B),\nas built", [(1, inner), (3, made)])
    label(axes, 4.01, 1.6, f"together {total:,}", size=8, bold=True)
    arrow(axes, (x, 0.95), (x + 0.32, 0.95))
    box(axes, x + 0.32, 0.79, 0.78, 0.32, "dropout", STEP)
    arrow(axes, (x + 1.1, 0.95), (x + 1.42, 0.95))
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "framework": framework,
    "architecture": architecture,
    "dense_block": dense_block,
    "bottleneck": bottleneck,
}


def draw(folder: Path = OUT, names: Sequence[str] = tuple(FIGURES), kind: str = "svg") -> list[Path]:
    """Write the named figures into a folder; the same bytes every time with one version of matplotlib."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with matplotlib.rc_context({"svg.hashsalt": "landslip", "svg.fonttype": "path", "font.family": "DejaVu Sans"}):
        for name in names:
            path = folder / f"{name}.{kind}"
            FIGURES[name]().savefig(path, dpi=110, metadata={"Date": None} if kind == "svg" else None)
            paths.append(path)
    return paths


def stale(folder: Path = OUT) -> list[str]:
    """Names of the figures in a folder that are not what would be drawn now."""
    with TemporaryDirectory(prefix="landslip-") as fresh:
        drawn = draw(Path(fresh))
        return [new.name for new in drawn if _content(folder / new.name) != _content(new)]


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        if old := stale():
            sys.exit(f"stale in docs/figures: {', '.join(old)}. Draw them anew: python docs/figures.py")
    else:
        for path in draw():
            print(path)
