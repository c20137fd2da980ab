"""What the scores of the monitor are called in figures and sentences."""

LABELS = {  # criterion -> (name in a figure, unit)
    "bald_energy": ("BALD of the energy", "nat"),
    "bald_forces_max": ("largest force BALD", "nat"),
    "bald_forces_mean": ("mean force BALD", "nat"),
    "energy_uncertainty_per_atom": ("energy σ per atom", "eV/atom"),
    "energy_uncertainty_per_atom_epistemic": ("energy σ per atom, epistemic", "eV/atom"),
    "forces_uncertainty_max": ("largest force σ", "eV/Å"),
    "forces_uncertainty_max_epistemic": ("largest force σ, epistemic", "eV/Å"),
    "forces_uncertainty_rms": ("force σ of all atoms", "eV/Å"),
    "forces_uncertainty_rms_epistemic": ("force σ of all atoms, epistemic", "eV/Å"),
}


def with_unit(criterion: str, value: float) -> str:
    """A value of that criterion as text, for example "0.43 nat"."""
    return f"{value:.3g} {LABELS[criterion][1]}"
