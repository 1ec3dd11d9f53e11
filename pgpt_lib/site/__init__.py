"""The site: the series, results, course and API as pages that need neither a network nor a script.

`layout.lay_out` gathers the pages, Sphinx with myst-nb (settings in docs/site/conf.py) turns them into HTML, and
`pages.examine` reads every page of the result: broken links, pictures without words, files from other hosts.
"""
