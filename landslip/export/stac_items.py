"""A map and a model as STAC items.

STAC 1.1.0 (github.com/radiantearth/stac-spec, item-spec) with the extensions projection 2.0, file 2.1, classification
2.0, processing 1.2, solar system 1.1 and, for models, machine-learning-model 1.4. Bands are STAC 1.1's own `bands`,
which took the place of `raster:bands` and `eo:bands`.

The time of a map is that of the dates in the inventory's `date` column, else that of the probability raster's tag
`date`, else the time at which the file was last written; `landslip:datetime_from` says which.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landslip.dataset.channels import Channel
from landslip.dataset.label import LABEL_NAMES
from landslip.export.stac_footprint import BODIES, Footprint, footprint, projection
from landslip.geo.grid import Grid, require_same_grid
from landslip.geo.raster import RasterInfo, open_raster, read_info, require_one_band, require_probability
from landslip.geo.vector import read_vector
from landslip.inventory.previous import layer_of
from landslip.models import network_title
from landslip.models.scaling import AS_LEARNT
from landslip.plots.qgis_style import MAP_COLOURS, NOT_VALID
from landslip.runtime.disk import file_hash
from landslip.runtime.extras import require_extra
from landslip.runtime.text import write_json
from landslip.training.checkpoint import Model, load_model
from landslip.training.model_files import FACTS, SPLIT, WEIGHTS

if TYPE_CHECKING:
    import pystac

Properties = dict[str, object]  # of a STAC object, as JSON has it

ROOT = "https://stac-extensions.github.io"
PROJECTION, FILE = f"{ROOT}/projection/v2.0.0/schema.json", f"{ROOT}/file/v2.1.0/schema.json"
CLASSIFICATION, PROCESSING = f"{ROOT}/classification/v2.0.0/schema.json", f"{ROOT}/processing/v1.2.0/schema.json"
SSYS, MLM = f"{ROOT}/ssys/v1.1.0/schema.json", f"{ROOT}/mlm/v1.4.0/schema.json"
GEOTIFF = "image/tiff; application=geotiff"
COG = f"{GEOTIFF}; profile=cloud-optimized"
GEOPACKAGE, PARQUET = "application/geopackage+sqlite3", "application/vnd.apache.parquet"
MULTIHASH_SHA256 = "1220"  # what a multihash puts before 32 bytes of SHA-256
STAC_CLASSES = [
    {"value": 0, "name": "other", "title": LABEL_NAMES[0].capitalize()},
    {"value": 1, "name": "landslide", "title": LABEL_NAMES[1].capitalize()},
]


def map_item(
    probability: Path, landslide_map: Path | None = None, inventory: Path | None = None, name: str | None = None
) -> pystac.Item:
    """The pystac Item of a map: a probability raster and, where given, the landslide map and inventory made from it.

    Its assets point at the files where they lie. `name` becomes its id, by default the raster's. Raises RasterError,
    GridError or VectorError for files that are not these.
    """
    require_extra("export", "a STAC item", "pystac")
    info = read_info(probability)
    require_probability(info)
    grid, tags = info.grid, info.tags
    place = footprint(grid)
    properties: Properties = {
        "title": "Landslide probability",
        "description": _lineage(tags),
        "gsd": min(grid.x_size, grid.y_size),
        **projection(grid),
        "processing:software": {"landslip": version("landslip")},
        "processing:lineage": _lineage(tags),
        **_tag_properties(tags),
    }
    assets = {"probability": _raster_asset(info, "Probability of landslide")}
    dates: list[str] = []
    if landslide_map is not None:
        map_info = read_info(landslide_map)
        require_one_band(map_info, "landslide map")
        require_same_grid(grid, str(probability), map_info.grid, str(landslide_map))
        assets["landslide_map"] = _raster_asset(map_info, "Landslide map")
        assets["landslide_map"].extra_fields["bands"][0]["classification:classes"] = _coloured_classes()
        properties |= _tag_properties(map_info.tags)
    if inventory is not None:
        frame = read_vector(inventory, layer_of(inventory))
        dates = [text for text in map(_date, frame["date"].unique()) if text] if "date" in frame else []
        assets |= _inventory_assets(inventory, len(frame))
    when, times = _times(sorted(dates), tags.get("date"), probability)
    extensions = [PROJECTION, FILE, PROCESSING, *([CLASSIFICATION] if landslide_map is not None else [])]
    item = _item_at(place, name or probability.stem, when, properties | times, extensions)
    for key, asset in assets.items():
        item.add_asset(key, asset)
    return item


def model_item(
    model: Model,
    files: Mapping[Path, tuple[str, list[int]]],
    *,
    grid: Grid | None,
    resolution: float | None = None,
    nodata: float | None = None,
    onnx_version: str | None = None,
) -> pystac.Item:
    """The pystac Item of a model, with the machine-learning-model extension.

    `files` has (title, [rows, columns] it takes, -1 for any) by path. `grid` is where the model was trained, None where
    unknown; `resolution` the size of a pixel in metres; `nodata` a value that stands for undefined besides NaN. The
    item's time is the age of the model's model.json. `onnx_version` is None for a folder of weights, which takes
    standardised values, and not raw ones as ONNX does.
    """
    require_extra("export", "a STAC item", "pystac")
    raw = onnx_version is not None
    place = Footprint(None, None, None) if grid is None else footprint(grid)
    properties = _model_properties(model, next(iter(files.values()))[1], raw=raw, nodata=nodata)
    properties |= {} if resolution is None else {"gsd": resolution}
    properties |= {} if grid is None else projection(grid)
    when, times = _times([], None, model.folder / FACTS)
    extensions = [MLM, FILE, PROCESSING, CLASSIFICATION, *([] if grid is None else [PROJECTION])]
    item = _item_at(place, str(properties["mlm:name"]), when, properties | times, extensions)
    bands = [{"name": channel.name} for channel in model.channels]
    for path, (title, _) in files.items():
        kind = "onnx" if raw else "safetensors"
        asset = _asset(path, title, f"application/octet-stream; framework={kind}", ["mlm:model", "mlm:weights"])
        asset.extra_fields |= {"mlm:artifact_type": kind, "bands": bands}
        if raw:
            asset.extra_fields |= {"mlm:framework": "ONNX", "mlm:framework_version": onnx_version}
        item.add_asset(path.stem, asset)
    return item


def write_item(path: Path, item: pystac.Item, overwrite: bool = False) -> None:
    """Write a pystac Item as JSON, its assets' places relative to it."""
    write_json(path, placed(item, path), overwrite)


