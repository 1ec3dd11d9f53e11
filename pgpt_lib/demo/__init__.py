"""The demo: a picture, a box, a question, an answer. Notebook 11 and the page of `python -m pgpt_lib demo` share it."""
