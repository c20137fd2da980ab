"""A plugin and model files for the tests of pair_style race."""

import lammps_plugin
import pytest

from race_calc.interfaces.export import export
from race_calc.posterior.checkpoint import load_checkpoint


@pytest.fixture(scope="session")
def race_plugin(tmp_path_factory):
    """The folder with raceplugin.so."""
    if reason := lammps_plugin.why_not():
        pytest.skip(reason)
    return lammps_plugin.build(tmp_path_factory.mktemp("plugin")).parent


@pytest.fixture(scope="session")
def race_files(tmp_path_factory):
    """The folder with a file of each model, by its name."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("silicon", "3bpa-de", "3bpa-llpr"):
        export(load_checkpoint(f"models/{name}"), folder / f"{name}.race")
    return folder
