"""An ensemble answers with the mean logit of its members, each of which sees what it saw alone."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command import command
from conftest import TinySite
from scipy.special import expit, logit

from landslip.config.run import read_run
from landslip.errors import LandslipError, ModelError, OutputError, RunError
from landslip.geo.raster import read, read_info, read_stored
from landslip.inference.engines import bytes_of_a_pixel
from landslip.inference.mapping import map_site
from landslip.inference.predict import Uncertainty
from landslip.models import build_model, network_title, torch_only
from landslip.models.ensemble import Ensemble, Member
from landslip.training.calibrate import calibrate
from landslip.training.checkpoint import load_model, require_portable, save_changed_model
from landslip.training.ensemble import make_ensemble, together
from landslip.training.train import train
from landslip.training.training_pixels import area_of, read_training_pixels

QUICK = {"training.epochs": 1}


@pytest.fixture(scope="module")
def members(made: TinySite, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The tiny model; another trained on other ground and calibrated; and one of another seed."""
    folder = tmp_path_factory.mktemp("members")
    for name, overrides in {"other": {"split.seed": 1, **QUICK}, "seed": {"training.seed": 1, **QUICK}}.items():
        train(read_run(made.run, overrides), made.folder / "prepared", folder / name)
    warm = load_model(folder / "other")
    save_changed_model(warm, folder / "warm", {**warm.facts, "temperature": 2.0, "bias": 0.5})
    for name in ("split.tif", "training_pixels.safetensors"):
        shutil.copy(folder / "other" / name, folder / "warm")
    return [made.folder / "model", folder / "warm", folder / "seed"]


def mapped(folder: Path, made: TinySite, out: Path) -> np.ndarray:
    map_site(load_model(folder), made.folder / "prepared" / "stack.tif", out, precision_choice="fp32")
    return read(out)[0].astype(float)


def test_the_map_is_the_mean_of_the_members_maps_as_logits(made: TinySite, members: list[Path], tmp_path: Path) -> None:
    first, warm, _ = (load_model(folder) for folder in members)
    assert not np.allclose(first.zscore.mean, warm.zscore.mean, rtol=1e-3)  # each saw its own ground
    ensemble = make_ensemble(members, tmp_path / "e")
    alone = [mapped(folder, made, tmp_path / f"{i}.tif") for i, folder in enumerate(members)]
    found = mapped(ensemble.folder, made, tmp_path / "e.tif")
    valid = ~np.isnan(found)
    assert (valid == ~np.isnan(alone[0])).all()
    assert np.abs(found - expit(np.mean([logit(p) for p in alone], 0)))[valid].max() < 2e-6
    assert np.abs(alone[0] - alone[1])[valid].max() > 0.05  # so that a mean of one member alone would be seen
    thresholds = [load_model(folder).threshold for folder in members]
    assert ensemble.threshold == pytest.approx(expit(np.mean([logit(t) for t in thresholds])))
    assert float(read_info(tmp_path / "e.tif").tags["threshold"]) == ensemble.threshold


def test_the_disagreement_is_the_spread_of_the_members(made: TinySite, members: list[Path], tmp_path: Path) -> None:
    ensemble = make_ensemble(members, tmp_path / "e")
    alone = [mapped(folder, made, tmp_path / f"{i}.tif") for i, folder in enumerate(members)]
    stack = made.folder / "prepared" / "stack.tif"
    area = area_of(ensemble)
    map_site(ensemble, stack, tmp_path / "u.tif", precision_choice="fp32", uncertainty=Uncertainty(area, samples=2))
    disagreement = read(tmp_path / "u.tif")[3]
    assert np.nanmax(np.abs(disagreement - np.std(alone, axis=0, ddof=1))) < 2e-6
    map_site(ensemble, stack, tmp_path / "none.tif", uncertainty=Uncertainty(area, samples=0))
    assert np.isnan(read(tmp_path / "none.tif")[3]).all()
    pixels = read_training_pixels(load_model(members[0]))
    assert (read_training_pixels(ensemble).values == pixels.values).all()


def test_what_is_undefined_is_0_for_a_member_of_another_z_score() -> None:
    table = {"name": "fc_densenet", "options": {"layers": [1, 1, 1], "first_width": 4, "growth_rate": 4}}
    torch.manual_seed(0)
    member = Member(2, {**table, "scale": [2.0, 1.0], "shift": [3.0, 0.0]}).eval()
    x = torch.randn(1, 2, 16, 16)
    x[:, :, :8] = 0
    seen = torch.cat([torch.where(x[:, :1] == 0, 0.0, 2 * x[:, :1] + 3), x[:, 1:]], 1)
    assert torch.equal(member(x), member.network(seen))


