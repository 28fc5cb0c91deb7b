"""landslip recognises landslides in satellite images and maps them.

The main job in the words of the commands; each name is imported where it is first used:

    import landslip

    landslip.prepare(landslip.read_site("site.toml"), "prepared")
    landslip.train(landslip.read_run("run.toml"), "prepared", "model")
    landslip.map_site(landslip.load_model("model"), "prepared/stack.tif", "map/probability.tif")
    landslip.make_inventory("map/probability.tif", "inventory/landslides.gpkg")
    print(landslip.evaluate("map/probability.tif", "prepared/label.tif", "model/split.tif"))
    landslip.open_run(".").raster("probability")
"""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from landslip.config.run import read_run as read_run
    from landslip.config.site import read_site as read_site
    from landslip.evaluation.evaluate import evaluate as evaluate
    from landslip.inference.mapping import map_site as map_site
    from landslip.inventory.inventory import make_inventory as make_inventory
    from landslip.preparation.prepare import prepare as prepare
    from landslip.runtime.run_folder import open_run as open_run
    from landslip.training.checkpoint import load_model as load_model
    from landslip.training.train import train as train

__version__ = "0.1.0"

# Nothing is reported to anybody. OpenVINO and NNCF tell Google Analytics of every import and conversion, and ONNX
# Runtime Microsoft, unasked, and keep an id for it in the home folder: without that package, and with this said, not.
_modules: dict[str, Any] = sys.modules
_modules.setdefault("openvino_telemetry", None)
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

HOMES = {
    "read_site": "landslip.config.site",
    "prepare": "landslip.preparation.prepare",
    "read_run": "landslip.config.run",
    "train": "landslip.training.train",
    "load_model": "landslip.training.checkpoint",
    "map_site": "landslip.inference.mapping",
    "make_inventory": "landslip.inventory.inventory",
    "evaluate": "landslip.evaluation.evaluate",
    "open_run": "landslip.runtime.run_folder",
}
__all__ = ["__version__", *HOMES]


def __getattr__(name: str) -> Any:
    """Import what is named from its module. `import landslip` alone loads neither PyTorch nor GDAL."""
    if name in HOMES:
        return getattr(import_module(HOMES[name]), name)
    raise AttributeError(f"landslip has no {name!r}; it has {', '.join(HOMES)}.")


def __dir__() -> list[str]:
    return __all__
