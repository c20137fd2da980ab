"""Derived quantities with error bars, from the members of a potential: differences of energies, elastic constants, vibrations. No torch."""
