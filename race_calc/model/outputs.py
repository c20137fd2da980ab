"""What a model gives for every member of a stack, and the labels that it learns from."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Outputs:
    """Raw outputs per member, references and repulsion left out; graph order of atoms. Energies and forces are summed in float64
    at prediction, in the dtype of the parameters in training.

    ============ ============== ======== =====================================================
    field        shape          unit     meaning
    ============ ============== ======== =====================================================
    energy       (M, B)         eV
    atom_energy  (M, N)         eV
    forces       (M, N, 3)      eV/Å     exact -dE/dr
    virial       (M, B, 3, 3)   eV       dE/dε of a symmetric strain; stress = virial / volume
    features     (1, N, L)      eV       of the first member, see `Energies`; no gradient
    heads                                name of each output of the head → its tensor:
    energy_var   (M, B)         eV²      variance of the energy
    force_cov    (M, N, 3, 3)            what makes the covariance of a force: S of Σ = exp(S), in log (eV/Å)² (form
                                         `matrix-log`), or L of Σ = L Lᵀ + jitter, in eV/Å (`cholesky`)
    ============ ============== ======== =====================================================

    Of members that share their trunk, forces and virial have one row, of the mean energy. Where parts of a stack are evaluated by
    themselves and joined, features have a row of each part.
    """

    energy: Tensor
    atom_energy: Tensor
    forces: Tensor
    virial: Tensor
    features: Tensor
    heads: dict[str, Tensor] = field(default_factory=dict)

    def flat(self) -> dict[str, Tensor]:
        """All tensors by name, those of the head last; every one begins with the members."""
        fields = dict(vars(self))
        return fields | fields.pop("heads")

    def __getitem__(self, name: str) -> Tensor:
        return self.flat()[name]

    @classmethod
    def of_flat(cls, tensors: Iterable[Tensor], heads: Iterable[str]) -> "Outputs":
        """From the values of `flat` and the names of the head's outputs in their order."""
        energy, atom_energy, forces, virial, features, *rest = tensors
        return cls(energy, atom_energy, forces, virial, features, dict(zip(heads, rest)))


@dataclass(frozen=True)
class Labels:
    """Energies (B,) eV less references and repulsion, forces (N, 3) eV/Å, virials (B, 3, 3) eV with NaN where unknown, volumes
    (B,) Å³; `extra`: what other outputs learn from, by the name of the label, atoms or structures first; `has_energy`,
    `has_forces`: else some of them are NaN; `others`: labels of the other surfaces (`race_calc.model.surfaces`)."""

    energy: Tensor
    forces: Tensor
    virial: Tensor
    volume: Tensor
    extra: dict[str, Tensor] = field(default_factory=dict)
    has_energy: bool = True
    has_forces: bool = True
    others: tuple["Labels", ...] = ()
