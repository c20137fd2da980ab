"""Settings of the documentation: `make docs`, with executed notebooks `make notebooks`. Nothing here needs a network."""

import os
import sys
from pathlib import Path

import race_calc

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "race_calc"
author = copyright = "The race_calc developers"
version = release = race_calc.__version__

extensions = ["sphinx.ext.autodoc", "myst_nb", "api_pages", "command_pages", "settings_pages", "docstrings", "mathml"]
nb_execution_mode = os.environ.get("NOTEBOOKS", "off")  # `make notebooks`: force
nb_execution_timeout = 600  # seconds, of a cell
nb_execution_raise_on_error = True
nb_output_stderr = "remove"  # warnings, progress
nb_merge_streams = True
nb_ipywidgets_js = {}  # from a network
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"
exclude_patterns = ["_build", "jupyter_execute"]  # the latter: what the notebooks drew

default_role = "code"  # in docstrings a name stands between single backticks
autodoc_mock_imports = ["metatensor", "metatomic", "torch_sim"]  # modules that are imported with them only
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_default_options = {"exclude-members": "model_config"}  # pydantic's own
python_maximum_signature_line_length = 100

html_theme = "furo"
html_title = "race_calc"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
