"""What comes from others runs nothing and reaches nothing beside it (models, archives, HDF5); what mutation found."""

import errno
import hashlib
import io
import json
import os
import pickle
import shutil
import sqlite3
import struct
import subprocess
import sys
import tarfile
import zipfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from bundles import sentinel_metadata, write_landsat, write_sentinel
from command import command
from conftest import CRS_UTM, TinySite, frame, polygon
from safetensors import safe_open
from safetensors.torch import save

from landslip.config.run import read_run
from landslip.config.site import Site
from landslip.config.site_tables import ImageTable
from landslip.dataset.channels import read_stack_info
from landslip.errors import (
    ChannelError,
    LandslipError,
    ModelError,
    OutputError,
    ResumeError,
    ReviewError,
    RunError,
    SiteError,
    VectorError,
)
from landslip.geo.geopackage import write_vector
from landslip.geo.vector import read_vector
from landslip.inference.int8 import quantized_graph
from landslip.inference.tile_store import TileStore
from landslip.preparation.images import read_with_plain
from landslip.preparation.site_grid import site_grid
from landslip.preparation.site_inputs import open_image, open_site
from landslip.runtime.text import read_json
from landslip.scenes.bundle import read_bundle
from landslip.training.checkpoint import load_model
from landslip.training.model_files import STATE
from landslip.training.state import kept_state
from landslip.training.training_pixels import area_of

# ---- models ----


class Payload:
    """What unpickling it would do: leave a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def model(made: TinySite, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.folder / "model", tmp_path / "model"))


def pickled(ran: Path) -> list[bytes]:
    """A payload as torch, pickle and numpy store it."""
    stored = io.BytesIO()
    torch.save({"weight": Payload(ran)}, stored)
    array = io.BytesIO()
    np.save(array, np.array([Payload(ran)], object), allow_pickle=True)
    return [stored.getvalue(), pickle.dumps({"weight": Payload(ran)}), array.getvalue()]


def test_a_model_of_pickles_is_refused_and_runs_nothing(model: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    pickle.loads(pickle.dumps(Payload(ran)))
    assert ran.exists()  # the payload works
    ran.unlink()
    facts = json.loads((model / "model.json").read_text())
    weights = (model / "model.safetensors").read_bytes()
    for content in pickled(ran):
        sha256 = hashlib.sha256(content).hexdigest()
        for name in ("model.safetensors", "training_pixels.safetensors"):
            (model / "model.safetensors").write_bytes(weights)
            (model / name).write_bytes(content)
            changed = {"weights_sha256": sha256} if name == "model.safetensors" else {}
            pixels = {"training_pixels": {**facts["training_pixels"], "sha256": sha256}}
            (model / "model.json").write_text(json.dumps({**facts, **pixels, **changed}))
            with pytest.raises(ModelError, match=name.partition(".")[0] if changed == {} else "does not hold a model"):
                area_of(load_model(model))
        (model / STATE).write_bytes(content)
        with pytest.raises(LandslipError, match=r"state\.safetensors cannot be read"):
            kept_state(model, "{}", False)
    assert not ran.exists()


WATCHED = """
import sys
from pathlib import Path
import landslip.cli.main
import landslip.scenes.scene
from landslip.training.checkpoint import load_model
from landslip.training.training_pixels import area_of

def read():
    return area_of(load_model(Path(sys.argv[1])))

read()  # what is imported and compiled on a first call
seen = []
FORBIDDEN = ("pickle.", "exec", "compile", "marshal.", "subprocess.", "os.system", "os.exec", "os.posix_spawn",
             "ctypes.dlopen", "socket.", "import")
