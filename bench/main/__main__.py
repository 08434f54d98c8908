"""`python -m zsad`: the command line. Installed as `zsad/__main__.py`; see pyproject.toml."""

from zsad.bench.cli import main

if __name__ == "__main__":
    main()
