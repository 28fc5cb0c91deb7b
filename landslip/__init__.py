"""landslip recognises landslides in satellite images and maps them."""

import os
import sys
from typing import Any

__version__ = "0.1.0"

# Nothing is reported to anybody. OpenVINO and NNCF tell Google Analytics of every import and conversion, and ONNX
# Runtime Microsoft, unasked, and keep an id for it in the home folder: without that package, and with this said, not.
_modules: dict[str, Any] = sys.modules
_modules.setdefault("openvino_telemetry", None)
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
