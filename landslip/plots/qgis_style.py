"""How layers look in QGIS: styles in its own format (QML), told apart by the colour-blind and in grey.

The element names are those that QGIS 3 writes; it fills in what is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import quoteattr

from landslip.dataset.label import LABEL_NAMES
from landslip.plots.palette import LANDSLIDES, NO_LANDSLIDE, RAMP, REVIEW_COLOURS, ramp, rgba

Colour = tuple[int, int, int, int]
STEPS = 9  # of a ramp, between which QGIS interpolates

NOT_VALID = 255
TRUE_COLOUR, FALSE_COLOUR = ("red", "green", "blue"), ("nir", "red", "green")  # in false colour plants are red
# By value; ground that was not mapped is transparent.
MAP_COLOURS: dict[int, Colour] = {0: rgba(NO_LANDSLIDE), 1: rgba(LANDSLIDES), NOT_VALID: (0, 0, 0, 0)}
# Of the inventory's landslides, by the state of their review: (outline, opacity of the fill, line).
REVIEW_STYLES: dict[str, tuple[Colour, int, str]] = {
    "open": (rgba(REVIEW_COLOURS["open"]), 70, "solid"),
    "accepted": (rgba(REVIEW_COLOURS["accepted"]), 70, "solid"),
    "redrawn": (rgba(REVIEW_COLOURS["redrawn"]), 0, "dot"),  # The outline as mapped: what counts is in layer review.
    "rejected": (rgba(REVIEW_COLOURS["rejected"]), 0, "dot"),
}
# The same for layer review, which alone holds drawn landslides.
DECIDED: dict[str, tuple[Colour, int, str]] = {
    "accepted": REVIEW_STYLES["accepted"],
    "redrawn": (rgba(REVIEW_COLOURS["redrawn"]), 70, "solid"),
    "drawn": (rgba(REVIEW_COLOURS["drawn"]), 70, "dash"),
    "rejected": REVIEW_STYLES["rejected"],
}
CASING: Colour = (0, 0, 0, 140)  # beneath a line, so that it is seen on any ground
TIP = (
    "&lt;b>Landslide [% id %]&lt;/b>&lt;br>[% round(area_m2 / 10000, 2) %] ha, probability "
    "[% round(probability_mean, 2) %], [% review %]"
)
LINE = {"line_style": "solid", "line_width_unit": "MM", "joinstyle": "round", "capstyle": "round"}
HEAD = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"


def inventory_style() -> str:
    """Polygons by what a review made of them; a tip with the main figures."""
    return _document(f"{inventory_renderer()}\n <mapTip>{TIP}</mapTip>\n <layerGeometryType>2</layerGeometryType>")


def inventory_renderer() -> str:
    """The <renderer-v2> of an inventory."""
    return _states_renderer("review", REVIEW_STYLES, {"redrawn": "redrawn: as it was mapped"})


def review_style() -> str:
    """Layer `review`: outlines as they stand after a review, by state; a tip with the note."""
    tip = "&lt;b>Landslide [% landslide %]&lt;/b>&lt;br>[% state %]&lt;br>[% note %]"
    return _document(f"{review_renderer()}\n <mapTip>{tip}</mapTip>\n <layerGeometryType>2</layerGeometryType>")


def review_renderer() -> str:
    """The <renderer-v2> of layer `review`."""
    return _states_renderer("state", DECIDED, {})


def _states_renderer(column: str, looks: Mapping[str, tuple[Colour, int, str]], labels: Mapping[str, str]) -> str:
    categories = "\n".join(
        f'   <category symbol="{i}" value="{state}" label="{labels.get(state, state)}" render="true"/>'
        for i, state in enumerate(looks)
    )
    symbols = "\n".join(_fill(str(i), *look) for i, look in enumerate(looks.values()))
    return (
        f' <renderer-v2 type="categorizedSymbol" attr="{column}" symbollevels="0" enableorderby="0" forceraster="0">\n'
        f"  <categories>\n{categories}\n  </categories>\n  <symbols>\n{symbols}\n  </symbols>\n </renderer-v2>"
    )


def outline_renderer(colour: Colour, line: str = "dash") -> str:
    """The <renderer-v2> of polygons shown by one outline; `line` as QGIS calls it: solid, dash, dot."""
    return _single(_fill("0", colour, 0, line))


def line_renderer(colour: Colour) -> str:
    """The <renderer-v2> of lines of one colour."""
    lines = ({"line_color": _rgba(c), "line_width": w, **LINE} for c, w in ((CASING, "0.9"), (colour, "0.5")))
    return _single(_symbol("0", "line", [("SimpleLine", options) for options in lines]))


def _single(symbol: str) -> str:
    return (
        ' <renderer-v2 type="singleSymbol" symbollevels="0" enableorderby="0" forceraster="0">\n'
        f"  <symbols>\n{symbol}\n  </symbols>\n </renderer-v2>"
    )


def _fill(name: str, colour: Colour, opacity: int, line: str) -> str:
    common = {"outline_width_unit": "MM", "joinstyle": "round"}
    casing = {"color": "0,0,0,0", "style": "no", "outline_color": _rgba(CASING), "outline_style": "solid"}
    fill = {"color": _rgba((*colour[:3], opacity)), "style": "solid" if opacity else "no"}
    fill |= {"outline_color": _rgba(colour), "outline_style": line, "outline_width": "0.4"}
    fills = ({**casing, "outline_width": "0.8", **common}, {**fill, **common})
    return _symbol(name, "fill", [("SimpleFill", options) for options in fills])


def _symbol(name: str, kind: str, parts: Sequence[tuple[str, Mapping[str, str]]]) -> str:
    """A symbol of layers drawn one upon the other."""

    def layer(of: str, options: Mapping[str, str]) -> str:
        rows = "\n".join(f'      <Option name="{key}" type="QString" value="{text}"/>' for key, text in options.items())
        return (
            f'    <layer class="{of}" enabled="1" locked="0" pass="0">\n'
            f'     <Option type="Map">\n{rows}\n     </Option>\n    </layer>'
        )

    layers = "\n".join(layer(*part) for part in parts)
    return f'   <symbol name="{name}" type="{kind}" alpha="1" clip_to_extent="1" force_rhr="0">\n{layers}\n   </symbol>'


def map_style() -> str:
    """A landslide map: landslide on light grey, nothing outside valid."""
    return _document(_pipe(classes_renderer(LABEL_NAMES, MAP_COLOURS)))


def probability_style() -> str:
    """A probability raster in viridis from 0 to 1."""
    return _document(_pipe(ramp_renderer(1, 0, 1)))


def classes_renderer(names: Mapping[int, str], colours: Mapping[int, Colour], band: int = 1) -> str:
    """The <rasterrenderer> of a band of classes."""
    entries = "\n".join(
        f'    <paletteEntry value="{value}" color="{_hex(colours[value])}" alpha="255" label={quoteattr(name)}/>'
        for value, name in names.items()
    )
    return (
        f'  <rasterrenderer type="paletted" band="{band}" opacity="1" alphaBand="-1" nodataColor="">\n'
        f"   <rasterTransparency/>\n   <colorPalette>\n{entries}\n   </colorPalette>\n  </rasterrenderer>"
    )


def ramp_renderer(band: int, low: float, high: float, name: str = RAMP) -> str:
    """The <rasterrenderer> of a band of continuous values, in one of matplotlib's ramps between `low` and `high`."""
    steps = [(low + (high - low) * i / (STEPS - 1), colour) for i, colour in enumerate(ramp(name, STEPS))]
    rows = "\n".join(
        f'      <item value="{value:.7g}" color="{colour}" alpha="255" label="{value:.3g}"/>' for value, colour in steps
    )
    return (
        f'  <rasterrenderer type="singlebandpseudocolor" band="{band}" opacity="1" alphaBand="-1" nodataColor="" '
        f'classificationMin="{low:.7g}" classificationMax="{high:.7g}">\n   <rasterTransparency/>\n'
        '   <rastershader>\n    <colorrampshader colorRampType="INTERPOLATED" classificationMode="1" clip="0" '
        f'minimumValue="{low:.7g}" maximumValue="{high:.7g}" labelPrecision="4">\n{rows}\n    </colorrampshader>\n'
        "   </rastershader>\n  </rasterrenderer>"
    )


