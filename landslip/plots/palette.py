"""Every colour that means something, once: maps, report, QGIS styles and the page take theirs from here.

They are Okabe and Ito's (2008), or like them: told apart by the colour-blind. Those that lie side by side on a map
differ in lightness too, so that they do in grey. Colours of text and paper are the page's and the report's own.
"""

from __future__ import annotations

from landslip.factors.table import FACTORS

HITS, MISSES, FALSE_ALARMS = "#009E73", "#E69F00", "#5C1A6E"  # lightness 58, 71, 24
LANDSLIDES = "#D55E00"  # as mapped; as drawn too, where nothing mapped is beside them
REFERENCE = "#0072B2"  # as drawn, beside what was mapped
NO_LANDSLIDE, NOT_KNOWN, UNDEFINED = "#E1E1E1", "#8A8A8A", "#BBBBBB"
NO_RELIEF, HATCH = "#DDDDDD", "#555555"  # ground without elevation; bars that others stand before
PART_COLOURS = {"train": "#56B4E9", "validation": "#F0E442", "test": "#992266"}
# States of a review. They are drawn as lines with a dark one beneath, so that they are seen on any ground.
REVIEW_COLOURS = {
    "open": "#F0E442",
    "accepted": "#56B4E9",
    "redrawn": "#CC79A7",
    "drawn": "#CC79A7",
    "rejected": "#E8E8E8",
}
CANDIDATE = "#FFFFFF"  # an outline at another threshold, which is in no inventory
LINES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")  # of diagrams
RIVER, FAULT, OUTLINE = "#0072B2", "#B2182B", "#000000"

# Rocks and other classes that have no order; the first eight are Okabe and Ito's, the rest Tol's (2021).
CLASS_COLOURS = (
    "#56B4E9", "#E69F00", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2", "#999999",
    "#AA4499", "#44AA99", "#DDCC77", "#332288",
)  # fmt: skip

# matplotlib's names of the colours of a factor's values. All grow evenly lighter or, away from 0, evenly darker.
RAMP, DOUBT = "viridis", "inferno"
RAMPS = {name: factor.ramp for name, factor in FACTORS.items() if factor.ramp}
DIVERGING = {name for name, factor in FACTORS.items() if factor.diverging}  # stretched evenly about 0
CYCLE = "twilight"  # of aspect: 359° and 1° look alike
DIRECTIONS = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")
FLAT_COLOUR = "#6E6E6E"  # ground that faces nowhere


def class_colour(position: int) -> str:
    """The colour of a class by its position, from 0; they come round again after twelve."""
    return CLASS_COLOURS[position % len(CLASS_COLOURS)]


def ramp(name: str, count: int) -> list[str]:
    """`count` colours (at least 2) of one of matplotlib's ramps, from low to high, as #rrggbb."""
    import matplotlib  # Imported here, so that a style of constants need not wait for it.
    from matplotlib.colors import to_hex

    colours = matplotlib.colormaps[name]
    return [to_hex(colours(i / (count - 1))) for i in range(count)]


def directions() -> list[str]:
    """A colour for each of DIRECTIONS, from the cycle that they are eighths of."""
    return ramp(CYCLE, len(DIRECTIONS) + 1)[:-1]


def rgba(colour: str, opacity: int = 255) -> tuple[int, int, int, int]:
    """#rrggbb as red, green, blue and opacity, 0 to 255."""
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue, opacity


def style_sheet() -> str:
    """The colours that a page needs, as variables of CSS named hit, miss, false-alarm, candidate and review-STATE."""
    colours = {"hit": HITS, "miss": MISSES, "false-alarm": FALSE_ALARMS, "candidate": CANDIDATE}
    colours |= {f"review-{state}": colour for state, colour in REVIEW_COLOURS.items()}
    return ":root {\n" + "".join(f"  --{name}: {colour};\n" for name, colour in colours.items()) + "}\n"
