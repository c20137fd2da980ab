"""What a model gives, known before it predicts."""

from race_calc.model.channels import Spread
from race_calc.posterior.checkpoint import Checkpoint
from race_calc.uncertainty.prediction import quantities


def offered(checkpoint: Checkpoint, members: bool, forces_epistemic: bool) -> frozenset[str]:
    """All that the posterior can give; members and head decide. The stress needs a volume besides."""
    plan, noise, several = checkpoint.model.plan, checkpoint.noise is not None, checkpoint.members > 1
    given = {"energies", "stress"} | ({"feature_distance"} if checkpoint.feature_distance else set())
    given |= {"distance_gap"} if checkpoint.known_distances else set()
    given |= {"energy_epistemic"} if several else set()
    given |= {"energy_aleatoric"} if plan.output("energy_var") or noise else set()
    given |= {"forces_covariance_epistemic", "stress_covariance_epistemic"} if several and forces_epistemic else set()
    given |= {"forces_covariance_aleatoric"} if plan.output("force_cov") or noise else set()
    given |= {"stress_covariance_aleatoric"} if plan.output("stress_cov") else set()
    for name, part in (("bald_energy", "energy"), ("bald_forces", "forces_covariance")):
        given |= {name} if {f"{part}_epistemic", f"{part}_aleatoric"} <= given else set()
    extra = {output.name for output in plan.outputs if not isinstance(output, Spread)}
    if checkpoint.surfaces:
        given |= {"gap"} | ({"gap_epistemic"} if several else set()) | ({"gap_aleatoric"} if plan.output("energy_var") else set())
        extra |= {"energies_states", *plan.config.scalars}
        if several or plan.output("energy_var"):
            extra |= {f"{name}_uncertainty" for name in plan.config.scalars}
    given |= {"energies_members"} | ({"forces_members", "stress_members"} if forces_epistemic else set()) if members else set()
    return quantities(given, checkpoint.members) | extra
