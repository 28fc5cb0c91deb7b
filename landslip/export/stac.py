"""`landslip stac`: a run's map and model as a small static catalogue of STAC items.

STAC 1.1.0 (github.com/radiantearth/stac-spec, item-spec and catalog-spec). All links are relative.
"""

from __future__ import annotations

import shutil
from importlib.metadata import version
from pathlib import Path

from landslip.errors import OutputError
from landslip.export.stac_items import map_item, placed, slug, weights_item
from landslip.runtime.atomic import atomic_folder, refuse_existing, refuse_input
from landslip.runtime.extras import require_extra
from landslip.runtime.run_folder import open_run
from landslip.runtime.text import read_toml, write_json

CATALOGUE, MANIFEST = "catalog.json", "manifest.json"


def catalogue(run: Path, out: Path, copy: bool = False, overwrite: bool = False) -> list[str]:
    """Write a run's map and model as a static catalogue: OUT/catalog.json and a folder per item; the items' ids.

    Assets point at the run's files, relatively; `copy` puts copies of them beside the items instead, so that the
    folder can be moved alone. Raises RasterError where the run holds neither a map nor a model, OutputError where `out`
    exists (unless `overwrite`).
    """
    require_extra("export", "landslip stac", "pystac")
    import pystac

    refuse_existing(out, overwrite, folder=True)
    refuse_input(out, [run])
    folder = open_run(run)
    title = _site_name(folder.site, run)
    items = []
    if folder.probability is not None:
        items.append(map_item(folder.probability, folder.landslide_map, folder.inventory, f"{title}-map"))
    if folder.model is not None:
        items.append(weights_item(folder.model.parent))
    if not items:
        folder.require("probability", "model")
    index = pystac.Catalog(slug(title), f"Landslides of {title}, by landslip {version('landslip')}.", title)
    with atomic_folder(out, overwrite) as aside:
        for item in items:
            place = aside / item.id / f"{item.id}.json"
            place.parent.mkdir()
            if copy:
                for asset in item.assets.values():
                    source = Path(asset.href)
                    asset.href = str(shutil.copyfile(source, place.parent / source.name))
            index.add_item(item)
            content = placed(item, place)
            content["links"] = [
                {"rel": rel, "href": f"../{CATALOGUE}", "type": "application/json", "title": title}
                for rel in ("root", "parent")
            ] + [
                {"rel": "derived_from", "href": f"../{other.id}/{other.id}.json", "type": "application/geo+json"}
                for other in items
                if other is not item
                and item.properties.get("landslip:model_sha256") == other.properties.get("landslip:weights_sha256", "")
            ]
            write_json(place, content)
        content = index.to_dict(include_self_link=False)
        content["links"] = [
            {"rel": "root", "href": f"./{CATALOGUE}", "type": "application/json", "title": title},
            *({"rel": "item", "href": f"./{item.id}/{item.id}.json", "type": "application/geo+json"} for item in items),
        ]
        write_json(aside / CATALOGUE, content)
        write_json(
            aside / MANIFEST, {"run": run.name, "items": [item.id for item in items], "landslip": version("landslip")}
        )
    return [item.id for item in items]


def _site_name(site: Path | None, run: Path) -> str:
    """The name in the site file, else that of the run folder."""
    if site is not None:
        name = read_toml(site, OutputError).get("name")
        if isinstance(name, str) and name:
            return name
    return run.resolve().name
