from pathlib import Path

import pytest
from conftest import GRID, TinySite

from landslip.config.run import Run, read_run, settled
from landslip.config.site import read_site
from landslip.errors import GridError, RunError, SiteError
from landslip.geo.grid import Window, same_grid
from landslip.preparation.site_grid import site_grid
from landslip.preparation.site_inputs import open_site


def change(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def test_an_unknown_key_is_refused_with_the_nearest_known_one(tiny: TinySite) -> None:
    with pytest.raises(SiteError, match=r"unknown key 'scal' in \[\[image\]\] 1 \(did you mean 'scale'\?\)"):
        read_site(change(tiny.site, "scale =", "scal ="))


def test_all_faults_of_a_file_are_listed_at_once(tiny: TinySite) -> None:
    change(tiny.site, "scale =", "scal =")
    with pytest.raises(SiteError, match=r"(?s)did you mean 'green'.*did you mean 'scale'"):
        read_site(change(tiny.site, "green = 3", "gren = 3"))


def test_any_band_name_is_taken_that_is_not_a_slip_of_a_role(tiny: TinySite) -> None:
    site = read_site(change(tiny.site, "coastal = 1", "thermal_inertia = 1"))
    assert "thermal_inertia" in site.image[0].bands


def test_a_band_may_not_be_called_as_a_factor(tiny: TinySite) -> None:
    with pytest.raises(SiteError, match="'slope' is the name of a factor"):
        read_site(change(tiny.site, "coastal = 1", "slope = 1"))


def test_paths_start_at_the_site_file_or_where_told(tiny: TinySite, tmp_path: Path) -> None:
    assert read_site(tiny.site).image[0].path == tiny.folder / "image.tif"
    assert read_site(tiny.site, tmp_path / "other").image[0].path == tmp_path / "other" / "image.tif"


def test_the_grid_is_the_images_own(tiny: TinySite) -> None:
    assert same_grid(site_grid(open_site(read_site(tiny.site))), GRID)


def test_a_geographic_grid_is_refused_with_the_remedy(tiny: TinySite) -> None:
    change(tiny.site, 'name = "tiny"', 'name = "tiny"\n[grid]\ncrs = "EPSG:4326"')
    with pytest.raises(GridError, match=r"geographic.*EPSG:32649"):
        site_grid(open_site(read_site(tiny.site)))


def test_a_stated_resolution_is_kept(tiny: TinySite) -> None:
    change(tiny.site, 'name = "tiny"', 'name = "tiny"\n[grid]\nresolution = 30')
    grid = site_grid(open_site(read_site(tiny.site)))
    assert (grid.x_size, grid.height, grid.width) == (30, 64, 96)


def test_an_outline_elsewhere_is_refused(tiny: TinySite) -> None:
    from conftest import frame
    from shapely import box

    from landslip.geo.geopackage import write_vector

    write_vector(tiny.folder / "outline.gpkg", frame([box(0, 0, 100, 100)]), overwrite=True)
    with pytest.raises(GridError, match="does not overlap"):
        site_grid(open_site(read_site(tiny.site)))
    for far in (1e10, float("inf")):
        frame([box(0, 0, far, 100)]).to_file(tiny.folder / "outline.gpkg")
        with pytest.raises(GridError, match=r"outline\.gpkg reaches from and to .*, where nothing lies"):
            site_grid(open_site(read_site(tiny.site)))


def test_a_recipe_sets_what_is_not_given_and_a_flag_wins(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('[training]\nrecipe = "paper"\nepochs = 7\n')
    run = read_run(path, {"training.batch": 3})
    # the paper, IV.A: Adam 1e-4, batch 2, no augmentation beyond the overlapping blocks
    assert (run.training.learning_rate, run.training.augment, run.training.initial) == (
        1e-4,
        False,
        "positive-unit-ball",
    )
    assert (run.training.epochs, run.training.batch) == (7, 3)


def test_a_run_with_an_unknown_key_or_value_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("[training]\nepoch = 7\n")
    with pytest.raises(RunError, match="did you mean 'epochs'"):
        read_run(path)
    path.write_text("[blocks]\nwindow = 2\n")
    with pytest.raises(RunError, match=r"blocks.window.*16.*not 2"):
        read_run(path)
    path.write_text("[blocks\n")
    with pytest.raises(RunError, match="is not a TOML file"):
        read_run(path)
    with pytest.raises(RunError, match="does not exist"):
        read_run(tmp_path / "none.toml")


@pytest.mark.parametrize("slip", ["swir_1", "swirl1", "gren", "rd", "grene"])
def test_a_slip_of_a_role_is_refused(tiny: TinySite, slip: str) -> None:
    with pytest.raises(SiteError, match=f"unknown role '{slip}'"):
        read_site(change(tiny.site, "coastal = 1", f"{slip} = 1"))


@pytest.mark.parametrize("name", ["gray", "red_edge", "nir_narrow", "swir3", "colour_1", "pan", "thermal"])
def test_other_names_of_bands_are_not_slips(tiny: TinySite, name: str) -> None:
    assert name in read_site(change(tiny.site, "coastal = 1", f"{name} = 1")).image[0].bands


def test_a_single_name_is_a_list_of_one(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('[channels]\nfactors = "slope"\n[compare]\nnetworks = "unet"\n')
    run = read_run(path)
    assert run.channels.factors == ("slope",) and run.compare.networks == ("unet",)
    run = read_run(path, {"channels.factors": "slope, ndvi", "channels.bands": "none"})
    assert run.channels.factors == ("slope", "ndvi") and run.channels.bands == "none"


WORDS = {  # nothing of pydantic's own, and each fault once
    "[training]\nthreshold = 3": "training.threshold: it should be 'f1' or 'kappa', or at most 1, not 3.",
    "[blocks]\nseeds = 0": "blocks.seeds: it should be 'all', or at least 1, not 0.",
    "[channels]\nfactors = [3]": "channels.factors, item 1: it should be a text in quotes, not 3.",
    "[network]\noptions = 3": "network.options: it should be a table of names and values, not 3.",
    "[training]\naugment = 'x'": "training.augment: it should be true or false, not 'x'.",
}


@pytest.mark.parametrize("text, says", WORDS.items())
def test_faults_are_told_in_the_readers_words(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(RunError) as caught:
        read_run(path)
    assert str(caught.value) == f"{path}: {says}"


ONE_OR_MORE = {
    'nodata = "a"': "dem.nodata: it should be a number, or a list of numbers, not 'a'.",
    "nodata = {a = 1}": "dem.nodata: it should be a number, or a list of numbers.",
    'nodata = [0, "a"]': "dem.nodata, item 2: it should be a number, not 'a'.",
    '[landslides]\npath = "m.tif"\nlandslide = "255"':
        "landslides.landslide: it should be a whole number, or a list of whole numbers, not '255'.",
}  # fmt: skip


@pytest.mark.parametrize("text, says", ONE_OR_MORE.items())
def test_a_key_of_one_number_or_several_says_both(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "site.toml"
    path.write_text(f'name = "a"\n[dem]\npath = "d.tif"\n{text}\n')
    with pytest.raises(SiteError) as caught:
        read_site(path)
    assert str(caught.value) == f"{path}: {says}"


def test_a_table_of_several_is_counted_from_one(tiny: TinySite) -> None:
    more = '\n[[factor]]\nname = "a"\npath = "a.tif"\n[[factor]]\npath = 3\nband = 0\n'
    tiny.site.write_text(tiny.site.read_text() + more)
    with pytest.raises(SiteError) as caught:
        read_site(tiny.site)
    assert str(caught.value) == (
        f"{tiny.site}: [[factor]] 2 path: it should be a path in quotes, not 3; 'name' in [[factor]] 2 is missing; "
        "[[factor]] 2 band: it should be at least 1, not 0."
    )


def test_web_mercator_is_no_grid_in_metres(tiny: TinySite) -> None:
    change(tiny.site, 'name = "tiny"', 'name = "tiny"\n[grid]\ncrs = "EPSG:3857"')
    with pytest.raises(GridError, match="Web Mercator"):
        site_grid(open_site(read_site(tiny.site)))


def test_an_extent_cuts_the_grid_at_the_nearest_pixel_borders(tiny: TinySite) -> None:
    left, bottom, right, top = GRID.bounds
    middle = left + 100 * 15 + 4  # nearest to the border before column 100
    original = tiny.site.read_text()
    found = []
    for extent in ([left, bottom, middle, top], [middle, bottom + 30, right + 999, top]):
        tiny.site.write_text(original.replace('name = "tiny"', f'name = "tiny"\n[grid]\nextent = {extent}'))
        found.append(site_grid(open_site(read_site(tiny.site))))
    west, east = found
    assert same_grid(west, GRID.crop(Window(0, 0, 128, 100))) and same_grid(east, GRID.crop(Window(0, 100, 126, 92)))


def test_an_extent_elsewhere_or_the_wrong_way_round_is_refused(tiny: TinySite) -> None:
    original = tiny.site.read_text()
    tiny.site.write_text(original.replace('name = "tiny"', 'name = "tiny"\n[grid]\nextent = [0, 0, 90, 90]'))
    with pytest.raises(GridError, match=r"extent \(x 0 to 90, y 0 to 90\) does not overlap .*image.tif"):
        site_grid(open_site(read_site(tiny.site)))
    tiny.site.write_text(original.replace('name = "tiny"', 'name = "tiny"\n[grid]\nextent = [90, 0, 0, 90]'))
    with pytest.raises(SiteError, match=r"extent: \[90.0, 0.0, 0.0, 90.0\] is not left, bottom, right, top"):
        read_site(tiny.site)


def test_a_network_without_batch_norm_learns_at_its_own_rate() -> None:
    def rate(network: str, **training: object) -> float:
        return settled(Run.model_validate({"network": {"name": network}, "training": training})).training.rate

    assert (rate("unet"), rate("fc_densenet"), rate("resunet")) == (2e-4, 2e-3, 2e-3)
    assert rate("unet", learning_rate=0.5) == 0.5
    assert rate("unet", recipe="paper") == rate("fc_densenet", recipe="paper") == 1e-4
