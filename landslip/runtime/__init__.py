"""How landslip runs on a machine: files written whole, progress, cores, and where a run keeps what."""