def weights_item(folder: Path) -> pystac.Item:
    """The pystac Item of a model folder as landslip reads it: weights and model.json."""
    model = load_model(folder)
    grid = read_info(folder / SPLIT).grid if (folder / SPLIT).exists() else None
    files = {folder / WEIGHTS: ("Weights, read with model.json by landslip", [-1, -1])}
    return model_item(model, files, grid=grid, resolution=None if grid is None else grid.x_size)


def placed(item: pystac.Item, path: Path) -> Properties:
    """An item as JSON, its assets' places relative to where it is written."""
    content = item.to_dict(include_self_link=False, transform_hrefs=False)
    for asset in content["assets"].values():
        relative = Path(os.path.relpath(Path(asset["href"]).resolve(), path.resolve().parent)).as_posix()
        asset["href"] = relative if relative.startswith("../") else f"./{relative}"
    content["links"] = []
    return content


def slug(text: str) -> str:
    """Letters, digits, underscores and hyphens: ids that are file names too (item-spec: ids may hold anything)."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-").lower() or "landslip"


def _model_properties(model: Model, sides: list[int], *, raw: bool, nodata: float | None) -> Properties:
    """What a model is, takes and gives; `sides` are the rows and columns of a block that it takes, -1 for any."""
    facts = model.facts
    name = model.network_name
    title = network_title(name, model.network_options)
    versions = facts.get("software", {})
    return {
        "title": f"{title} that recognises landslides",
        "bands": [_channel_band(channel) for channel in model.channels],
        "mlm:name": f"landslip-{name.replace('_', '-')}-{str(facts['weights_sha256'])[:12]}",
        "mlm:architecture": title,
        "mlm:tasks": ["semantic-segmentation"],
        "mlm:framework": "PyTorch",
        **({"mlm:framework_version": str(versions["torch"])} if "torch" in versions else {}),
        "mlm:total_parameters": sum(parameter.numel() for parameter in model.network.parameters()),
        "mlm:pretrained": True,
        "mlm:pretrained_source": _training(facts),
        "mlm:accelerator": None,
        "mlm:input": [_model_input(model, sides, raw=raw)],
        "mlm:output": [_model_output(facts, sides, raw=raw)],
        "mlm:hyperparameters": {
            "threshold": model.threshold,
            "temperature": model.scaling.temperature,
            "bias": model.scaling.bias,
            "multiple": model.multiple,
            **({} if nodata is None else {"nodata": nodata}),
        },
        "processing:software": {"landslip": version("landslip")},
        "landslip:weights_sha256": facts["weights_sha256"],
        "landslip:site_inputs": facts.get("site_inputs", {}),
    }


def _model_input(model: Model, sides: list[int], *, raw: bool) -> Properties:
    scaling = [
        {"type": "z-score", "mean": float(mean), "stddev": float(std)}
        for mean, std in zip(model.facts["mean"], model.facts["std"], strict=True)
    ]
    values = (
        "Raw values in the bands' units; NaN is undefined, and the z-score is in the graph."
        if raw
        else "Values after the z-score; undefined values are 0 after it."
    )
    return {
        "name": "channels",
        "bands": [channel.name for channel in model.channels],
        "input": _array([-1, len(model.channels), *sides], ["batch", "channel", "height", "width"]),
        "value_scaling": None if raw else scaling,
        "resize_type": None,
        "description": f"{values} Rows and columns are multiples of {model.multiple}.",
    }


def _model_output(facts: Mapping[str, Any], sides: list[int], *, raw: bool) -> Properties:
    calibrated = ", calibrated" if (facts.get("temperature", 1), facts.get("bias", 0)) != AS_LEARNT else ""
    undefined = ", NaN where a channel is undefined (0 in the file for Deepness)" if raw else " after the sigmoid"
    return {
        "name": "probability",
        "tasks": ["semantic-segmentation"],
        "result": _array([-1, 1, *sides], ["batch", "channel", "height", "width"]),
        "description": f"Probability of landslide{calibrated}{undefined}",
        "classification:classes": STAC_CLASSES,
    }


def _asset(path: Path, title: str, kind: str, roles: list[str]) -> pystac.Asset:
    import pystac

    facts = {"file:size": path.stat().st_size, "file:checksum": MULTIHASH_SHA256 + file_hash(path)}
    return pystac.Asset(str(path.resolve()), title=title, media_type=kind, roles=roles, extra_fields=facts)


def _inventory_assets(inventory: Path, landslides: int) -> dict[str, pystac.Asset]:
    """The GeoPackage and, where it lies beside it, the GeoParquet of an inventory."""
    geopackage = _asset(inventory, "Landslides as polygons", GEOPACKAGE, ["data"])
    geopackage.extra_fields["landslip:landslides"] = landslides
    parquet = inventory.with_suffix(".parquet")
    if not parquet.exists():
        return {"inventory": geopackage}
    title = "Landslides as polygons, GeoParquet"
    return {"inventory": geopackage, "inventory_parquet": _asset(parquet, title, PARQUET, ["data"])}


def _raster_asset(info: RasterInfo, title: str) -> pystac.Asset:
    with open_raster(info.path) as dataset:
        kind = COG if dataset.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG" else GEOTIFF
    asset = _asset(info.path, title, kind, ["data"])
    asset.extra_fields["bands"] = [
        {
            "name": slug(name or f"band {i + 1}").replace("-", "_"),
            **({"description": name} if name else {}),
            "data_type": info.dtypes[i],
            **({} if info.nodata[i] is None else {"nodata": _nodata(float(info.nodata[i] or 0.0))}),
        }
        for i, name in enumerate(info.names)
    ]
    return asset


def _nodata(value: float) -> float | str:
    """A nodata value in JSON, where NaN and infinity are words (common-metadata.md, nodata)."""
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value


def _coloured_classes() -> list[Properties]:
    classes: list[Properties] = []
    for one in STAC_CLASSES:
        red, green, blue, _ = MAP_COLOURS[int(str(one["value"]))]
        classes.append({**one, "color_hint": f"{red:02X}{green:02X}{blue:02X}"})
    return [*classes, {"value": NOT_VALID, "name": "not_mapped", "title": "Outside the valid ground", "nodata": True}]


def _channel_band(channel: Channel) -> Properties:
    return {
        "name": channel.name,
        "data_type": "float32",
        "nodata": "nan",
        **({"unit": channel.unit} if channel.unit else {}),
        "landslip:factor": channel.factor,
        "landslip:group": channel.group,
        "landslip:kind": channel.kind,
    }


def _array(shape: list[int], order: list[str]) -> Properties:
    return {"shape": shape, "dim_order": order, "data_type": "float32"}


def _training(facts: Mapping[str, Any]) -> str:
    kind = facts.get("split", {}).get("kind", "unknown")
    hashes = ", ".join(f"{name} {str(sha256)[:12]}" for name, sha256 in facts.get("site_inputs", {}).items())
    return f"Trained by landslip on one prepared site ({hashes or 'inputs unknown'}); split {kind}."


def _tag_properties(tags: Mapping[str, str]) -> Properties:
    """The tags that landslip writes as properties `landslip:...`, numbers as numbers."""
    properties: Properties = {}
    for key in ("threshold", "threshold_source", "min_area", "model_sha256", "method", "precision", "scene"):
        if key in tags:
            try:
                number = float(tags[key])
            except ValueError:
                number = math.nan
            properties[f"landslip:{key}"] = number if math.isfinite(number) else tags[key]
    return properties


def _lineage(tags: Mapping[str, str]) -> str:
    model = f", model {tags['model_sha256'][:12]}" if "model_sha256" in tags else ""
    method = f", method {tags['method']}" if "method" in tags else ""
    return f"Probability of landslide per pixel by landslip map{method}{model}."


def _date(value: Any) -> str | None:
    """A date or time of a column or a tag as RFC 3339 in UTC; None for what is none."""
    try:
        when = datetime.fromisoformat(str(value).strip())
    except ValueError:
        return None
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def _times(dates: Sequence[str], tag: str | None, file: Path) -> tuple[datetime | None, dict[str, str]]:
    """The item's time and the properties that say where it is from; several dates make a span (item-spec, datetime)."""
    tagged = _date(tag) if tag else None
    span = dates or ([tagged] if tagged else [])
    if not span:
        when = datetime.fromtimestamp(int(file.stat().st_mtime), UTC)
        return when, {"landslip:datetime_from": f"last change of {file.name}"}
    origin = {"landslip:datetime_from": "date of the inventory" if dates else f"tag of {file.name}"}
    if len(span) == 1:
        return datetime.fromisoformat(span[0]), origin
    return None, {"start_datetime": span[0], "end_datetime": span[-1], **origin}


def _item_at(
    place: Footprint, name: str, when: datetime | None, properties: Properties, extensions: list[str]
) -> pystac.Item:
    """A pystac Item without assets, which names the body that it lies on where that is another than the Earth."""
    import pystac

    if place.body not in (None, "Earth"):
        extensions = [*extensions, SSYS]
        properties = properties | {"ssys:targets": [place.body], "ssys:target_class": BODIES[str(place.body)][0]}
    return pystac.Item(slug(name), place.geometry, place.bbox, when, properties=properties, stac_extensions=extensions)
