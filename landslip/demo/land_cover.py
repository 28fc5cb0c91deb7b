"""What covers the made-up ground, and the light that it throws back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from landslip.demo.bodies import Disturbance
from landslip.demo.terrain import Float, Mask, noise

BANDS = ("coastal", "blue", "green", "red", "nir", "swir1", "swir2")
# reflectance of the covers in BANDS
COVERS = {
    "forest": (0.022, 0.028, 0.048, 0.034, 0.300, 0.140, 0.060),
    "shrub": (0.038, 0.048, 0.082, 0.066, 0.310, 0.215, 0.115),
    "crops": (0.045, 0.055, 0.095, 0.062, 0.390, 0.230, 0.120),
    "soil": (0.090, 0.110, 0.150, 0.195, 0.285, 0.345, 0.295),
    "rock": (0.130, 0.150, 0.180, 0.205, 0.250, 0.290, 0.265),
    "water": (0.050, 0.055, 0.060, 0.040, 0.020, 0.010, 0.007),
    "road": (0.120, 0.130, 0.150, 0.160, 0.200, 0.220, 0.200),
}
SUN = (140.0, 50.0)  # azimuth clockwise from north and height, degrees
HAZE = (1.0, 0.8, 0.55, 0.4, 0.2, 0.06, 0.03)  # how strongly haze acts in BANDS
HAZE_REFLECTANCE = 0.12  # of haze that nothing is seen through, in the coastal band
STORED_SCALE = 0.0001  # reflectance of one step of the stored uint16


def halved(values: Float) -> Float:
    """Means of 2 x 2 pixels."""
    rows, columns = values.shape
    return np.asarray(values.reshape(rows // 2, 2, columns // 2, 2).mean((1, 3)))


def land_cover(rng: np.random.Generator, steep: NDArray[np.float32], water: Mask) -> dict[str, Float]:
    """Shares of the covers, each (row, column), which sum to 1: vegetation and water, with smooth borders."""
    shape = steep.shape
    habitats: dict[str, Callable[[Float], Float]] = {
        "forest": lambda x: x + (steep - 20) / 18,
        "shrub": lambda x: x - 0.1,
        "crops": lambda x: x - (steep - 12) / 10,
    }
    suitability = {name: np.exp(4 * bias(noise(rng, shape, 40, 3))) for name, bias in habitats.items()}
    total = sum(suitability.values())
    cover = {name: np.zeros(shape) for name in COVERS}
    cover |= {name: np.asarray(value / total) for name, value in suitability.items()}
    paste(cover, water.astype(float), {"water": 1.0})
    return cover


def paste(cover: dict[str, Float], share: NDArray[np.floating], mixture: Mapping[str, float | Float]) -> None:
    """Lay `mixture` over the covers with an opacity `share`, (row, column) in [0, 1]."""
    for name in cover:
        cover[name] = cover[name] * (1 - share) + share * mixture.get(name, 0.0)


def lay_bare(
    rng: np.random.Generator, cover: dict[str, Float], bodies: Sequence[Disturbance], blur: float = 0.0
) -> None:
    """Bare soil and rock on each body, with its own degree of regrowth, patchy within; alike for every kind.

    With `blur`, in pixels, the pixels at a body's edge are mixed with what lies beside it.
    """
    shape = cover["soil"].shape
    patchy, stony = noise(rng, shape, 12, 3), noise(rng, shape, 25, 3)
    opacity, rock = np.zeros(shape), np.zeros(shape)
    for body in bodies:
        at = body.rows, body.columns
        opacity[at] = np.clip(rng.uniform(0.68, 1.0) + 0.07 * patchy[at], 0.5, 1.0)
        rock[at] = np.clip(rng.uniform(0.0, 0.7) + 0.15 * stony[at], 0.0, 1.0)
    if blur:
        rock = ndimage.gaussian_filter(rock * opacity, blur)
        opacity = ndimage.gaussian_filter(opacity, blur)
        rock /= np.maximum(opacity, 1e-9)
    paste(cover, opacity, {"soil": 1 - rock, "rock": rock})


def lay_roads(surface: Float) -> Mask:
    """Roads, one pixel wide, along a contour of `surface`, (row, column)."""
    level = ndimage.gaussian_filter(surface, 4)
    above = level > np.percentile(level, 30)
    return np.asarray(above & ~ndimage.binary_erosion(above, border_value=1))


def illumination(z: Float, size: float, sun: tuple[float, float] = SUN) -> Float:
    """Light on sloping ground over that on level ground, (row, column): half of it from the sun, half from the sky.

    `z` is elevation in metres, `size` the side of its pixels in metres, `sun` azimuth and height in degrees.
    """
    azimuth, height = np.radians(sun)
    down, right = np.gradient(z, size)
    east, north = np.sin(azimuth) * np.cos(height), np.cos(azimuth) * np.cos(height)
    facing = (np.sin(height) - east * right + north * down) / np.sqrt(1 + right**2 + down**2)
    return np.asarray(0.5 + 0.5 * np.clip(facing, 0, None) / np.sin(height))


def cast_shadow(z: Float, size: float, sun: tuple[float, float]) -> Float:
    """Where higher ground hides the sun, (row, column) in [0, 1] with soft edges; arguments as in `illumination`."""
    azimuth, height = np.radians(sun)
    shadow = np.zeros(z.shape, bool)
    for pixels in range(1, int((z.max() - z.min()) / (size * np.tan(height))) + 1):
        towards_sun = pixels * np.cos(azimuth), -pixels * np.sin(azimuth)
        shadow |= ndimage.shift(z, towards_sun, order=1, mode="nearest") > z + pixels * size * np.tan(height)
    return np.asarray(ndimage.gaussian_filter(shadow.astype(float), 0.7))


def reflectance(
    rng: np.random.Generator, cover: dict[str, Float], light: Float, haze: Float | None = None
) -> dict[str, NDArray[np.float32]]:
    """Reflectance by band, (row, column), of the covers' mixture.

    To it come the light, a texture that the bands share, `haze` ((row, column) in [0, 1]), the optics' blur and the
    sensor's noise.
    """
    shape = light.shape
    texture = 1 + 0.05 * noise(rng, shape, 8, 2)
    bands = {}
    for i, name in enumerate(BANDS):
        mixed = sum(COVERS[kind][i] * share for kind, share in cover.items())
        of_band = 1 + 0.02 * noise(rng, shape, 8, 2)
        value = np.asarray(mixed * light * texture * of_band)
        if haze is not None:
            value += haze * HAZE[i] * (HAZE_REFLECTANCE - value)
        value = ndimage.gaussian_filter(value, 0.45)
        if i >= 5:  # swir1 and swir2 have pixels twice as large.
            value = halved(value)
        value = value + 0.0015 * rng.standard_normal(value.shape)
        bands[name] = (np.rint(np.clip(value, 0.001, 1.0) / STORED_SCALE) * STORED_SCALE).astype(np.float32)
    return bands
