"""`landslip serve`: a run on a page in the browser, from this computer to this computer."""
