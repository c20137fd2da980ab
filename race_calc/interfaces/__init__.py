"""Potentials as ASE calculators with predictions."""