def colours_renderer(bands: tuple[int, int, int], ranges: tuple[tuple[float, float], ...]) -> str:
    """The <rasterrenderer> of three bands as red, green and blue, each stretched over its range."""
    stretches = "\n".join(
        f"   <{name}ContrastEnhancement>\n    <minValue>{low:.7g}</minValue>\n    <maxValue>{high:.7g}</maxValue>\n"
        f"    <algorithm>StretchToMinimumMaximum</algorithm>\n   </{name}ContrastEnhancement>"
        for name, (low, high) in zip(("red", "green", "blue"), ranges, strict=True)
    )
    red, green, blue = bands
    return (
        f'  <rasterrenderer type="multibandcolor" redBand="{red}" greenBand="{green}" blueBand="{blue}" opacity="1" '
        f'alphaBand="-1" nodataColor="">\n   <rasterTransparency/>\n{stretches}\n  </rasterrenderer>'
    )


def gray_renderer(band: int, low: float, high: float) -> str:
    """The <rasterrenderer> of one band in grey between `low` and `high`."""
    return (
        f'  <rasterrenderer type="singlebandgray" grayBand="{band}" gradient="BlackToWhite" opacity="1" alphaBand="-1" '
        'nodataColor="">\n   <rasterTransparency/>\n   <contrastEnhancement>\n'
        f"    <minValue>{low:.7g}</minValue>\n    <maxValue>{high:.7g}</maxValue>\n"
        "    <algorithm>StretchToMinimumMaximum</algorithm>\n   </contrastEnhancement>\n  </rasterrenderer>"
    )


def _pipe(renderer: str) -> str:
    return f" <pipe>\n{renderer}\n  <huesaturation/>\n  <rasterresampler/>\n </pipe>"


def _document(content: str) -> str:
    return f'{HEAD}<qgis version="3.22.0" styleCategories="AllStyleCategories">\n{content}\n</qgis>\n'


def _rgba(colour: Colour) -> str:
    return ",".join(map(str, colour))


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour[:3])
