"""Maps, curves and the colours that mean something."""
