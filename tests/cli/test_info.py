"""`landslip info` says what a file or folder is, in words that come from the file itself."""

import json
import re
import tarfile
import zipfile
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from command import command
from conftest import GRID, SHAPE
from made_up import served

from landslip.cli.info import describe, network_table
from landslip.geo.geotiff import write_raster
from landslip.models import NETWORKS, build_model
from landslip.models.layers import parameter_count
from landslip.runtime.disk import file_hash
from landslip.training.checkpoint import load_model

CHANNELS = [
    *("coastal", "blue", "green", "red", "nir", "swir1", "swir2", "elevation", "slope", "curvature"),
    *("aspect_sin", "aspect_cos", "ndvi", "mndwi", "distance_to_river", "distance_to_fault"),
    *("lithology_soft", "lithology_hard"),
]
PLACE = "128 x 192 pixels of 15 x 15, EPSG:32649, x 460000.0 to 462880.0, y 3428080.0 to 3430000.0"


def test_a_stack(finished: Path) -> None:
    text = describe(finished / "prepared" / "stack.tif")
    assert "stack.tif: a stack of 18 channels" in text and PLACE in text
    rows = re.findall(r"^(\d+) +(\w+) +(\S+(?: m)?) +(band|factor) +(\w+)$", text, re.M)
    assert [int(row[0]) for row in rows] == list(range(1, 19)) and [row[1] for row in rows] == CHANNELS
    units = {row[1]: row[2] for row in rows}
    assert [units[name] for name in CHANNELS[7:11]] == ["m", "degree", "1/100 m", "-"]
    assert [row[3:] for row in rows if row[1] in ("swir2", "aspect_cos", "lithology_hard")] == [
        ("band", "swir2"),
        ("factor", "aspect"),
        ("factor", "lithology"),
    ]


def test_a_prepared_folder(finished: Path) -> None:
    text = describe(finished / "prepared")
    assert "prepared: a prepared site, encoding planes\n" in text
    assert text.endswith(describe(finished / "prepared" / "stack.tif"))


def test_a_model(finished: Path) -> None:
    text, model = describe(finished / "model"), load_model(finished / "model")
    said = dict(re.findall(r"^(\w+) {2,}(.*)$", text, re.M))
    assert said["network"] == "fc_densenet, seed 0" and said["channels"] == ", ".join(CHANNELS)
    assert said["split"] == "apart, guard 8 px" and said["windows"].endswith("of 32 px")
    assert said["trained"].endswith(f"epoch {model.facts['chosen_epoch']} chosen")
    assert float(said["threshold"]) == pytest.approx(model.threshold, rel=1e-5)
    assert f"kappa {model.facts['validation']['validation_kappa']:.4f}" in said["validation"]
    assert said["weights"].endswith(file_hash(finished / "model" / "model.safetensors"))


def test_a_model_whose_validation_is_undefined(finished: Path, tmp_path: Path) -> None:
    facts = json.loads((finished / "model" / "model.json").read_text())
    facts["validation"]["validation_kappa"] = None  # as NaN is written
    (tmp_path / "model.json").write_text(json.dumps(facts))
    (tmp_path / "model.safetensors").write_bytes((finished / "model" / "model.safetensors").read_bytes())
    assert "kappa undefined" in describe(tmp_path)


def test_a_probability_raster(finished: Path) -> None:
    text, model = describe(finished / "p.tif"), load_model(finished / "model")
    assert "p.tif: a probability raster" in text and PLACE in text
    assert float(re.findall(r"threshold +(\S+)", text)[0]) == model.threshold
    assert re.search(r"method +halo, (fp32|bf16)", text)
    assert model.facts["weights_sha256"] in text


def test_a_landslide_map_and_other_rasters(finished: Path, tmp_path: Path) -> None:
    text = describe(finished / "i.tif")
    assert "i.tif: a landslide map (1 landslide, 0 not, 255 outside valid)\n" in text and PLACE in text
    threshold = load_model(finished / "model").threshold
    assert float(re.findall(r"threshold +(\S+)", text)[0]) == pytest.approx(threshold)
    assert "image.tif: a " in describe(finished / "image.tif") and "swir2" in describe(finished / "image.tif")
    write_raster(tmp_path / "bare.tif", np.zeros((1, *SHAPE), np.int16), GRID, [""])
    assert "bare.tif: a raster of 1 band (unnamed), int16" in describe(tmp_path / "bare.tif")


def test_an_inventory_and_other_features(finished: Path) -> None:
    text = describe(finished / "i.gpkg")
    frame = gpd.read_file(finished / "i.gpkg", layer="inventory")
    assert f"i.gpkg: an inventory, {len(frame)} (" in text and "CRS      WGS 84 / UTM zone 49N" in text
    assert float(re.findall(r"area +(\S+) km2", text)[0]) == pytest.approx(frame["area_m2"].sum() / 1e6, abs=6e-4)
    others = describe(finished / "landslides.gpkg")
    assert ": features, " in others and "area  " not in others


def test_a_run_folder(finished: Path) -> None:
    text = describe(finished)
    assert f"{finished}: a run folder" in text
    assert describe(finished / "model") in text and describe(finished / "prepared") in text


def test_a_file_of_a_model_or_a_prepared_site_stands_for_it(finished: Path, tmp_path: Path) -> None:
    for folder, names in (("model", ("model.json", "model.safetensors")), ("prepared", ("channels.json",))):
        for name in names:
            assert describe(finished / folder / name) == describe(finished / folder)
    (tmp_path / "scores.json").write_text('{"kappa": 0.5}')
    for path in (finished / "site.toml", tmp_path / "scores.json"):
        outcome = command("info", path)
        assert outcome.code == 2 and f"{path} is text, to be read as it is" in outcome.err, outcome


