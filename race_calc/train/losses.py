"""Likelihoods and squared errors, per member: pure functions of outputs and labels.

NLL_JEF = λ_E · NLL_energy + λ_F · NLL_force + λ_σ · NLL_stress, with λ on the whole term, so that λ never moves the optimum
of a variance. Each term is a mean over what has a label: structures (total energy, stress) or atoms.

============== ======================================== =============================
method         formula                                  here
============== ======================================== =============================
likelihoods    see `race_calc.model.likelihood`
faithful       mean from the MSE, variances from        `loss` with recipe `detached`
               detached residuals (Stirn et al. 2023)
β-NLL          energy NLL · ⌊σ²⌋^β, of vectors of k     `loss` with recipe `beta-nll`
               · ⌊det Σ⌋^(β/k), no gradient through
               ⌊ ⌋ (Seitzer et al. 2022), β = ½
others         a posterior's own                        `race_calc.posterior`
============== ======================================== =============================
"""

from torch import Tensor

from race_calc.model.likelihood import QUANTITIES
from race_calc.model.outputs import Labels, Outputs
from race_calc.model.plan import Plan
from race_calc.train.config import TrainingConfig

BETA = 0.5


def loss(outputs: Outputs, labels: Labels, plan: Plan, training: TrainingConfig) -> Tensor:
    """Loss of every member (M,). The sum over members is what is differentiated.

    Energies and forces learn from the likelihood of the spread that the head predicts for them, else from squared errors;
    other outputs have losses of their own.
    """
    detached = training.recipe == "detached"
    beta = BETA if training.recipe == "beta-nll" else 0.0
    means, spreads = [], []
    for quantity in QUANTITIES:
        weight = getattr(training, quantity.weight)
        if not weight:
            continue
        spread = plan.output(quantity.spread)
        known = quantity.with_spread(outputs, labels) if spread else None
        if known is None or detached:
            means.append(weight * quantity.squares(outputs, labels))
        else:
            means.append(weight * spread.nll(*known, beta))
        if known is not None and detached:
            spreads.append(weight * spread.nll(known[0].detach(), known[1]))
    own = [output.loss(outputs.heads[output.name], labels) for output in plan.outputs]
    total = means[0]
    for more in (*means[1:], *spreads, *own):
        total = total if more is None else total + more
    return total
