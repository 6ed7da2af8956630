"""Stored pixels to model bytes, in integers that are bit for bit the same everywhere."""
