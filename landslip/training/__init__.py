"""A prepared site becomes a model."""
