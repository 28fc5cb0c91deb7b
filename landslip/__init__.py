"""landslip recognises landslides in satellite images and maps them."""

__version__ = "0.1.0"
