"""A run folder as one document."""
