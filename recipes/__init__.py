"""How the shipped initialisations and the results in `docs/results` are made: Python functions, run as modules."""
