"""What a method is to training, checkpoints and commands: one object, entered in one registry under its name.

A method is a file of this folder with a subclass of `Posterior` and a line in BUILT_IN, or comes from elsewhere by `register`.

============= ===================================================================================
when          asked
============= ===================================================================================
configuration `default_members`, `heads`, `recipes`, `means`, `two_levels`, `learns_stress`, `check_members`, `check_training`
start         `independent`, `many_last_layers`, `initial_state`, `empty_collection`
every step    `stack`, `loss`, `step`; `random_steps` and `plateau` before it
every epoch   `score`, `collect`
end           `parameter_sets`; `validation_use` for the card
post hoc      `post_hoc`, and `independent` of the model that is given
checkpoint    `shared_trunk`, `means`, `paired`, `last_layer_covariance`
============= ===================================================================================
"""

from importlib import import_module
from typing import Any

from torch import Tensor

from race_calc.model.likelihood import QUANTITIES
from race_calc.model.outputs import Labels, Outputs
from race_calc.model.parameters import Parameters
from race_calc.model.plan import Plan
from race_calc.posterior.given import Basis, Fitted, Objective, Plateau, Step
from race_calc.posterior.state import StackState, Trained, initial_state, unflatten

DEFAULT = "deep-ensemble"
MOST_MEMBERS = 10_000
BUILT_IN = {  # name → file of this folder, read when it is first asked for
    "mve": "ensemble",
    "deep-ensemble": "ensemble",
    "swag": "swag",
    "ivon": "ivon",
    "laplace": "laplace",
    "llpr": "llpr",
    "shallow-ensemble": "shallow",
}
_registered: dict[str, "Posterior"] = {}


class Posterior:
    """A plain deep ensemble; a method says what is different. Objects have no state: everything is in the arguments.

    ===================== =================================================================================
    attribute             meaning
    ===================== =================================================================================
    name                  in configurations and checkpoints
    default_members       where the configuration gives none
    heads, recipes        of model and training that it takes; None: any
    independent           members are models of their own, trained side by side, and one of them may be
                          given to a post-hoc method; else one model is trained
    many_last_layers      the model in training has a mean and `members` deviations of every last layer
    random_steps          its step needs standard normal draws
    plateau               of the learning rate, None: that of the schedule
    collection            type of what it collects in training, a dataclass of tensors; None: nothing
    means                 what its predictions can have as mean, the default first: "map" (the one set that
                          the draws are around) and "draws"; (): the mean of the members and nothing else
    post_hoc              `fit` makes it from a trained model and its data
    shared_trunk          members of its checkpoint differ in their last layers only
    paired                its parameter sets are draws in antithetic pairs
    last_layer_covariance its checkpoint has the covariance of the last-layer weights
    two_levels            it can learn from cheap labels beside the others (`race_calc.train.levels`)
    learns_stress         it can learn from stresses
    many_surfaces         it can have several surfaces, such as electronic states, on one trunk
    adds_surfaces         its loss is the sum over them, as a likelihood; else it is their mean
    keeps_best            its parameter sets, or what they are fitted to, are the best weights
    validation_use        sentence for the card: what the validation structures were used for
    ===================== =================================================================================
    """

    name: str = ""
    default_members: int = 16
    heads: tuple[str, ...] | None = None
    recipes: tuple[str, ...] | None = None
    independent: bool = True
    many_last_layers: bool = False
    random_steps: bool = False
    plateau: Plateau | None = None
    collection: type | None = None
    means: tuple[str, ...] = ()
    post_hoc: bool = False
    shared_trunk: bool = False
    paired: bool = False
    last_layer_covariance: bool = False
    two_levels: bool = True
    learns_stress: bool = True
    many_surfaces: bool = True
    adds_surfaces: bool = False
    keeps_best: bool = True
    validation_use: str = "The best weights were chosen on these structures."

    def check_members(self, members: int) -> None:
        """Raises ValueError for a number of members that it cannot have."""
        if members < 2:
            raise ValueError(f"posterior {self.name} needs several members: write 2 or more")

    def check_training(self, epochs: int) -> None:
        """Raises ValueError for a training that it cannot use."""

    def initial_state(self, weights: Tensor) -> StackState:
        """Before the first step, from the first weights (M, D)."""
        return initial_state(weights)

    def empty_collection(self, weights: Tensor) -> Any:
        """What it has collected before the first epoch, an object of `collection`; weights (M, D)."""
        return None

    def collect(self, collected: Any, state: StackState, epoch: int, epochs: int) -> Any:
        """What it has collected after `epoch` of all `epochs`, from what it had before this one."""
        return collected

    def stack(self, parameters: Parameters) -> Parameters:
        """The stack that is evaluated for the parameters in training; gradients pass through."""
        return parameters

    def loss(self, outputs: Outputs, labels: Labels, objective: Objective) -> Tensor:
        """Loss (M,) of the models in training."""
        return objective.plain(outputs, labels)

    def score(self, outputs: Outputs, labels: Labels, objective: Objective) -> Tensor:
        """The same for validation, by which the best weights are chosen (head `mse`: the force error is taken)."""
        return objective.plain(outputs, labels)

    def quadratics(self, outputs: Outputs, labels: Labels, plan: Plan) -> dict[str, Tensor]:
        """For each spread in the likelihood of `score`, by its name: mean ½ dᵀ Σ⁻¹ d (M,) of the differences d."""
        found = {}
        for quantity in QUANTITIES:
            spread = plan.output(quantity.spread)
            if spread and (known := quantity.with_spread(outputs, labels)):
                found[quantity.spread] = 0.5 * spread.parts(*known)[0].mean(1)
        return found

    def step(self, old: StackState, step: Step) -> tuple[Tensor, StackState]:
        """Losses (M,) and the new state; members do not see each other."""
        losses, gradients = step.gradients(old.weights)
        return losses, step.optimise(old, losses, gradients)

    def parameter_sets(self, trained: Trained, basis: Basis) -> Fitted:
        """What becomes of a finished training."""
        return Fitted(unflatten(trained.state.best, basis.shapes), {})

    def fit(self, one: Parameters, basis: Basis) -> Fitted:
        """Parameter sets around a trained model (M = 1); for posteriors that are post hoc."""
        raise NotImplementedError


def register(posterior: Posterior) -> None:
    """Enter a posterior under its name. Raises ValueError for a name that is taken."""
    if posterior.name in names():
        raise ValueError(f"there is a posterior {posterior.name!r} already: take another name")
    _registered[posterior.name] = posterior


def unregister(name: str) -> None:
    """Take out what `register` entered. Raises KeyError if it did not."""
    del _registered[name]


def by_name(name: str) -> Posterior:
    """The posterior of this name. Raises ValueError, with all names, if there is none."""
    if name in _registered:
        return _registered[name]
    if name not in BUILT_IN:
        raise ValueError(f"there is no posterior {name!r}: take one of {', '.join(names())}")
    methods = import_module(f"race_calc.posterior.{BUILT_IN[name]}").POSTERIORS
    return next(posterior for posterior in methods if posterior.name == name)


def names() -> tuple[str, ...]:
    """All names, those of the package first."""
    return (*BUILT_IN, *_registered)
