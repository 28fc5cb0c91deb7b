"""`landslip info`: says what a stack, a model or a map is, and lists a network's layers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from landslip.dataset.channels import StackInfo, read_stack_info
from landslip.errors import LandslipError, ModelError, RasterError
from landslip.geo.archive import archive_of, gdal_name, is_virtual, shown
from landslip.geo.raster import RasterInfo, read_info
from landslip.inference.int8 import QUANTIZED, quantized_facts
from landslip.metrics.training_range import warnings_in
from landslip.models import NETWORKS, build_model
from landslip.models.scaling import AS_LEARNT
from landslip.runtime.progress import duration, plural
from landslip.runtime.text import read_json, screen_table
from landslip.training.checkpoint import Model, load_model, pixel_size
from landslip.training.model_facts import FoldsTable, MemberTable, ModelFacts
from landslip.training.model_files import FACTS, WEIGHTS

VECTORS = (".gpkg", ".shp", ".geojson", ".json", ".fgb")


def describe(path: Path) -> str:
    """What a file or a folder is, as text. RasterError where it is nothing that landslip knows.

    A file may lie in an archive, `dem.zip/dem.tif`, and a raster on a network, as GDAL has it: /vsicurl/https://...
    """
    path = _own_path(path) if is_virtual(path) else path
    archived = archive_of(path) is not None
    if is_virtual(path):
        _require_raster_name(path)
    elif not archived and not path.exists():
        raise RasterError(_missing(path))
    if path.is_dir():
        if (path / FACTS).exists():
            return _model(path)
        if (path / "stack.tif").exists():
            return _prepared(path)
        parts = [p for p in (path / "model", path / "prepared") if p.is_dir()]
        if parts:
            return "\n\n".join([f"{path}: a run folder", *(describe(p) for p in parts)])
        raise RasterError(f"{path} is neither a prepared site, a model nor a run folder.")
    companions = {FACTS: FACTS, WEIGHTS: FACTS, "channels.json": "stack.tif", "manifest.json": "stack.tif"}
    # A file of a model or of a prepared site stands for all of it.
    if path.name in companions and (path.parent / companions[path.name]).is_file():
        return describe(path.parent)
    if path.suffix.lower() == ".toml" or (path.suffix.lower() == ".json" and not archived and not _is_geojson(path)):
        raise RasterError(
            f"{path} is text, to be read as it is. `landslip info` describes rasters, vector files, models, prepared "
            "sites and run folders."
        )
    if path.suffix.lower() in VECTORS:
        return _features(path)
    info = read_info(path)
    if info.tags.get("threshold") and info.dtypes[0] == "uint8":
        return _landslide_map(info)
    if info.tags.get("threshold") and info.dtypes[0] == "float32":
        return _probability(info)
    if info.count > 1 or info.dtypes[0] == "float32":
        try:
            return _stack(read_stack_info(path))
        except LandslipError:
            pass
    return _plain(info)


def _own_path(path: Path) -> Path:
    """A path of GDAL's into an archive as a path of its own; what else GDAL knows as it is."""
    path_inside = Path(shown(path.as_posix()))
    rooted = Path("/") / path_inside  # Path makes one slash of the two in /vsizip//home/dem.zip.
    return rooted if archive_of(path_inside) is None and archive_of(rooted) is not None else path_inside


def _missing(path: Path) -> str:
    scheme, colon, rest = path.as_posix().partition(":/")  # A Path keeps one slash of two.
    if colon and scheme in ("http", "https", "ftp"):
        return f"{path} is a URL. Give it as GDAL has it: /vsicurl/{scheme}://{rest.lstrip('/')}."
    return f"{path} does not exist. Check the path."


def _require_raster_name(path: Path) -> None:
    """Refuse what only GDAL can reach and is no raster: rasters are told by their header alone."""
    if path.suffix.lower() in (*VECTORS, ".toml"):
        raise RasterError(
            f"{gdal_name(path)} is a path of GDAL's, where only a raster's header is read. Download or unpack the file "
            "first, and give its own path."
        )


