"""Right and wrong solutions of the exercises, as people write them: test data of `tests/test_checks.py`.

Each module holds `RIGHT` and `WRONG`: the check's name to right solutions, and to wrong ones with a part of the message
that each must get.
"""
