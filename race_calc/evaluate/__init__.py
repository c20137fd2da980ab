"""A predictor against labelled structures."""
