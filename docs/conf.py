"""Sphinx configuration. Examples in docstrings and pages are run by pytest, not here; nothing is fetched."""

import skelcontrast

project = "skelcontrast"
author = "The skelcontrast authors"
copyright = "The skelcontrast authors"
release = version = skelcontrast.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]
default_role = "py:obj"  # `name` in a docstring links where there is such an object and is code where there is none
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_default_options = {"exclude-members": "extra_repr"}
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
napoleon_numpy_docstring = False
napoleon_use_rtype = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = f"skelcontrast {release}"
html_show_sphinx = False
