"""STAC items of maps and models, and `landslip stac`: a run as a small static catalogue.

STAC 1.1.0 (github.com/radiantearth/stac-spec, item-spec and catalog-spec) with the extensions projection 2.0, file 2.1,
classification 2.0, processing 1.2, solar system 1.1 and, for models, machine-learning-model 1.4. Bands are STAC 1.1's
own `bands`, which took the place of `raster:bands` and `eo:bands`. All links are relative.

**Place.** On Earth the geometry is the grid's outline in WGS 84, split at the antimeridian. On another body it is in
that body's own longitude and latitude, -180 to 180, and `ssys:targets` names the body, as in the solar system
extension's examples; a program that does not know the extension will take it for a place on Earth. The body is told by
the radius of the CRS. Where that is no known body's, or the CRS is a local one, the geometry is null and `proj:` alone
says where.

**Time.** The dates that the inventory's `date` column holds, else the probability raster's tag `date`, else the time
at which the file was last written; `landslip:datetime_from` says which.
"""

from __future__ import annotations

import shutil
from importlib.metadata import version
from pathlib import Path

from landslip.errors import OutputError
from landslip.export.stac_items import map_item, placed, require_pystac, slug, weights_item
from landslip.runtime.atomic import atomic_folder, refuse_existing, refuse_input
from landslip.runtime.run_folder import open_run
from landslip.runtime.text import read_toml, write_json

CATALOGUE, MANIFEST = "catalog.json", "manifest.json"


def catalogue(run: Path, out: Path, copy: bool = False, overwrite: bool = False) -> list[str]:
    """Write a run's map and model as a static catalogue: OUT/catalog.json and a folder per item; the items' ids.

    Assets point at the run's files, relatively; `copy` puts copies of them beside the items instead, so that the
    folder can be moved alone. Raises RasterError where the run holds neither a map nor a model, OutputError where `out`
    exists (unless `overwrite`).
    """
    require_pystac("landslip stac")
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
    if site is not None:
        name = read_toml(site, OutputError).get("name")
        if isinstance(name, str) and name:
            return name
    return run.resolve().name
