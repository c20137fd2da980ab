"""The format of config.json, and what the configurations of earlier versions lack."""

from race_calc.data.files import shortened
from race_calc.model.config import ModelConfig
from race_calc.posterior.base import Posterior

FORMAT = "race_calc checkpoint"
# 3: shared trunks, noise; 4: manifest; 5: products; 6: baselines; 7: feature distances; 8: states; 9: gaps; 10: environments
FORMAT_VERSION = 10


def stored_model_config(stored: dict, version: int) -> ModelConfig:
    """The architecture; every key must be there, defaults may change between releases. Raises KeyError for one that is not."""
    if not isinstance(stored, dict):
        raise TypeError(f"model is {shortened(repr(stored))}, not a mapping")
    if version < 6:
        stored = {"baseline": "none" if version < 2 else stored["repulsion"], **{k: v for k, v in stored.items() if k != "repulsion"}}
    stored = ({"correlation": 1, "product_channels": 1} if version < 5 else {}) | stored
    stored = ({"states": [], "scalars": [], "targets": {}} if version < 8 else {}) | stored
    config = ModelConfig.model_validate(stored)
    for key in ModelConfig.model_fields:
        if key not in stored:
            raise KeyError(key)
    return config


def has_center(stored: dict, posterior: Posterior) -> bool:
    """Are the means those of the MAP? Folders of earlier releases do not say, and have the mean of the draws."""
    mean = stored.get("mean", "draws")
    if mean != "draws" and mean not in posterior.means:
        raise ValueError(
            f"posterior.mean is {shortened(repr(mean))}: {posterior.name} has {' or '.join(posterior.means) or 'no choice of it'}"
        )
    return mean == "map"
