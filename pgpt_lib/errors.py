"""The two errors that a person meets: bad input (exit status 2) and failure (exit status 1)."""


class InputError(ValueError):
    """Bad input. The message names the input, its value and the way out; the CLI exits with 2."""


class RunError(RuntimeError):
    """Something that should have worked failed. The CLI exits with 1."""
