"""Map, review on the page, correct the labels, train again; and a first inventory drawn where there is none."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio

from journeys.walk import PROGRAM, SHORT, landslip

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


@contextlib.contextmanager
def page_of(run: Path) -> Iterator[object]:
    """The page of `landslip serve run` in a browser, ready; the server ends by Ctrl-C, as its user ends it."""
    if BROWSER is None:
        pytest.skip("no Chromium here (apt-get install chromium)")
    playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    pytest.importorskip("fastapi", reason="the page needs landslip[serve]")
    command = [str(PROGRAM), "serve", str(run), "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        line = server.stderr.readline()
        with playwright_api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
            page = browser.new_page(viewport={"width": 1200, "height": 800})
            faults: list[str] = []
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.goto(next(word for word in line.split() if word.startswith("http://")))
            page.wait_for_selector("body[data-ready=yes]")
            yield page
            browser.close()
            assert faults == []
    finally:
        server.send_signal(signal.SIGINT)
        rest = server.communicate(timeout=60)[1]
    assert "Traceback" not in rest


def said(page: object, text: str) -> None:
    page.wait_for_function("text => document.getElementById('status').textContent.includes(text)", arg=text)


def draw(page: object, corners: list[tuple[int, int]]) -> None:
    """Draw a new landslide with the mouse, corner by corner."""
    page.keyboard.press("n")
    for x, y in corners:
        page.mouse.click(x, y)
    page.keyboard.press("Enter")


def test_review_on_the_page_correct_and_train_again(copied: Path) -> None:
    with page_of(copied) as page:
        page.keyboard.press("j")
        page.keyboard.press("a")
        said(page, "accepted. Saved.")
        page.keyboard.press("r")
        said(page, "rejected. Saved.")
        draw(page, [(300, 300), (360, 300), (360, 360)])
        said(page, "drawn. Saved.")
    package = copied / "inventory" / "landslides.gpkg"
    review = gpd.read_file(package, layer="review")
    assert sorted(review["state"]) == ["accepted", "drawn", "rejected"]

    landslip("correct", "prepared/", "inventory/landslides.gpkg", "corrected/", at=copied)
    landslip("train", "run.toml", "corrected/", "model2/", *SHORT, at=copied)
    with (
        rasterio.open(copied / "model" / "split.tif") as first,
        rasterio.open(copied / "model2" / "split.tif") as second,
    ):
        assert np.array_equal(first.read(1), second.read(1))  # the two models are scored on the same ground
    landslip("map", "model2/", "corrected/stack.tif", "map2/probability.tif", at=copied)
    scored = []
    for number in ("", "2"):
        words = "evaluate", f"map{number}/probability.tif", "corrected/label.tif", "--split", f"model{number}/split.tif"
        landslip(*words, "--json", f"test{number}.json", at=copied)
        scored.append(json.loads((copied / f"test{number}.json").read_text())["pixels"])
    assert scored[0] == scored[1]

    # the reviewed inventory is scored, and scores, as it stands
    words = "evaluate", "map/probability.tif", "prepared/label.tif", "--split", "model/split.tif"
    for vectors in (
        ("inventory/landslides.gpkg", "inputs/landslides.gpkg"),
        ("inputs/landslides.gpkg", "inventory/landslides.gpkg"),
    ):
        landslip(*words, "--inventory", vectors[0], "--reference", vectors[1], at=copied)
    # and given as the landslides of a site it burns what was accepted or drawn, not what was rejected
    text = (copied / "site.toml").read_text(encoding="utf-8")
    (copied / "reviewed.toml").write_text(
        text.replace('path = "landslides.gpkg"', f'path = "{package}"'), encoding="utf-8"
    )
    landslip("prepare", "reviewed.toml", "reviewed/", "--no-figures", at=copied)
    rejected = review[review["state"] == "rejected"].geometry.iloc[0].representative_point()
    drawn = review[review["state"] == "drawn"].geometry.iloc[0].representative_point()
    with rasterio.open(copied / "reviewed" / "label.tif") as label:
        values = [int(next(label.sample([(point.x, point.y)]))[0]) for point in (rejected, drawn)]
    assert values == [0, 1]


def test_a_first_inventory_is_drawn_where_there_is_none(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "inputs", tmp_path / "inputs")
    text = (run / "site.toml").read_text(encoding="utf-8")
    head, _, _ = text.partition("[landslides]")
    (tmp_path / "site.toml").write_text(head, encoding="utf-8")
    landslip("prepare", "site.toml", "prepared/", "--no-figures", at=tmp_path)
    with page_of(tmp_path) as page:
        draw(page, [(300, 300), (420, 300), (420, 420), (300, 420)])
        said(page, "drawn. Saved.")
    drawn = tmp_path / "inventory" / "landslides.gpkg"
    (tmp_path / "labelled.toml").write_text(f'{head}\n[landslides]\npath = "{drawn}"\n', encoding="utf-8")
    landslip("prepare", "labelled.toml", "labelled/", "--no-figures", at=tmp_path)
    with rasterio.open(tmp_path / "labelled" / "label.tif") as label:
        burnt = int((label.read(1) == 1).sum())
    area = gpd.read_file(drawn, layer="review").geometry.area.sum()
    assert burnt * 225 == pytest.approx(area, rel=0.05)
