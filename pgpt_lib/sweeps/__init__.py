"""Sweeps: many trainings that differ in named factors, run one after the other or side by side, and compared.

A *plan* (`plans.py`, `plans/*.yaml`) lists *cells* (`cells.py`). A cell is a value for each factor of its plan. It is
trained and evaluated (`cell_run.py`) in a process of its own (`worker.py`), and its result is one file; the engine
(`engine.py`) runs those that are missing. `results.py` reads means and differences with intervals off the results.
"""
