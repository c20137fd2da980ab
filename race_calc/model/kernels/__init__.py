"""Messages of a layer in C, as torch functions."""
