"""`python -m pgpt_lib`: the command line of the project."""

from .cli import main

if __name__ == "__main__":
    main()