def test_files_in_archives_are_told_as_those_out_of_them(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    files = ("prepared/stack.tif", "dem.tif", "i.tif", "landslides.gpkg")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as zipped, tarfile.open(tmp_path / "all.tar.gz", "w:gz") as tar:
        for name in files:
            zipped.write(finished / name, name)
            tar.add(finished / name, name)
    for name in files:
        plain = describe(finished / name)
        for archive in ("all.zip", "all.tar.gz"):
            assert describe(tmp_path / archive / name) == plain.replace(str(finished), str(tmp_path / archive))
        for text, archive in (
            (f"/vsizip/{tmp_path}/all.zip/{name}", tmp_path / "all.zip"),
            (f"/vsitar/{{{tmp_path}/all.tar.gz}}/{name}", tmp_path / "all.tar.gz"),
            (f"/vsizip/all.zip/{name}", Path("all.zip")),
        ):
            done = command("info", text)
            assert (done.code, done.out.strip()) == (0, describe(archive / name)), done.err
    for path, says in {
        tmp_path / "all.zip" / "slope.tif": "all.zip holds no slope.tif. It holds dem.tif",
        tmp_path / "all.zip": "all.zip is an archive of dem.tif",
        Path("/vsizip/none.zip/dem.tif"): "none.zip/dem.tif does not exist. Check the path.",
    }.items():
        outcome = command("info", path)
        assert outcome.code == 2 and says in outcome.err, outcome


def test_rasters_on_a_network_are_told_by_their_header(finished: Path) -> None:
    with served(finished) as at:
        for name in ("prepared/stack.tif", "p.tif", "image.tif"):
            assert describe(at / name) == describe(finished / name).replace(str(finished), str(at))
        outcome = command("info", at / "none.tif")
        assert outcome.code == 2 and "/none.tif cannot be read as a raster" in outcome.err and "404" in outcome.err
        outcome = command("info", at / "landslides.gpkg")
        assert outcome.code == 2 and "/vsicurl/http://127.0.0.1:" in outcome.err, outcome
        assert "only a raster's header is read. Download or unpack the file first" in outcome.err
    outcome = command("info", "https://host/dem.tif")
    assert outcome.code == 2 and "is a URL. Give it as GDAL has it: /vsicurl/https://host/dem.tif." in outcome.err


FOLDERS = {  # a folder where a file is wanted, or a file where a folder is
    "map model prepared x.tif": "prepared is a folder: did you mean prepared/stack.tif, prepared/valid.tif or "
    "prepared/label.tif?",
    "map model . x.tif": ". is a folder: did you mean prepared/stack.tif",
    "map model/model.json prepared/stack.tif x.tif": "model/model.json is not a model folder: it has no model.json. "
    "Did you mean model?",
    "map . prepared/stack.tif x.tif": "Did you mean model?",
    "train run.toml prepared/stack.tif m": "prepared/stack.tif is not a prepared site. Did you mean prepared?",
    "train run.toml . m": ". is not a prepared site. Did you mean prepared?",
    "train . prepared m": ". is a folder: did you mean site.toml or run.toml?",
    "check .": ". is a folder: did you mean site.toml or run.toml?",
    "report model x.html": "model holds none of a run's folders",
    "report prepared/stack.tif x.html": "prepared/stack.tif is not a folder. Did you mean .?",
}


@pytest.mark.parametrize("line, says", FOLDERS.items())
def test_a_folder_for_a_file_and_a_file_for_a_folder(
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    says: str,
) -> None:
    monkeypatch.chdir(finished)
    outcome = command(*line.split())
    assert outcome.code == 2 and says in outcome.err, outcome


def test_nothing_of_landslips(tmp_path: Path) -> None:
    outcome = command("info", tmp_path)
    assert outcome.code == 2 and "neither a prepared site, a model nor a run folder" in outcome.err
    outcome = command("info", tmp_path / "none.tif")
    assert outcome.code == 2 and "none.tif does not exist" in outcome.err


@pytest.mark.parametrize("name", ["unet", "fc_densenet", "fc_densenet_shallow"])
def test_the_table_of_a_network_adds_up(name: str) -> None:
    text = network_table(name, 16)
    network = build_model(name, 16)
    rows = re.findall(r"^.* +([\d,]+) +([\d,]+) +([\d,]+)$", text, re.M)
    parameters, statistics, macs = (sum(int(row[i].replace(",", "")) for row in rows) for i in range(3))
    # against torch's own count, not the table's
    assert parameters == sum(p.numel() for p in network.parameters())
    assert statistics == sum(b.numel() for n, b in network.named_buffers() if "running_" in n)
    assert (parameters, statistics, parameters + statistics) == parameter_count(network) and macs > 0
    assert f"{name}, 16 channels: {parameters:,} parameters and {statistics:,} running statistics" in text
    assert all(other in text for other in NETWORKS)


def test_the_first_layer_of_a_table_by_hand() -> None:
    # two 3 x 3 convolutions with bias, 7 to 64 and 64 to 64 channels, on a block of 64 x 64 pixels
    parameters, macs = (7 * 9 + 1) * 64 + (64 * 9 + 1) * 64, 64 * 64 * (7 * 9 * 64 + 64 * 9 * 64)
    assert re.search(rf"down.0 .* 64 x 64 x 64 +{parameters:,} +0 +{macs:,}$", network_table("unet", 7), re.M)
