"""Patch data sets: pairs of image and mask become a prepared folder."""
