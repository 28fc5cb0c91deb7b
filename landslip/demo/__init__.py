"""A made-up site, and a walk through the program on it."""
