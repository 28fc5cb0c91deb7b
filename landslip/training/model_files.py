"""The names of the files in a model folder."""

WEIGHTS, FACTS, SPLIT = "model.safetensors", "model.json", "split.tif"
STATE = "state.safetensors"  # of a training that is not finished
