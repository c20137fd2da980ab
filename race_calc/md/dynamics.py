"""What differs between the loops of ASE: which can be watched, how each is ended, and its trajectory. Uses ASE."""

from typing import Any

from ase.mep.neb import NEBOptimizer
from ase.optimize.basin import BasinHopping
from ase.optimize.sciopt import Converged, OptimizerConvergenceError, SciPyGradientlessOptimizer, SciPyOptimizer


def check_dynamics(dynamics: Any) -> None:
    """Raise TypeError, with the reason, for what cannot be watched: no ASE dynamics, or one that calls observers at new minima only."""
    if isinstance(dynamics, BasinHopping):
        raise TypeError(
            "BasinHopping cannot be monitored: it calls observers only at a new lowest minimum, so most structures would not be checked, "
            "and it cannot be ended from outside; give it optimizer=<a function that makes the optimiser of a hop and a monitor of that>"
        )
    if not hasattr(dynamics, "insert_observer"):
        raise TypeError(f"the monitor is attached to an ASE dynamics or optimiser (Langevin, BFGS, ...), not to {type(dynamics).__name__}")


def ending(dynamics: Any) -> type[Exception] | None:
    """What an observer raises to end a loop that does not read `max_steps`, and `run` catches; None for one that does read it.

    NEBOptimizer catches it with its method "ode", and `run` then returns False; with "static" it reaches the caller.
    """
    if isinstance(dynamics, (SciPyOptimizer, SciPyGradientlessOptimizer)):
        return Converged
    return OptimizerConvergenceError if isinstance(dynamics, NEBOptimizer) else None


def complete_trajectory(dynamics: Any) -> None:
    """Write the frame of this step into the trajectory that the dynamics was made with, where its `loginterval` leaves it out."""
    own = getattr(dynamics, "_traj_write_image", None)
    for function, interval, args, kwargs in dynamics.observers:
        if own is not None and function == own and interval > 1 and dynamics.nsteps % interval:
            function(*args, **kwargs)
