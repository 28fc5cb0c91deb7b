"""A probability map becomes outlines with attributes."""
