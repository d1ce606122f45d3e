"""How `sphinx-build docs site` makes HTML of these pages and of the package's docstrings.  It needs no network."""

import fastloss

project = "fastloss"
author = "The fastloss developers"
version = release = fastloss.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
suppress_warnings = ["myst.xref_missing"]  # links to files outside docs/; tests/test_readme.py checks all links

myst_heading_anchors = 3
autodoc_mock_imports = ["torch", "sklearn"]  # what modules of extras import; the pages are of our docstrings
autodoc_typehints = "none"  # types stand in the docstrings, with shapes
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False

html_title = f"fastloss {version}"
html_theme = "alabaster"
html_theme_options = {"description": "Fused, numerically stable loss functions for arrays", "page_width": "1100px"}
html_show_sourcelink = False
