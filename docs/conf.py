"""How the documentation is built: `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path

from sagabus import __version__

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "sagabus"
version = release = __version__
copyright = "sagabus, MIT licence"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    # Ours, in _extensions/.
    "repository_links",
    "command_help",
    "docstrings",
    "glossary_words",
    "inline_pictures",
    "site_links",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "sagabus"
html_static_path = ["_static"]
html_css_files = ["sagabus.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]
myst_url_schemes = {"http": None, "https": None, "mailto": None, "repository": None}

# The page of the site that shows a Markdown file of the repository which is not in docs/.
pages_of_files = {
    "readme": "README.md",
    "changelog": "CHANGELOG.md",
    "contributing": "CONTRIBUTING.md",
    "examples/approval": "examples/approval/README.md",
    "examples/credit_check": "examples/credit_check/README.md",
    "examples/import_once": "examples/import_once/README.md",
    "examples/itinerary": "examples/itinerary/README.md",
    "examples/lock": "examples/lock/README.md",
    "examples/optimistic_update": "examples/optimistic_update/README.md",
    "examples/quorum": "examples/quorum/README.md",
    "examples/transfer": "examples/transfer/README.md",
    "examples/web": "examples/web/README.md",
}

# Docstrings are Markdown where they are prose: one backtick is code.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autoclass_content = "class"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Class arguments", "params_style")]

# The one JSON that begins with the name of its file.
suppress_warnings = ["misc.highlighting_failure"]

copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
