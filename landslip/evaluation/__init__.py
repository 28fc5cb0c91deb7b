"""A map or an inventory against what is known."""
