"""The pixel grid, and the rasters and vectors that lie on it."""
