"""The training loop by itself: on arrays, with nothing installed but PyTorch, NumPy and safetensors."""

import subprocess
import sys

PROGRAM = """
import sys
from types import SimpleNamespace

ABSENT = ("rasterio", "pydantic", "geopandas", "shapely", "scipy", "numba", "rich", "typer", "sklearn", "matplotlib")
for name in ABSENT:
    sys.modules[name] = None

import numpy as np
import torch
from landslip.models import build_model
from landslip.models.forward import probabilities
from landslip.models.initialization import he_
from landslip.training.loop import new_state, train_network
from landslip.training.state import keep, kept_state, restore

# A landslide is where the first channel is high; a quarter of the pixels is unknown, and labelled wrongly below that.
rng = np.random.default_rng(0)
x = rng.normal(size=(12, 2, 32, 32)).astype(np.float32)
y = (x[:, 0] > 0.5).astype(np.uint8)
y[:, :8] = 255

class Arrays:
    count = 8
    def training(self, numbers, rng):
        return x[numbers], y[numbers]
    def validation(self, batch):
        yield x[8:], y[8:], np.ones_like(y[8:], bool)

choice = SimpleNamespace(epochs=6, last=6, batch=4, seed=0, rate=1e-2, weight_decay=0.0, schedule="constant",
                         loss="bce", average=0.0, threshold="f1", choose="best", patience=0)

def begun():
    network = build_model("fc_densenet", 2, layers=[2, 2, 2], first_width=8, growth_rate=4)
    he_(network, torch.Generator().manual_seed(0))
    return new_state(network, choice)

state = begun()
for number, _ in enumerate(train_network(state, Arrays(), choice, "fp32")):
    if number == 2:
        from pathlib import Path
        keep(state, Path("state.safetensors"), '{"run": {}}')
assert state.history[-1]["loss"] < 0.65 * state.history[0]["loss"], state.history
assert state.history[state.best_epoch - 1]["validation_f1"] > 0.75, state.history

# the same from the kept third epoch on
other = begun()
restore(other, Path("state.safetensors"), kept_state(Path("."), '{"run": {}}'))
assert other.epoch == 3
for _ in train_network(other, Arrays(), choice, "fp32"):
    pass
for name, tensor in state.network.state_dict().items():
    assert torch.equal(tensor, other.network.state_dict()[name]), name
print("trained")
"""


def test_a_network_is_trained_on_arrays_where_there_is_nothing_but_torch(tmp_path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "trained", done.stderr
