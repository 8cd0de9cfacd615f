"""Sphinx configuration. Examples in docstrings and pages are run by pytest, not here; nothing is fetched."""

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

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
strip_signature_backslash = True  # else an argument such as `lambda_` loses its underscore
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_title = f"skelcontrast {release}"
html_show_sphinx = False

HOMES = {name: f"{room}.{name}" for room in skelcontrast.SUBPACKAGES for name in getattr(skelcontrast, room).__all__}


def in_another_room(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element) -> object:
    """Link a name of another subpackage: `losses.nnm`, or alone where a capital says that it is no argument."""
    name = node.get("reftarget", "")
    full = name if "." in name else None if name.islower() else HOMES.get(name)
    if node.get("refdomain") != "py" or full is None:
        return None
    where = node["refdoc"], app.builder, "obj", f"skelcontrast.{full}"
    return env.get_domain("py").resolve_xref(env, *where, node, content)


def whole_line(_app: Sphinx, what: str, _name: str, _of: object, _options: object, lines: list[str]) -> None:
    """Put back before a colon what Napoleon took for the type of an attribute: the first half of its first line."""
    taken = [line for line in lines if line.startswith(":type: ")]
    if taken and what in ("attribute", "property"):
        lines.remove(taken[0])
        lines[0] = f"{taken[0].removeprefix(':type: ')}: {lines[0]}"


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.connect("autodoc-process-docstring", whole_line, priority=600)  # behind Napoleon's
    app.connect("missing-reference", in_another_room)