sys.addaudithook(lambda event, _: seen.append(event) if event.startswith(FORBIDDEN) else None)
read()
print(sorted(set(seen)))
"""


def test_loading_a_model_runs_no_code(made: TinySite) -> None:
    """Python's own audit events (PEP 578) of a second loading: nothing unpickled, compiled, started or imported."""
    words = [sys.executable, "-c", WATCHED, str(made.folder / "model")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


CONNECTING = """
import socket
import sys
seen = []
asking = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname")
sys.addaudithook(lambda event, given: seen.append((event, str(given))) if event in asking else None)
from landslip.cli import main as cli
for words in sys.argv[1:]:
    sys.argv = ["landslip", *words.split()]
    try:
        cli.main()
    except SystemExit as stop:
        assert not stop.code, words
print(f"connections: {seen}")
"""


def test_no_command_calls_home(made: TinySite, tmp_path: Path) -> None:
    """No connection is opened and nothing is left in the home folder, also not by OpenVINO and NNCF, which do so."""
    for extra in ("openvino", "nncf", "onnxruntime"):
        pytest.importorskip(extra)
    home, run = tmp_path / "home", tmp_path / "run"
    home.mkdir()
    shutil.copytree(made.folder, run)
    lines = (
        "quantize model prepared --tolerance 1",
        "map model prepared/stack.tif p.tif --engine openvino",
        "inventory p.tif i.gpkg",
        "evaluate p.tif prepared/label.tif",
        "export model x",
    )
    environment = {**os.environ, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    words, log = [sys.executable, "-c", CONNECTING, *lines], tmp_path / "log"
    log.touch()
    if shutil.which("strace"):  # which sees native code too
        words = ["strace", "-f", "-qq", "-e", "trace=connect", "-o", str(log), *words]
    done = subprocess.run(words, cwd=run, env=environment, capture_output=True, text=True)
    assert "connections: []" in done.stdout, done.stdout + done.stderr
    assert "AF_INET" not in log.read_text()
    assert [path for path in home.rglob("*") if path.is_file()] == []


# ---- archives ----

ROLES = ("red", "green")


def pixels_of(bundle: Path) -> None:
    table = ImageTable.model_validate({"bundle": str(bundle), "bands": list(ROLES)})
    read_with_plain([open_image(table)], site_grid(open_site(Site(name="x", image=(table,)))))


@pytest.fixture
def outside(tmp_path: Path) -> tuple[Path, Path]:
    """A Landsat folder and a .SAFE folder of somebody's own."""
    stored = np.full((7, 8, 8), 9000)
    landsat = write_landsat(tmp_path / "own", stored, np.full((15, 15), 9000)).path
    bands = {"B03": stored[0], "B04": stored[0]}
    return landsat, write_sentinel(tmp_path / "own", bands, np.full((8, 8), 4), sentinel_metadata())


def links(archive: tarfile.TarFile, folder: Path, kind: bytes) -> None:
    for path in sorted(folder.iterdir()):
        member = tarfile.TarInfo(path.name)
        member.type, member.linkname = kind, str(path)
        archive.addfile(member)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("metadata", ["linked", "inside"])
def test_links_of_a_tar_lead_nowhere(tmp_path: Path, outside: tuple[Path, Path], kind: bytes, metadata: str) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        if metadata == "inside":
            archive.add(next(outside[0].glob("*_MTL.json")), "a_MTL.json")
        links(archive, outside[0], kind)
        if metadata == "linked":
            member = tarfile.TarInfo("a_MTL.json")
            member.type, member.linkname = tarfile.SYMTYPE, "a_MTL.json"  # to itself
            archive.addfile(member)
    with pytest.raises(LandslipError):
        pixels_of(tmp_path / "a.tar")


@pytest.mark.parametrize("up", ["../own/", "a/../../own/", "/"])
def test_names_that_lead_out_of_an_archive_are_no_files_of_it(
    tmp_path: Path, outside: tuple[Path, Path], up: str
) -> None:
    """The metadata lies in the archive by such a name; its bands would then be those of the folder outside."""
    landsat, safe = outside
    name = landsat.name
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(next(landsat.glob("*_MTL.json")), f"{up}{name}/{name}_MTL.json")
        for path in landsat.glob("*.TIF"):
            empty = tarfile.TarInfo(f"{up}{name}/{path.name}")
            archive.addfile(empty)
    with zipfile.ZipFile(tmp_path / "b.SAFE.zip", "w") as packed:
        for path in safe.rglob("*"):
            if path.is_file():
                content = path.read_bytes() if path.suffix == ".xml" else b""
                packed.writestr(f"{up}{safe.name}/{path.relative_to(safe).as_posix()}", content)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for bundle in ("a.tar", "b.SAFE.zip"):
        with pytest.raises(SiteError, match=r"holds neither|lacks"):
            pixels_of(tmp_path / bundle)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_what_a_zip_cannot_give(tmp_path: Path, outside: tuple[Path, Path]) -> None:
    """Encrypted, packed in an unknown way, cut within its stream: found by mutation, or by reading zipfile."""
    safe, path = outside[1], tmp_path / "b.SAFE.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in safe.rglob("*"):
            if file.is_file():
                packed.write(file, file.relative_to(safe.parent))
    whole = path.read_bytes()
    pixels_of(path)
    name = f"{safe.name}/MTD_MSIL2A.xml".encode()
    local, central = whole.index(name) - 30, whole.rindex(name) - 46
    for places, value in (((central + 8, local + 6), 1), ((central + 10, local + 8), 99)):
        changed = bytearray(whole)
        for at in places:
            struct.pack_into("<H", changed, at, value)
        path.write_bytes(changed)
        with pytest.raises(SiteError, match=r"no metadata that landslip can use"):
            read_bundle(path, ROLES)
    changed = bytearray(whole)
    changed[local + 30 + len(name) : local + 60 + len(name)] = b"\xff" * 30
    path.write_bytes(changed)
    with pytest.raises(SiteError, match=r"no metadata that landslip can use"):
        read_bundle(path, ROLES)


# ---- what mutation found ----

DEEP = "[" * 100_000


def test_files_nested_too_deeply(made: TinySite, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text(DEEP)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(path)
    path.write_text('{"name": "half \\ud800 a character"}')
    with pytest.raises(ValueError, match="surrogates not allowed"):
        read_json(path)
    path.write_text('{"name": "\\ud83c\\udf0b \\u00e4"}')
    assert read_json(path) == {"name": "\N{VOLCANO} \N{LATIN SMALL LETTER A WITH DIAERESIS}"}
    for text in ("a = " + DEEP, "a = " + "9" * 5000):
        path.write_text(text)
        with pytest.raises(RunError, match="is not a TOML file"):
            read_run(path)
    (model / "model.json").write_text('{"a":' * 100_000)
    assert "not a model description (it is nested too deeply)" in command("info", model).err


def test_a_long_value_is_not_repeated_whole(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(f'[split]\nkind = "{"x" * 50_000}"')
    with pytest.raises(RunError) as error:
        read_run(path)
    assert len(str(error.value)) < 1000 and "split.kind" in str(error.value)


def test_a_stack_that_does_not_say_of_which_factor_a_band_is(made: TinySite, tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    shutil.copy(made.folder / "prepared" / "stack.tif", path)
    path.write_bytes(path.read_bytes().replace(b'"landslip_factor" sample="2"', b'"landslip_fuctor" sample="2"'))
    with pytest.raises(ChannelError, match="band green does not say of which factor"):
        read_stack_info(path)


def test_what_is_said_into_a_file_on_a_full_disk(made: TinySite, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("typer.echo", full)
    outcome = command("info", made.folder / "model")
    assert outcome.code == 2 and "what it says cannot be written (No space left on device)" in outcome.err


def test_no_message_fills_the_screen() -> None:
    long = str(ReviewError(f"i.gpkg: landslide 2 has the state {'x' * 100_000!r}. Write the inventory again."))
    assert len(long) < 2100 and long.startswith("i.gpkg: landslide 2") and long.endswith("Write the inventory again.")
    assert str(ReviewError("short")) == "short"


def test_a_manifest_that_is_none(made: TinySite, tmp_path: Path) -> None:
    prepared = Path(shutil.copytree(made.folder / "prepared", tmp_path / "prepared"))
    for text in (DEEP, "7", "{"):
        (prepared / "manifest.json").write_text(text)
        outcome = command("correct", prepared, made.folder / "landslides.gpkg", tmp_path / "new")
        assert outcome.code == 2 and "manifest.json is not what prepare wrote" in outcome.err
        assert not list(tmp_path.glob("*new*"))


@pytest.mark.parametrize("corner", [(15, 460_000, 1e300), (1e300, 0, 0), (15, float("nan"), 0), (1e-300, 0, 0)])
def test_a_georeference_of_nowhere(tmp_path: Path, corner: tuple[float, float, float]) -> None:
    size, x, y = corner
    path = tmp_path / "p.tif"
    profile = {"driver": "GTiff", "height": 9, "width": 9, "count": 1, "dtype": "float32", "crs": CRS_UTM}
    with rasterio.open(path, "w", transform=Affine(size, 0, x, 0, -size, y), **profile) as dataset:
        dataset.write(np.full((1, 9, 9), 0.9, np.float32))
    outcome = command("inventory", path, tmp_path / "new.gpkg")
    assert outcome.code == 2 and "its georeference is damaged. Assign it anew" in outcome.err, outcome
    assert command("info", path).code == 2


def test_a_state_that_lacks_a_value_of_the_optimizer(
    made: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from landslip.training import train

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    words = ("train", made.run, made.folder / "prepared", tmp_path / "new")
    with monkeypatch.context() as patch:
        patch.setattr(train, "write_text", killed)  # after the first epoch's state
        assert command(*words).code == 130
    path = tmp_path / "new" / STATE
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del tensors[next(name for name in tensors if name.endswith("exp_avg"))]
    path.write_bytes(save(tensors, metadata))
    outcome = command(*words)
    assert outcome.code == 2 and "state.safetensors cannot be read" in outcome.err and "--overwrite" in outcome.err


@pytest.mark.parametrize("identity", ['{"run": {', "[]", '{"run": 3, "inputs": {}}'])
def test_a_state_that_does_not_say_of_what_it_is(tmp_path: Path, identity: str) -> None:
    facts = json.dumps({"identity": identity})
    (tmp_path / STATE).write_bytes(save({"x": torch.zeros(1)}, {"landslip": facts}))
    with pytest.raises(ResumeError, match="Start anew with --overwrite"):
        kept_state(tmp_path, '{"run": {"training": {"epochs": 1}}, "inputs": {"stack.tif": "0"}}')


@pytest.mark.parametrize("header", ["{'descr': '<f4', \x07", "{'descr': ("])
def test_a_kept_window_whose_header_is_damaged_is_computed_again(tmp_path: Path, header: str) -> None:
    store = TileStore(tmp_path, tmp_path / "map.tif")
    store.keep(0, np.zeros((1, 4, 5), np.float32), [])
    assert store.left([(1, 4, 5)]) == []
    content = bytearray((tmp_path / "0000000.npy").read_bytes())
    content[10 : 10 + len(header)] = header.encode()
    (tmp_path / "0000000.npy").write_bytes(content)
    assert store.left([(1, 4, 5)]) == [0]


def test_a_kept_window_that_cannot_be_removed_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(self: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "unlink", failing)
    with pytest.raises(OutputError, match=r"map\.tif cannot be written: Input/output error"):
        TileStore(tmp_path, tmp_path / "map.tif").left([(1, 4, 5)])


def test_a_geometry_that_geos_refuses(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    write_vector(path, frame([polygon(0, 0, 9, 9)]))
    two_corners = b"\1" + struct.pack("<3I4d", 3, 1, 2, 0, 0, 9, 9)
    with closing(sqlite3.connect(path)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f'DROP TRIGGER "{name}"')
        connection.execute("UPDATE a SET geom = ?", (b"GP\0\1" + struct.pack("<i", 32649) + two_corners,))
        connection.commit()
    with pytest.raises(VectorError, match=r"a\.gpkg cannot be read as a vector file \(.*\): it is .*again\.$") as error:
        read_vector(path)
    assert "\n" not in str(error.value)


def _describe_int8(folder: Path) -> None:
    facts = {
        "weights_sha256": load_model(folder).facts["weights_sha256"],
        "files": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("int8.xml", "int8.bin")},
    }
    (folder / "int8.json").write_text(json.dumps(facts))


def test_a_graph_that_openvino_cannot_read(model: Path) -> None:
    openvino = pytest.importorskip("openvino")
    from landslip.inference.engines import openvino_graph

    loaded = load_model(model)
    openvino.save_model(openvino_graph(loaded.network, len(loaded.channels)), model / "int8.xml")
    (model / "int8.xml").write_text("<net")
    _describe_int8(model)
    with pytest.raises(ModelError, match=r"int8\.xml is no graph that OpenVINO can read .*landslip quantize"):
        quantized_graph(loaded)


def test_numbers_that_no_machine_has_room_for() -> None:
    from landslip.metrics.bootstrap import add_block_sums
    from landslip.models import build_model

    for options in ({"layers": [1, 10**12, 1]}, {"first_width": 10**12}, {"growth_rate": 5000}):
        with pytest.raises(RunError, match="no network is built of more than 4096"):
            build_model("fc_densenet", 3, **options)
    with pytest.raises(RunError, match="at most 65535"):
        build_model("fc_densenet", 10**24)
    total = np.zeros((1, 1), np.int64)
    add_block_sums(total, np.ones((4, 5), np.bool_), 100, 200, 10**24)
    assert total[0, 0] == 20


def test_a_refusal_that_cannot_be_printed_keeps_its_exit_code(tmp_path: Path) -> None:
    words = [sys.executable, "-c", "from landslip.cli.main import main; main()", "info", str(tmp_path / "nothing.tif")]
    with Path("/dev/full").open("w") as full:
        assert subprocess.run(words, stderr=full).returncode == 2


@pytest.mark.parametrize(
    "name, value",
    [
        ("split", 0.5),
        ("site_inputs", "x"),
        ("site_inputs", {"../label.tif": "0"}),
        ("earlier_site_inputs", [3, {}]),
        ("earlier_site_inputs", [{"x\0.tif": "0"}]),
        ("earlier_site_inputs", 3),
    ],
)
def test_a_table_of_a_model_that_is_none(model: Path, name: str, value: object) -> None:
    facts = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps(facts | {name: value}))
    outcome = command("info", model)
    assert outcome.code == 2 and "model.json is not a model description" in outcome.err