def test_members_of_several_kinds_and_what_is_said_of_them(made: TinySite, members: list[Path], tmp_path: Path) -> None:
    unet = read_run(made.run, {"network.name": "unet", "network.options": {}, "blocks.step": 32, **QUICK})
    train(unet, made.folder / "prepared", tmp_path / "unet")
    ensemble = make_ensemble([members[0], tmp_path / "unet", members[2]], tmp_path / "e", half=True)
    assert ensemble.multiple == 8  # of 4 and 8
    title = network_title("ensemble", ensemble.network_options)
    assert title == "Ensemble (2 x FC-DenseNet, U-Net)"
    size = sum(
        (folder / "model.safetensors").stat().st_size for folder in (*members[:1], tmp_path / "unet", members[2])
    )
    assert (tmp_path / "e" / "model.safetensors").stat().st_size < 0.6 * size
    # They run one after another, so that the heaviest counts and not their sum.
    alone = [bytes_of_a_pixel(load_model(folder), "torch") for folder in (members[0], tmp_path / "unet")]
    assert bytes_of_a_pixel(ensemble, "torch") == max(alone)
    told = command("info", tmp_path / "e").out
    assert "ensemble of 3" in told and "member      U-Net, seed 0, epoch 1" in told


def test_segnet_as_a_member_maps_with_pytorch_only(made: TinySite, members: list[Path], tmp_path: Path) -> None:
    options = {"members": [{"name": "unet"}, {"name": "segnet"}]}
    assert torch_only("ensemble", options) == ("SegNet", "unpooling") and torch_only("unet") == ("", "")
    ensemble = make_ensemble(members[:2], tmp_path / "e")
    require_portable(ensemble)
    facts = json.loads((tmp_path / "e" / "model.json").read_text())
    facts["run"]["network"]["options"] = options
    ensemble.facts["run"] = facts["run"]
    with pytest.raises(RunError, match="has a member SegNet, whose unpooling"):
        require_portable(ensemble)


def test_parts_of_all_members_together() -> None:
    # Rows: members; 0 guard, 1 train, 2 validation, 3 test.
    parts = np.array([[[1, 1, 2, 3, 3, 0, 0]], [[3, 2, 3, 3, 0, 2, 0]]], np.uint8)
    assert together(parts).tolist() == [[1, 1, 2, 3, 0, 2, 0]]


def test_split_tif_of_an_ensemble(made: TinySite, members: list[Path], tmp_path: Path) -> None:
    same = make_ensemble([members[0], members[2]], tmp_path / "same")
    assert (tmp_path / "same" / "split.tif").read_bytes() == (members[0] / "split.tif").read_bytes()
    assert same.facts["split"] == load_model(members[0]).facts["split"]
    make_ensemble(members, tmp_path / "e")
    each = np.stack([read_stored(folder / "split.tif") for folder in members])
    parts = read_stored(tmp_path / "e" / "split.tif")
    assert (parts == 1).sum() > (each[0] == 1).sum()
    assert ((parts == 3) == (each == 3).all(0)).all()
    tags = read_info(tmp_path / "e" / "split.tif").tags
    assert (tags["split"], tags["leaky"], tags["window"]) == ("ensemble", "no", "32")


def test_a_threshold_is_chosen_on_the_validation_part_that_members_share(
    made: TinySite, members: list[Path], tmp_path: Path
) -> None:
    make_ensemble([members[0], members[2]], tmp_path / "e")
    done = calibrate(tmp_path / "e", made.folder / "prepared", tmp_path / "c", "kappa")
    ensemble = load_model(tmp_path / "c")
    assert (ensemble.threshold, ensemble.scaling) == (done.threshold, done.scaling) != (0.5, (1, 0))
    assert ensemble.facts["members"] == load_model(tmp_path / "e").facts["members"]
    p = mapped(tmp_path / "c", made, tmp_path / "c.tif")
    plain = mapped(tmp_path / "e", made, tmp_path / "e.tif")
    valid = ~np.isnan(p)
    assert np.abs(p - expit(logit(plain) / done.scaling.temperature + done.scaling.bias))[valid].max() < 1e-5


