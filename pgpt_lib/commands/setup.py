"""`python -m pgpt_lib setup`: makes or renews `.venv`; `pgpt_lib/__main__.py` runs it before anything is installed."""

from __future__ import annotations


def setup() -> None:
    """Make the project's environment, or renew it after a change of the dependencies."""
    from .. import setup_venv

    setup_venv.setup()
