"""The files of a place become a stack."""