def test_the_command(made: TinySite, members: list[Path], tmp_path: Path) -> None:
    done = command("ensemble", *members, tmp_path / "e")
    assert done.code == 0 and "3 members, threshold 0." in done.out and "landslip calibrate" in done.out
    again = command("ensemble", *members, tmp_path / "e")
    assert again.code == 2 and "--overwrite" in again.err
    assert command("ensemble", *members[:2], tmp_path / "e", "--overwrite").code == 0
    assert len(load_model(tmp_path / "e").facts["members"]) == 2


def refused(folders: list[Path], out: Path, error: type[LandslipError] = ModelError) -> str:
    with pytest.raises(error) as caught:
        make_ensemble(folders, out)
    assert not (out / "model.json").exists() or out in folders
    return str(caught.value)


def test_members_that_do_not_go_together(made: TinySite, members: list[Path], tmp_path: Path) -> None:
    first, out = members[0], tmp_path / "e"
    assert "two models or more, not 1" in refused([first], out)
    shutil.copytree(first, tmp_path / "copy")
    assert f"{tmp_path / 'copy'} has the weights of {first}" in refused([first, tmp_path / "copy"], out)
    make_ensemble(members, tmp_path / "inner")
    assert "is an ensemble itself" in refused([first, tmp_path / "inner"], out)
    train(read_run(made.run, {"channels.factors": "none", **QUICK}), made.folder / "prepared", tmp_path / "bands")
    said = refused([first, tmp_path / "bands"], out)
    assert "sees the channels coastal (reflectance), blue" in said and "elevation (m)" in said and "train one" in said
    wide = {"blocks.window": 48, "split.guard": 4, **QUICK}
    train(read_run(made.run, wide), made.folder / "prepared", tmp_path / "wide")
    said = refused([first, tmp_path / "wide"], out)
    assert "windows of 48 px" in said and "32 px" in said
    facts = json.loads((tmp_path / "copy" / "model.json").read_text())
    (tmp_path / "copy" / "model.json").write_text(json.dumps({**facts, "pixel_size": [30, 30], "weights_sha256": "0"}))
    assert "is not the file" in refused([first, tmp_path / "copy"], out)
    changed = load_model(members[2])
    save_changed_model(changed, tmp_path / "coarse", {**changed.facts, "pixel_size": (30.0, 30.0)})
    said = refused([first, tmp_path / "coarse"], out)
    assert "pixels of 30 x 30 m" in said and "15 x 15 m" in said
    assert "cannot be its output too" in refused([first, members[2]], members[2], OutputError)


def test_an_ensemble_is_not_trained_by_a_run_file(made: TinySite, tmp_path: Path) -> None:
    done = command("train", made.run, made.folder / "prepared", tmp_path / "m", "--set", "network.name=ensemble")
    assert done.code == 2 and "landslip ensemble MODEL_1/ MODEL_2/ OUT_MODEL/" in done.err
    assert not (tmp_path / "m" / "model.json").exists()


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([{"name": "unet"}], "two members or more, not 1"),
        ([{"name": "unet"}, {"name": "none"}], "'none' is no network"),
        ([{"name": "unet"}, {"name": "unet", "scale": [0, 1]}], "not all above 0"),
        ([{"name": "unet"}, {"name": "unet", "scale": [1]}], "1 scales and 2 shifts for 2 channels"),
        ([{"name": "unet"}, {"name": "unet", "temperature": 0}], "a member's temperature 0.0"),
        ([{"name": "unet"}, {"name": "unet", "bias": float("nan")}], "a member's bias nan"),
    ],
)
def test_descriptions_of_no_ensemble(members: list[dict[str, object]], why: str) -> None:
    with pytest.raises(RunError, match=why):
        build_model("ensemble", 2, members=members)


def test_one_multiple_for_all_members() -> None:
    small = {"name": "fc_densenet", "options": {"layers": [1, 1, 1], "first_width": 4, "growth_rate": 4}}
    network = build_model("ensemble", 3, members=[small, {"name": "resunet"}])
    assert isinstance(network, Ensemble) and network.multiple == 16
    x = torch.randn(1, 3, 16, 16)
    each = [member(x) for member in network.eval().members]
    assert torch.equal(network(x), (each[0] + each[1]) / 2)
    with pytest.raises(ModelError, match="multiple of 16"):
        network(torch.zeros(1, 3, 8, 8))
