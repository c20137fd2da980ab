"""The polynomial that ends the radial basis and the repulsion smoothly."""

import numpy as np


def envelope(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """u(x) = 1 - 6x² + 8x³ - 3x⁴ for x < 1 and 0 beyond, with du/dx; both and d²u/dx² vanish at x = 1.

    `x` = r / cutoff, any shape; so are the two results.
    """
    inside = x < 1
    return np.where(inside, 1 - 6 * x**2 + 8 * x**3 - 3 * x**4, 0.0), np.where(inside, -12 * x * (1 - x) ** 2, 0.0)
