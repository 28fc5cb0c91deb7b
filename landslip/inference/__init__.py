"""A model and a stack become a probability map."""
