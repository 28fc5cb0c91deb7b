"""Which factors matter, and where landslides lie along each of them."""
