"""Sphinx's settings for the site; `python -m pgpt_lib site` lays out the pages and calls Sphinx with them."""

from importlib.util import find_spec

project = "PerceptionGPT, step by step"
author = "the pgpt authors"
language = "en"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "pgpt_lib.site.extension"]

# Notebooks come executed from a report, or stay as they are.
nb_execution_mode = "off"
nb_merge_streams = True
nb_output_stderr = "remove"  # progress bars
nb_ipywidgets_js = {}  # would come from another host; without a kernel a widget does not move anyway
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
default_role = "literal"  # docstrings write `name`
napoleon_use_ivar = True
autodoc_mock_imports = [name for name in ("nbgrader",) if find_spec(name) is None]  # of the extra `course`
add_module_names = False
toc_object_entries = False
suppress_warnings = ["ref.python"]  # two modules may show one class

html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "presentation_mathml"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": False}
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
