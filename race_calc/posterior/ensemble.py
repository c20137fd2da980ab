"""Members that are trained: one model that predicts its noise (MVE), or many of them (Lakshminarayanan et al. 2017)."""

from race_calc.posterior.base import Posterior


class Single(Posterior):
    name = "mve"
    default_members = 1

    def check_members(self, members: int) -> None:
        if members != 1:
            raise ValueError("posterior mve is a single model: write members: 1")


class DeepEnsemble(Posterior):
    name = "deep-ensemble"
    default_members = 10

    def check_members(self, members: int) -> None:
        if members < 2:
            raise ValueError("a deep ensemble needs several members: write 2 or more, or posterior: mve")


POSTERIORS = Single(), DeepEnsemble()
