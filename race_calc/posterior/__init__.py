"""Bayesian methods, one file each, and the model folder."""
