"""Copies and pickles of a calculator that was loaded from a folder."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from race_calc.interfaces.base import PredictingCalculator

# what a pickle leaves to the folder, or to the next step
LOADED = frozenset({"checkpoint", "posterior", "_loaded", "_pairs", "_near", "_prediction"})


class FromFolder(PredictingCalculator):
    """What `RACECalculator` has beside its predictions.

    `posterior`, and as it was loaded; the arguments with which `_load`, its `__init__`, makes it again, with the path of the `model`.
    """

    posterior: Any
    _loaded: Any
    _made: dict[str, Any]
    _load: Callable[..., None]

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickles hold the path of the model and the options; all of it where the folder is gone or the posterior another one."""
        if self.posterior is not self._loaded or not Path(self._made["model"]).is_dir():
            return super().__reduce_ex__(protocol)
        light = {name: value for name, value in self.__getstate__().items() if name not in LOADED}
        return _again, (type(self), self._made), light

    def __deepcopy__(self, memo: dict) -> "FromFolder":
        """Reads no file."""
        new = memo[id(self)] = type(self).__new__(type(self))
        new.__setstate__(deepcopy(self.__getstate__(), memo))
        return new

    def __copy__(self) -> "FromFolder":
        new = type(self).__new__(type(self))
        new.__setstate__(self.__getstate__())
        return new

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Raises ValueError where the folder holds other weights than when the calculator was pickled."""
        if "checkpoint" in self.__dict__ and state["model_hash"] != self.model_hash:
            raise ValueError(f"{self._made['model']} changed since this calculator was pickled: make a new one")
        super().__setstate__(state)


def _again(kind: type[FromFolder], made: dict[str, Any]) -> FromFolder:
    new = kind.__new__(kind)
    kind._load(new, **made)
    return new