def _is_geojson(path: Path) -> bool:
    try:
        return "Feature" in str(read_json(path).get("type"))
    except (OSError, ValueError, AttributeError):
        return False


def _model(path: Path) -> str:
    model = load_model(path)
    try:
        return _model_facts(path, model)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{path / FACTS} lacks what training writes there, or was changed ({error}). The model still maps; copy "
            "the folder again to have the whole description."
        ) from error


def _model_facts(path: Path, model: Model) -> str:
    facts, size = model.facts, pixel_size(model)
    split, machine = facts["split"], facts["machine"]
    leaky = {True: " (leaky)", False: "", None: " (leaky or not: unknown)"}[split["leaky"]]
    rows = [
        f"{path}: a model",
        *_networks(facts),
        f"channels    {', '.join(channel.name for channel in model.channels)}",
        f"split       {split['kind']}{leaky}, guard {split['guard']} px",
        f"windows     {facts['training_windows']} of {facts['run']['blocks']['window']} px",
        *([] if size is None else [f"pixels      {size[0]:g} x {size[1]:g} m"]),
        *([] if "members" in facts else [f"trained     {_trained(facts)}"]),
        *([f"stopped     {facts['stopped']}"] if "stopped" in facts else []),
        *(
            []
            if model.scaling == AS_LEARNT
            else [f"temperature {model.scaling.temperature:g}, bias {model.scaling.bias:g}"]
        ),
        f"threshold   {model.threshold:g}",
        *_apart(facts),
        f"machine     {machine['processor']}, {plural(machine['threads'], 'thread')}, GPU {machine['gpu']}",
        f"weights     SHA-256 {facts['weights_sha256']}",
        *_int8(model),
    ]
    return "\n".join(rows)


def _networks(facts: ModelFacts) -> list[str]:
    """The network of a model, or a row for each member of an ensemble."""
    if "members" not in facts:
        return [f"network     {facts['run']['network']['name']}, seed {facts['seed']}"]
    each = [
        f"member      {member['network']}, seed {member['seed']}, epoch {member['chosen_epoch']}, threshold "
        f"{member['threshold']:g}; {_member_scores(member)}"
        for member in facts["members"]
    ]
    return [f"network     ensemble of {len(each)}, trained {duration(facts['training_seconds'])} together", *each]


def _apart(facts: ModelFacts) -> list[str]:
    """The scores on validation ground, or those of the folds that stand for them; nothing where there are neither."""
    if "folds" in facts:
        return [f"folds       {len(facts['folds']['thresholds'])}, pooled: {_folds(facts['folds'])}"]
    if "validation" not in facts or facts["split"]["kind"] == "all":
        return []
    return [f"validation  {_scores(facts['validation'])}"]


def _member_scores(member: MemberTable) -> str:
    """What is known of a member's scores on ground apart, in words."""
    if "folds" in member:
        return f"{_folds(member['folds'])} in its folds"
    return f"{_scores(member['validation'])} on its validation ground"


def _folds(folds: FoldsTable) -> str:
    """The pooled scores of folds, in words."""
    return _scores({name: value for name, value in folds["scores"].items() if name in ("f1", "kappa")})


def _trained(facts: ModelFacts) -> str:
    """How long a network was trained, and the epoch that was chosen."""
    return f"{duration(facts['training_seconds'])}, epoch {facts['chosen_epoch']} chosen"


def _scores(validation: Mapping[str, float | None]) -> str:
    """The scores on validation ground, in words."""
    return ", ".join(_score(name, value) for name, value in validation.items())


def _int8(model: Model) -> list[str]:
    if not (model.folder / QUANTIZED).exists():
        return []
    f1 = quantized_facts(model)["validation"]["f1"]
    return [f"int8        F1 {f1['int8']:.4f} on validation ground, where fp32 has {f1['fp32']:.4f}"]


def _score(name: str, value: float | None) -> str:
    return f"{name.removeprefix('validation_')} {'undefined' if value is None else format(value, '.4f')}"


