"""The two files that a user writes: a site, and the choices of a run."""
