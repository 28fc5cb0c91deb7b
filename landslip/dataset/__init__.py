"""A prepared site, read: its channels, its label, its split, and the blocks that are cut from it."""
