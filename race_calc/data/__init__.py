"""Atoms and labels as arrays."""