def _prepared(path: Path) -> str:
    table = path / "channels.json"
    try:
        encoding = read_json(table)["encoding"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RasterError(f"{table} is not what prepare wrote ({str(error)[:120]}). Prepare the site again.") from error
    return f"{path}: a prepared site, encoding {encoding}\n" + _stack(read_stack_info(path / "stack.tif"))


def _stack(stack: StackInfo) -> str:
    rows = [
        (f"{i}", channel.name, channel.unit or "-", channel.group, channel.factor)
        for i, channel in enumerate(stack.channels, start=1)
    ]
    table = screen_table(["", "channel", "unit", "group", "factor"], rows, text_columns=5)
    channels = plural(len(stack.channels), "channel")
    return f"{stack.path}: a stack of {channels}\ngrid  {stack.grid.describe()}\n{table}"


def _probability(info: RasterInfo) -> str:
    tags = info.tags
    further = f"\nbands      {', '.join(str(name) for name in info.names)}" if info.count > 1 else ""
    return (
        f"{info.path}: a probability raster\ngrid       {info.grid.describe()}\nthreshold  {tags['threshold']}\n"
        f"method     {tags.get('method', 'unknown')}, {tags.get('precision', 'unknown')}\n"
        f"model      SHA-256 {tags.get('model_sha256', 'unknown')}{further}{_warnings(tags)}"
    )


def _warnings(tags: dict[str, str]) -> str:
    return "".join(f"\nwarning    {text}" for text in warnings_in(tags))


def _landslide_map(info: RasterInfo) -> str:
    tags = info.tags
    return (
        f"{info.path}: a landslide map (1 landslide, 0 not, 255 outside valid)\n"
        f"grid       {info.grid.describe()}\n"
        f"threshold  {tags['threshold']} ({tags.get('threshold_source', 'unknown')})\n"
        f"min area   {tags.get('min_area', 'unknown')} m²\nmodel      SHA-256 {tags.get('model_sha256', 'unknown')}"
        f"{_warnings(tags)}"
    )


def _features(path: Path) -> str:
    from landslip.geo.vector import read_vector

    frame = read_vector(path)
    kinds = ", ".join(sorted(set(frame.geom_type))) or "no geometry"
    columns = ", ".join(str(name) for name in frame.columns if name != frame.geometry.name) or "none"
    what = "an inventory" if {"area_m2", "probability_mean"} <= set(frame.columns) else "features"
    rows = [f"{path}: {what}, {len(frame)} ({kinds})", f"CRS      {frame.crs.name}", f"columns  {columns}"]
    if what == "an inventory":
        rows.append(f"area     {frame['area_m2'].sum() / 1e6:.3f} km2")
    return "\n".join(rows)


def _plain(info: RasterInfo) -> str:
    names = ", ".join(str(name) for name in info.names if name) or "unnamed"
    what = f"a raster of {plural(info.count, 'band')} ({names}), {info.dtypes[0]}"
    return f"{info.path}: {what}\ngrid  {info.grid.describe()}"


def network_table(name: str, in_channels: int = 7) -> str:
    """A network's layers, parameters and multiply-adds for one 64 x 64 block (the paper's Tables III and IV)."""
    from landslip.models.layers import layer_table, parameter_count

    network = build_model(name, in_channels)
    rows = []
    for row in layer_table(network, in_channels):
        output = f"{row.rows} x {row.columns} x {row.channels}"
        figures = (f"{row.parameters:,}", f"{row.statistics:,}", f"{row.macs:,}")
        rows.append((row.name, row.kind, output, *figures))
    table = screen_table(["block", "kind", "output", "parameters", "statistics", "MACs"], rows, text_columns=3)
    parameters, statistics, total = parameter_count(network)
    return (
        f"{table}\n\n{name}, {plural(in_channels, 'channel')}: {parameters:,} parameters and {statistics:,} running "
        f"statistics, {total:,} together. Networks: {', '.join(NETWORKS)}."
    )
