"""What the channels of a site are computed from: its bands, terrain, indices, distances, classes and further factors.

Each source gives its channels at any window of the grid, the same values to the bit whatever the window, so that a
stack of any size can be filled window by window. The encoding `planes` keeps aspect as sine and cosine, and lithology
as one plane per class; `paper` gives every factor one channel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from landslip.config.site_tables import FactorTable
from landslip.dataset.channels import Channel, factor_channel
from landslip.factors.indices import dndvi, mndwi, ndvi
from landslip.factors.table import FACTORS
from landslip.geo.grid import Grid, Window
from landslip.geo.warp import warp
from landslip.preparation.class_sources import class_source
from landslip.preparation.distance_sources import distance_source
from landslip.preparation.images import band_names, describe_resampling, only, read_images, read_with_plain, unit_of
from landslip.preparation.site_inputs import SiteImage, SiteInputs
from landslip.preparation.source import ChannelSource, Encoding, resampling_of
from landslip.preparation.terrain_sources import relief_factors, relief_source, river_source, terrain_source


def channel_sources(inputs: SiteInputs, grid: Grid, encoding: Encoding) -> list[ChannelSource]:
    """What a site's channels are computed from, in the order of the stack's channels."""
    site = inputs.site
    sources: list[ChannelSource] = []
    if inputs.images:
        sources.append(_band_source(inputs.images, grid))
    if site.dem is not None:
        sources.append(terrain_source(site.dem, grid, encoding))
        if relief_factors(site.dem):
            sources.append(relief_source(site.dem, grid))
    indices = _index_source(inputs, grid)
    if indices is not None:
        sources.append(indices)
    if site.rivers is not None:
        sources.append(river_source(site.rivers, site.dem, grid))
    if site.faults is not None:
        sources.append(distance_source("distance_to_fault", site.faults, grid))
    if site.lithology is not None:
        sources.append(class_source("lithology", site.lithology, grid, encoding))
    sources += [_further_source(factor, grid, encoding) for factor in site.factor]
    return sources


def _band_source(images: Sequence[SiteImage], grid: Grid) -> ChannelSource:
    """The optical bands."""
    channels = tuple(Channel(name, name, "band", unit_of(images, name)) for name in band_names(images))

    def at(window: Window) -> NDArray[np.float32]:
        return np.stack(list(read_images(images, grid.crop(window)).values()))

    return ChannelSource("bands", channels, lambda _: at, describe_resampling(images, grid))


def _index_source(inputs: SiteInputs, grid: Grid) -> ChannelSource | None:
    """NDVI, MNDWI and dNDVI, as far as the bands allow, from bands that are not sharpened; None where none is."""
    bands = band_names(inputs.images)
    plants, water = ({*FACTORS[name].bands} <= {*bands} for name in ("ndvi", "mndwi"))
    possible = {"ndvi": plants, "mndwi": water, "dndvi": bool(inputs.before)}
    names = [name for name in possible if possible[name]]
    if not names:
        return None
    needed = [band for name in names for band in FACTORS[name].bands]
    images, before = only(inputs.images, needed), only(inputs.before, ("red", "nir"))

    def at(window: Window) -> NDArray[np.float32]:
        part = grid.crop(window)
        plain = read_with_plain(images, part).plain
        planes = []
        if plants:
            planes.append(ndvi(plain["red"], plain["nir"]))
        if water:
            planes.append(mndwi(plain["green"], plain["swir1"]))
        if before:
            earlier = read_with_plain(before, part).plain
            planes.append(dndvi(ndvi(earlier["red"], earlier["nir"]), planes[0]))
        return np.stack(planes)

    channels = tuple(map(factor_channel, names))
    return ChannelSource(
        "indices", channels, lambda _: at, describe_resampling((*images, *before), grid, sharpened=False)
    )


def _further_source(factor: FactorTable, grid: Grid, encoding: Encoding) -> ChannelSource:
    """A factor that the site names itself, continuous or in classes."""
    if factor.kind == "classes":
        return class_source(factor.name, factor, grid, encoding)

    def at(window: Window) -> NDArray[np.float32]:
        values = warp(factor.path, grid.crop(window), [factor.band], "bilinear", factor.nodata)
        return np.asarray(values * np.float32(factor.scale) + np.float32(factor.offset))

    channel = Channel(factor.name, factor.name, "factor", factor.unit)
    return ChannelSource(factor.name, (channel,), lambda _: at, resampling_of([factor.path], grid, "bilinear"))
