"""The report of a small run: its figures are numpy's over the same files, and nothing in it comes from elsewhere."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import geopandas as gpd
import matplotlib
import matplotlib.image
import numpy as np
import pytest
import rasterio
from affine import Affine
from conftest import DRAWN, GRID, TinySite
from matplotlib.colors import to_rgb
from rasterio.crs import CRS

from landslip.config.site import read_site
from landslip.dataset.channels import read_stack_info
from landslip.dataset.split import NONE, PARTS
from landslip.errors import OutputError
from landslip.evaluation.evaluate import evaluate
from landslip.evaluation.result import write_scores
from landslip.experiments.transfer import transfer
from landslip.geo.grid import Grid
from landslip.importance.frequency_ratio import frequency_ratios
from landslip.inference.mapping import map_site
from landslip.inventory.correct import correct
from landslip.inventory.inventory import make_inventory
from landslip.metrics.size_distribution import fit_tail
from landslip.plots.maps import draw_label
from landslip.plots.palette import class_colour
from landslip.preparation.degrees import degree_text, degree_ticks, to_degrees
from landslip.preparation.figures import draw_factors, draw_inventory_areas, draw_study_area, study_area_parts
from landslip.preparation.prepare import prepare
from landslip.report.base import Workspace, figure_text
from landslip.report.html import Picture, Table, Text, render
from landslip.report.html import Section as DocumentSection
from landslip.report.report import SECTIONS, report
from landslip.report.results import COLUMNS, _range_words
from landslip.review import reviews as review
from landslip.runtime.run_folder import open_run
from landslip.training import domain_check
from landslip.training.calibrate import calibrate
from landslip.training.checkpoint import load_model

DAMAGES = (b"", b'{"f1": [[', b"\xff\xfe\x00", b'{"split": 3, "site": 4, "channels": "x"}')
VOID = {"meta", "img", "link", "br", "hr", "input"}


class Page(HTMLParser):
    """Tags with their attributes, the text of every section, and its tables as rows of cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: dict[str, str] = {"": ""}
        self.tables: dict[str, list[list[list[str]]]] = {}
        self.boxes: list[tuple[str, str]] = []  # class and text of paragraphs
        self.section, self.cell, self.box = "", False, False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        self.tags.append((tag, found))
        if tag == "section":
            self.section = found["id"]
            self.text[self.section] = ""
        elif tag == "table":
            self.tables.setdefault(self.section, []).append([])
        elif tag == "tr":
            self.tables[self.section][-1].append([])
        elif tag in ("td", "th"):
            self.tables[self.section][-1][-1].append("")
        elif tag == "p":
            self.boxes.append((found.get("class", ""), ""))
        self.cell = tag in ("td", "th", "strong")
        self.box = tag == "p"

    def handle_endtag(self, tag: str) -> None:
        self.cell = self.box = False

    def handle_data(self, data: str) -> None:
        self.text[self.section] += data
        if self.cell:
            self.tables[self.section][-1][-1][-1] += data
        if self.box:
            name, text = self.boxes[-1]
            self.boxes[-1] = name, text + data

    def rows(self, section: str, first: str) -> list[str]:
        """Cells of the row of a section that begins with a word."""
        return next(row for table in self.tables[section] for row in table if row[0] == first)


