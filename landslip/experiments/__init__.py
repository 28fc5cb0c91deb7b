"""Networks, splits and sites compared."""
