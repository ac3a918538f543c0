"""Runs a layout on emulated ranks, in NumPy: every rank holds only its slices, every collective moves real arrays."""