@pytest.fixture(scope="module")
def run(made: TinySite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run folder, read only."""
    root = tmp_path_factory.mktemp("report") / "run"
    shutil.copytree(made.folder, root)
    model = load_model(root / "model")
    map_site(model, root / "prepared" / "stack.tif", root / "map" / "probability.tif")
    make_inventory(root / "map" / "probability.tif", root / "inventory" / "landslides.gpkg", threshold=0.3)
    files = root / "map" / "probability.tif", root / "prepared" / "label.tif", root / "model" / "split.tif"
    write_scores(root / "scores" / "test.json", evaluate(*files, "test"))
    write_scores(root / "scores" / "another.json", evaluate(*files[:2]))
    return root


@pytest.fixture(scope="module")
def written(run: Path) -> Path:
    out = run.parent / "report.html"
    assert report(run, out) == []
    return out


@pytest.fixture(scope="module")
def page(written: Path) -> Page:
    return Page(written.read_text(encoding="utf-8"))


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figure is drawn, which takes most of the time."""
    monkeypatch.setattr(Workspace, "draw", lambda *given, **named: Picture("data:,", 1, 1, "", ""))


def stored(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read()


@pytest.fixture(scope="module")
def further(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run with what comes after: a corrected label, a calibrated model, and another site with larger pixels."""
    root = Path(shutil.copytree(run, tmp_path_factory.mktemp("further") / "run"))
    inventory = root / "inventory" / "landslides.gpkg"
    first, second = (one.id for one in review.read_inventory(inventory)[:2])
    review.decide(inventory, first, review.ACCEPTED)
    review.decide(inventory, second, review.REJECTED)
    review.decide(inventory, None, review.DRAWN, outline=DRAWN)
    correct(root / "prepared", inventory, root / "corrected")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(domain_check, "MOST_OUTSIDE", -1.0)  # as on a site of mostly sea: every band lies outside
        calibrate(root / "model", root / "prepared", root / "calibrated")
    (root / "coarse.toml").write_text((root / "site.toml").read_text() + "[grid]\nresolution = 30\n")
    prepare(read_site(root / "coarse.toml"), root / "coarse")
    transfer(root / "model", root / "coarse", root / "transfer")
    return root


# ---- one file ----


def test_nothing_is_fetched_from_elsewhere(written: Path, page: Page) -> None:
    text = written.read_text(encoding="utf-8")
    places = [
        (tag, value)
        for tag, found in page.tags
        for key, value in found.items()
        if key in ("src", "href", "srcset", "data")
    ]
    assert sum(tag == "img" for tag, _ in places) >= 7
    for tag, value in places:
        assert value.startswith("data:image/" if tag == "img" else "#"), value[:80]
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    style = re.findall(r"<style>(.*?)</style>", text, re.S)
    assert len(style) == 1 and "url(" not in style[0] and "@import" not in style[0]
    policy = next(found for tag, found in page.tags if found.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"].startswith("default-src 'none'")


def test_the_page_is_whole_small_and_described(written: Path, page: Page) -> None:
    assert written.stat().st_size < 6e6
    links = {found["href"] for tag, found in page.tags if tag == "a"}
    ids = {f"#{found['id']}" for tag, found in page.tags if tag == "section"}
    assert links == ids and len(ids) == 13
    for tag, found in page.tags:
        if tag == "img":
            assert len(found["alt"]) > 20 and int(found["width"]) > 200 and int(found["height"]) > 100
    opened, depth = [tag for tag, _ in page.tags if tag not in VOID], written.read_text(encoding="utf-8")
    for tag in set(opened):
        assert opened.count(tag) == depth.count(f"</{tag}>"), tag


def test_the_same_files_give_the_same_bytes(copy: Path, written: Path, tmp_path: Path) -> None:
    report(copy, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == written.read_bytes()


# ---- figures in numbers ----


def test_table_ii_holds_the_ranges_of_the_valid_pixels(run: Path, page: Page) -> None:
    names = [row["name"] for row in json.loads((run / "prepared" / "channels.json").read_text())["channels"]]
    stack, valid = stored(run / "prepared" / "stack.tif"), stored(run / "prepared" / "valid.tif")[0] == 1
    for name in ("red", "slope", "elevation", "ndvi", "distance_to_fault"):
        values = stack[names.index(name)][valid].astype(np.float64)
        expected = [figure_text(v) for v in (values.min(), values.mean(), values.max())]
        assert page.rows("factors", name.replace("_", " "))[5:8] == expected, name
    soft = stack[names.index("lithology_soft")][valid].mean()
    assert f"soft {100 * soft:.1f} %" in page.rows("factors", "lithology")[5]


def test_table_ii_says_where_a_factor_comes_from(page: Page) -> None:
    assert page.rows("factors", "red")[2:4] == ["image.tif, band 4", "15 m"]
    assert page.rows("factors", "slope")[2:4] == ["dem.tif", "30 m"]
    assert page.rows("factors", "lithology")[2:4] == ["rocks.gpkg, field rock", "vector"]
    assert page.rows("factors", "ndvi")[2] == "bands red, nir"


def test_ground_and_parts_are_counted(run: Path, page: Page) -> None:
    valid = stored(run / "prepared" / "valid.tif")[0] == 1
    label, parts = stored(run / "prepared" / "label.tif")[0], stored(run / "model" / "split.tif")[0]
    assert f"{valid.sum():,} pixels" in page.text["study-area"]
    assert f"{(valid & (label == 1)).sum():,} pixels" in page.text["study-area"]
    for code, name in enumerate(("train", "validation", "test"), start=1):
        inside = valid & (parts == code)
        slides = (inside & (label == 1)).sum()
        cells = page.rows("split", name)
        assert cells[1] == f"{inside.sum():,}"
        assert cells[2] == f"{inside.sum() * 225 / 1e6:,.3f}" and cells[4] == f"{slides * 225 / 1e6:,.3f}"
        assert cells[5] == f"{100 * slides / (inside & (label < 2)).sum():.2f}"


def test_the_inventory_is_counted(run: Path, page: Page) -> None:
    frame = gpd.read_file(run / "inventory" / "landslides.gpkg", layer="inventory")
    text = page.text["inventory"]
    assert len(frame) > 2 and re.search(rf"Landslides\s*{len(frame)}\b", text)
    total = frame["area_m2"].sum()
    assert total == pytest.approx(frame.area.sum(), rel=2e-3) and f"{total / 1e6:,.2f} km²" in text
    classes = stored(run / "inventory" / "landslides.tif")
    assert f"{100 * (classes == 1).sum() / (classes != 255).sum():.2f} % of the" in text
    largest = page.tables["inventory"][0][1]
    assert {name for name, _, _ in COLUMNS} <= set(frame)  # by the names that an inventory has
    assert largest[3] == f"{frame['area_m2'].max():,.0f}"


def test_scores_stand_with_their_ground(run: Path, page: Page) -> None:
    scores = json.loads((run / "scores" / "test.json").read_text())
    row = page.rows("scores", "test")
    assert row[1:4] == ["test", "apart", "no"]
    assert row[8].startswith(f"{100 * scores['kappa']:.2f}")
    assert page.rows("scores", "another")[3] == "unknown"
    # the headline is of the file that is known not to leak, whatever the order of the names
    assert "scores/test.json" in page.text["summary"] and "another" not in page.text["summary"]
    assert any(name == "warning" and "LEAKY OR NOT: UNKNOWN" in text for name, text in page.boxes)


# ---- what is bad or absent ----


def test_texts_of_files_are_escaped(copy: Path, undrawn: None, tmp_path: Path) -> None:
    manifest = json.loads((copy / "prepared" / "manifest.json").read_text())
    manifest["site"]["name"] = "<script>alert(1)</script>"
    manifest["inputs"][0]["file"] = '"><img src=x onerror=alert(2)>'
    (copy / "prepared" / "manifest.json").write_text(json.dumps(manifest))
    (copy / "run.toml").write_text("# </pre><script>alert(3)</script>\n")
    scores = json.loads((copy / "scores" / "test.json").read_text())
    scores["notes"] = ["<b onclick=alert(4)>"]
    (copy / "scores" / "test.json").write_text(json.dumps(scores))
    report(copy, tmp_path / "r.html")
    found = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "<script>alert(1)</script>" in found.text["summary"]  # as text, not as a tag
    assert "<script>alert(3)</script>" in found.text["provenance"]
    assert "<b onclick=alert(4)>" in found.text["scores"]
    assert not {tag for tag, _ in found.tags} & {"script", "b"}
    assert all("onerror" not in attributes for _, attributes in found.tags)


@pytest.mark.parametrize(
    "file, section",
    [
        ("scores/test.json", "scores"),
        ("prepared/channels.json", "factors"),
        ("prepared/manifest.json", "provenance"),
        ("prepared/stack.tif", "study-area"),
        ("model/model.json", "training"),
        ("model/history.csv", "training"),
        ("model/split.tif", "split"),
        ("map/probability.tif", "map"),
        ("inventory/landslides.gpkg", "inventory"),
        ("site.toml", "provenance"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_in_its_section(
    copy: Path, undrawn: None, tmp_path: Path, file: str, section: str, damage: bytes
) -> None:
    (copy / file).write_bytes(damage)
    make = next(step for name, _, step in SECTIONS if name == section)
    blocks = make(Workspace(open_run(copy), tmp_path))
    faults = [block.text for block in blocks if isinstance(block, Text) and block.tone == "fault"]
    if file != "site.toml" or damage == DAMAGES[2]:  # a site file is only shown
        assert faults and all(file in fault and str(copy) not in fault for fault in faults)
    else:
        assert not faults


def test_the_rest_is_made_whatever_is_damaged(copy: Path, tmp_path: Path) -> None:
    for file in ("scores/test.json", "prepared/manifest.json", "model/model.json", "inventory/landslides.gpkg"):
        (copy / file).write_bytes(DAMAGES[1])
    faults = report(copy, tmp_path / "r.html")
    found = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    boxed = [text for name, text in found.boxes if name == "fault"]
    assert boxed == faults and {text.split(" ")[0] for text in faults} >= {"scores/test.json", "model/model.json"}
    assert "tiny" in found.text["summary"]  # the name is the site file's, since the manifest has none to give
    assert len(found.text) == 14 and found.rows("scores", "another") and found.rows("factors", "slope")
    assert sum(tag == "img" for tag, _ in found.tags) >= 6


def test_what_is_absent_is_said_with_its_command(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "prepared", tmp_path / "run" / "prepared")
    assert report(tmp_path / "run", tmp_path / "r.html") == []
    found = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    for section, command in (
        ("training", "train"), ("split", "train"), ("map", "map"), ("scores", "evaluate"), ("inventory", "inventory"),
        ("comparison", "compare"), ("importance", "importance"), ("intervals", "intervals"),
    ):  # fmt: skip
        assert f"landslip {command} " in found.text[section]
    assert sum(tag == "img" for tag, _ in found.tags) == 2
    assert found.rows("factors", "slope")


def test_what_comes_after_is_shown_where_it_is(further: Path, undrawn: None, tmp_path: Path) -> None:
    assert report(further, tmp_path / "r.html") == []
    found = Page((tmp_path / "r.html").read_text(encoding="utf-8"))

    corrected = json.loads((further / "corrected" / "manifest.json").read_text())["corrected"]
    label, before, parts = (
        stored(further / name)[0] for name in ("corrected/label.tif", "prepared/label.tif", "corrected/split.tif")
    )
    changed = [int(((label != before) & (parts == part)).sum()) for part in (*PARTS.values(), NONE)]
    assert sum(changed) == corrected["pixels_to_landslide"] + corrected["pixels_to_other"] > 0
    told = " ".join(found.text["provenance"].split())
    assert "landslides.gpkg: 1 drawn, 1 accepted, 1 rejected" in told
    assert (
        f"{changed[0]:,} in train, {changed[1]:,} in validation, {changed[2]:,} in test, {changed[3]:,} in no part"
    ) in told

    calibration = json.loads((further / "calibrated" / "model.json").read_text())["calibration"]
    told = " ".join(found.text["training"].split())
    assert ("head", "Calibrated model: calibrated/") in found.boxes
    assert any(note.startswith("most of a sample of ") for note in calibration["notes"])
    assert all(f"{note}." in told for note in calibration["notes"])

    scores = json.loads((further / "transfer" / "scores.json").read_text())
    row = found.rows("scores", "as trained")
    assert row[1] == f"{scores['as_trained']['pixels']:,}" and row[2] == "unknown"
    loud = [text for name, text in found.boxes if "warning" in name]
    assert scores["warnings"][0].startswith("pixels of 30 x 30 m")
    assert all(f"transfer/, on another site: {text}." in loud for text in scores["warnings"])

    damaged = Path(shutil.copytree(further, tmp_path / "damaged"))
    (damaged / "corrected" / "manifest.json").write_text('{"corrected": {"landslides": 3}}')
    assert "corrected/manifest.json is damaged" in report(damaged, tmp_path / "damaged.html")[0]


def test_leaky_scores_are_loud(copy: Path, undrawn: None, tmp_path: Path) -> None:
    (copy / "scores" / "another.json").unlink()
    scores = json.loads((copy / "scores" / "test.json").read_text())
    (copy / "scores" / "test.json").write_text(json.dumps(scores | {"leaky": True, "split": "paper"}))
    report(copy, tmp_path / "r.html")
    found = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert [text for name, text in found.boxes if name == "warning" and "LEAKY. " in text]
    assert "LEAKY" in found.text["summary"] and found.rows("scores", "test")[3] == "LEAKY"
    assert not [text for name, text in found.boxes if name == "good"]


@pytest.mark.parametrize("leaky", [["no"], {"a": 1}, "no", 0], ids=str)
def test_scores_that_do_not_say_whether_they_leak_are_not_believed(
    copy: Path, undrawn: None, tmp_path: Path, leaky: object
) -> None:
    scores = json.loads((copy / "scores" / "test.json").read_text())
    (copy / "scores" / "a.json").write_text(json.dumps(scores | {"leaky": leaky, "f1": 0.999}))
    report(copy, tmp_path / "r.html")
    found = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "99.90" not in found.text["summary"]


def test_a_map_of_another_model_is_said(copy: Path, undrawn: None, tmp_path: Path) -> None:
    facts = json.loads((copy / "model" / "model.json").read_text())
    (copy / "model" / "model.json").write_text(json.dumps(facts | {"weights_sha256": "0" * 64}))
    report(copy, tmp_path / "r.html")
    warnings = [t for n, t in Page((tmp_path / "r.html").read_text(encoding="utf-8")).boxes if n == "warning"]
    assert any("map/probability.tif was made by another model" in text for text in warnings)
    assert any("model/model.safetensors is not the file that training wrote" in text for text in warnings)


def test_a_comparison_is_laid_out_and_a_failed_run_is_said(copy: Path, undrawn: None, tmp_path: Path) -> None:
    scores = json.loads((copy / "scores" / "test.json").read_text())
    row = {"split": "paper", "channels": "bands", "seed": 0, "network": True, "part": "all", **scores, "leaky": True}
    runs = [
        row | {"method": "unet", "split": "paper", "kappa": 0.5, "parameters": 12345, "training_seconds": 3.0},
        row | {"method": "fcn8s", "split": "paper", "kappa": None},
        {
            "split": "paper",
            "method": "segnet",
            "channels": "bands",
            "seed": 0,
            "network": True,
            "failed": "no <memory>",
        },
    ]
    (copy / "comparison").mkdir()
    (copy / "comparison" / "comparison.json").write_text(json.dumps({"runs": runs}))
    chosen = [entry for entry in SECTIONS if entry[0] in ("comparison", "complexity")]
    workspace = Workspace(open_run(copy), tmp_path)
    text = render("t", "s", [DocumentSection(name, title, make(workspace)) for name, title, make in chosen], "f")
    found = Page(text)
    assert found.rows("comparison", "U-Net")[5] == "50.00" and "<strong>50.00</strong>" in text
    assert found.rows("comparison", "FCN-8s")[5] == "undefined"
    assert "LEAKY" in found.text["comparison"] and "segnet, bands, seed 0: no <memory>" in found.text["comparison"]
    assert found.rows("complexity", "U-Net")[1] == "12,345"


def test_a_comparison_is_found_in_a_folder_of_any_name(copy: Path, undrawn: None, tmp_path: Path) -> None:
    scores = json.loads((copy / "scores" / "test.json").read_text())
    row = {"split": "apart", "seed": 0, "network": True, "part": "test", **scores, "leaky": False}
    drawn = tmp_path / "map.png"
    draw_label(copy / "prepared" / "stack.tif", copy / "prepared" / "label.tif", drawn)
    for folder, sets in (("compare", ["bands + factors"]), ("again", ["bands", "bands + factors"])):
        (copy / folder).mkdir()
        runs = [row | {"method": "unet", "channels": channels} for channels in sets]
        (copy / folder / "comparison.json").write_text(json.dumps({"runs": runs}))
        for name in ("maps_apart", "maps_factors_apart"):
            shutil.copy(drawn, copy / folder / f"{name}.png")
    frequency_ratios(copy / "prepared", copy / "frequency")
    chosen = [entry for entry in SECTIONS if entry[0] in ("comparison", "intervals", "provenance")]
    workspace = Workspace(open_run(copy), tmp_path)
    page = Page(render("t", "s", [DocumentSection(name, title, make(workspace)) for name, title, make in chosen], "f"))
    said = page.text["comparison"]
    assert said.index("again/") < said.index("compare/") and len(page.tables["comparison"]) == 4
    assert "This run holds no comparison" not in said and "This run holds no intervals" not in page.text["intervals"]
    first, second = said.split("compare/")
    assert "Maps on bands, and the last network's on bands and factors, split apart." in first
    assert "Maps on bands and factors, split apart." in second and "Maps on bands, and" not in second
    commands = page.text["provenance"]
    assert "landslip compare RUN/run.toml RUN/prepared RUN/compare\n" in commands
    assert "landslip intervals RUN/prepared RUN/frequency\n" in commands


def test_a_range_that_says_little_says_so() -> None:
    assert _range_words(7e4, 13.99e6).startswith("0.07 km² to 13.99 km²: every landslide at its surest pixels")
    assert "says little" in _range_words(7e4, 13.99e6) and "says little" in _range_words(0.0, 5e6)
    assert "says little" not in _range_words(0.75e6, 2.98e6)


def test_the_study_area_is_told_by_what_it_shows(made: TinySite) -> None:
    stack = read_stack_info(made.folder / "prepared" / "stack.tif")
    assert study_area_parts(stack, False) == ["image", "relief in tints of elevation"]
    assert study_area_parts(replace(stack, channels=stack.channels[:3]), True) == ["image", "landslides as drawn"]
    assert study_area_parts(replace(stack, channels=stack.channels[8:9]), False) == ["valid ground"]


def test_a_file_that_exists_or_is_read_is_kept(run: Path, tmp_path: Path) -> None:
    (tmp_path / "r.html").write_text("earlier")
    with pytest.raises(OutputError, match=r"r\.html exists already"):
        report(run, tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text() == "earlier"
    with pytest.raises(OutputError, match=r"site\.toml is read by this command"):
        report(run, run / "site.toml", overwrite=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(OutputError, match="holds none of a run's folders"):
        report(tmp_path / "empty", tmp_path / "s.html")
    with pytest.raises(OutputError, match="is not a folder"):
        report(tmp_path / "nowhere", tmp_path / "s.html")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "r.html"]


# ---- figures ----

MARS = CRS.from_wkt(
    'PROJCS["Mars",GEOGCS["Mars",DATUM["Mars",SPHEROID["Mars",3396190,0]],PRIMEM["Reference",0],UNIT["degree",'
    '0.0174532925199433]],PROJECTION["Equirectangular"],PARAMETER["standard_parallel_1",0],PARAMETER["central_meridian"'
    ',0],PARAMETER["false_easting",0],PARAMETER["false_northing",0],UNIT["metre",1]]'
)


def test_degrees_are_those_of_the_body() -> None:
    # equirectangular about the equator: x = R longitude, y = R latitude
    grid = Grid(MARS, Affine(1000, 0, -1_000_000, 0, -1000, 200_000), 400, 600)
    ticks = degree_ticks(grid, "x")
    assert 3 <= len(ticks) <= 7
    for kilometres, text in ticks:
        assert kilometres == pytest.approx(-3396.190 * np.radians(float(text[:-2])), abs=0.1) and text.endswith("°W")
    assert {text[-1] for _, text in degree_ticks(grid, "y")} == {"N", "S"}
    found = to_degrees(grid, [3_396_190 * np.pi / 4], [0.0])
    assert found is not None and found[0][0] == pytest.approx(45)


@pytest.mark.parametrize(
    "degrees, axis, step, text",
    [
        (110.6666667, "x", 1 / 60, "110°40'E"),
        (-5.5, "y", 1 / 3600, "5°30'00\"S"),
        (59.99999, "x", 1 / 3600, "60°00'00\"E"),  # no 59°60'
        (-90.0, "x", 10, "90°W"),
    ],
)
def test_degrees_are_written_as_people_do(degrees: float, axis: str, step: float, text: str) -> None:
    assert degree_text(degrees, axis, step) == text


def test_a_grid_of_no_place_has_no_degrees(tmp_path: Path) -> None:
    local = Grid(CRS.from_wkt('LOCAL_CS["patches",UNIT["metre",1]]'), GRID.transform, 10, 10)
    assert degree_ticks(local, "x") == [] and to_degrees(local, [0.0], [0.0]) is None


def test_maps_of_a_prepared_folder_alone(made: TinySite, tmp_path: Path) -> None:
    draw_study_area(made.folder / "prepared", tmp_path / "area.png")
    draw_factors(made.folder / "prepared", tmp_path / "factors.png")
    picture = matplotlib.image.imread(tmp_path / "area.png")[..., :3]
    slides = (np.abs(picture - np.array([0xD5, 0x5E, 0]) / 255) < 0.02).all(axis=-1).sum()
    assert slides > 1000
    # the two rocks of the site have the first two colours of classes, each on half of the last map
    picture = matplotlib.image.imread(tmp_path / "factors.png")[..., :3]
    height, width = picture.shape[:2]
    last = picture[2 * height // 3 :, int(0.69 * width) :]
    rocks = [np.abs(last - np.array(to_rgb(class_colour(i)))).max(axis=-1) < 0.02 for i in (0, 1)]
    assert rocks[0].sum() == pytest.approx(rocks[1].sum(), rel=0.2) and rocks[0].sum() > 5000


def test_areas_of_one_landslide_and_of_equal_ones_are_drawn(tmp_path: Path) -> None:
    for i, areas in enumerate(([900.0], [900.0] * 30, list(np.geomspace(100, 1e6, 200)))):
        draw_inventory_areas(areas, fit_tail(areas), tmp_path / f"{i}.svg")
        assert (tmp_path / f"{i}.svg").stat().st_size > 5000


def test_a_cell_may_be_bold_or_wide() -> None:
    blocks = [
        Table("c", ["a", "b", "c"], [["x", ("**", 2)], ["y", "**1**", "2"]], "n"),
        Text("<i>", "warning"),
        Picture("data:image/png;base64,", 1, 2, 'a "b"', "<c>"),
    ]
    text = render("<t>", "s", [DocumentSection("one", "One", blocks)], "f")
    assert '<td class="word" colspan="2">**</td>' in text and "<strong>1</strong>" in text
    assert "<i>" not in text and "<t>" not in text and "&lt;c&gt;" in text and "a &#34;b&#34;" in text
