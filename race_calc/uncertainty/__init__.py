"""Statistics, scores and decisions for the predictions of any model. NumPy and SciPy only."""
