"""Influencing factors as pure functions: arrays in, arrays out, no file opened.

`terrain` (slope, aspect, curvature, hillshade), `relief` (position, relief, roughness within a window), `indices`
(NDVI, MNDWI), `distance` (metres to a feature), `lithology` (one plane per class), `hydrology` (rivers drawn from
elevation); `table` says what is known of each.
"""
