"""The made-up site whose landslides are told by shape: its rule, held against the pixels that it makes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from landslip.demo.bodies import Body
from landslip.demo.land_cover import cast_shadow
from landslip.demo.scars import LANDSLIDE_SHARE, LOOK_ALIKES, _slid, generate_scars
from landslip.demo.synthetic_site import SyntheticSite
from landslip.errors import GridError

SHAPE = (288, 320)
BARE = [LOOK_ALIKES[kind] for kind in ("scree", "field", "quarry")]


@pytest.fixture(scope="module")
def site() -> SyntheticSite:
    return generate_scars(7, SHAPE)


def steepness_along(site: SyntheticSite, pixels: np.ndarray) -> float:
    """The cosine of the angle between the long axis of some pixels and the way down: 1 where they run down it."""
    rows, columns = np.nonzero(pixels)
    points = np.column_stack([rows, columns]) - (rows.mean(), columns.mean())
    axis = np.linalg.svd(points, full_matrices=False)[2][0]
    smooth = ndimage.gaussian_filter(site.elevation.astype(float), 4)
    fall = np.array([gradient[pixels].mean() for gradient in np.gradient(smooth)])
    return float(abs(axis @ fall) / np.hypot(*fall))


def pieces(mask: np.ndarray, at_least: int = 60) -> list[np.ndarray]:
    numbered, count = ndimage.label(mask, np.ones((3, 3)))
    large = [numbered == number for number in range(1, count + 1)]
    return [piece for piece in large if piece.sum() >= at_least]


def test_a_seed_is_a_site(site: SyntheticSite) -> None:
    again, other = generate_scars(7, SHAPE), generate_scars(8, SHAPE)
    assert np.array_equal(site.bands["red"], again.bands["red"]) and np.array_equal(site.label, again.label)
    assert not np.array_equal(site.label, other.label)


@pytest.mark.parametrize("shape", [(127, 256), (256, 100), (256, 129)])
def test_odd_and_small_shapes_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(GridError, match=f"{shape[0]} x {shape[1]} pixels"):
        generate_scars(1, shape)


def test_share_of_landslides(site: SyntheticSite) -> None:
    share = (site.label & site.inside).sum() / site.inside.sum()
    assert share == pytest.approx(LANDSLIDE_SHARE, rel=0.25)  # with the debris beyond the toes
    assert not (site.label & (site.look_alikes > 0)).any()
    assert set(LOOK_ALIKES.values()) <= set(np.unique(site.look_alikes))
    assert site.landslides.geometry.is_valid.all()


def test_single_pixels_do_not_tell_landslides_from_bare_look_alikes(site: SyntheticSite) -> None:
    bare = np.isin(site.look_alikes, BARE)
    of = np.r_[np.ones(site.label.sum()), np.zeros(bare.sum())]
    for name, values in (("slope", site.slope), ("red", site.bands["red"]), ("nir", site.bands["nir"])):
        # A few large bodies decide on a site as small as this; on one of full size it is 0.45 to 0.55.
        assert 0.3 < roc_auc_score(of, np.r_[values[site.label], values[bare]]) < 0.7, name


def test_landslides_run_down_the_slope_and_scree_along_it(site: SyntheticSite) -> None:
    down = [steepness_along(site, piece) for piece in pieces(site.label)]
    along = [steepness_along(site, piece) for piece in pieces(site.look_alikes == LOOK_ALIKES["scree"])]
    assert len(down) > 5 and len(along) > 3
    assert np.median(down) > 0.85 and np.median(along) < 0.6


def test_a_landslide_is_hollow_at_its_head_and_raised_at_its_toe() -> None:
    along, across = (part.ravel() for part in np.meshgrid(np.linspace(0, 1, 101), np.linspace(0, 1, 11)))
    rows, columns = np.divmod(np.arange(along.size), 101)
    body = Body(rows=rows, columns=columns, relief=np.zeros(along.size), along=along, across=across, width=100.0)
    relief = _slid(body, np.ones((11, 101)), 1.0).relief
    assert relief.min() == pytest.approx(-7.0)  # 0.07 of the width, on the path
    assert along[relief.argmin()] == pytest.approx(0.12)
    assert relief.max() == pytest.approx(0.6 * 7.0) and along[relief.argmax()] == pytest.approx(0.8)
    assert relief[across == 1] == pytest.approx(0)


def test_the_shadow_of_a_wall() -> None:
    z = np.zeros((9, 80))
    z[:, 60:62] = 150.0  # the sun in the east, 45 degrees high: a shadow of 150 m, ten pixels to the west
    shadow = cast_shadow(z, 15.0, (90.0, 45.0))[4]
    assert shadow[:47] == pytest.approx(0, abs=1e-3) and shadow[53:58] == pytest.approx(1, abs=0.02)
    assert np.flatnonzero(shadow > 0.5)[0] == pytest.approx(50, abs=1)
    assert shadow[65:] == pytest.approx(0, abs=1e-3)
