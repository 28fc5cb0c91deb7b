"""What other programs open: a QGIS project, a STAC catalogue, an ONNX network."""
