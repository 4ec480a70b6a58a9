"""Tasks of writing SQL: canonical SQL or English questions into dialects, known and invented.

Needs the package sqlglot, and duckdb where queries are run: pip install 'quickstudy[sql]'.
"""

from importlib.util import find_spec

from quickstudy.core.errors import NotAvailable

if find_spec("sqlglot") is None:
    raise NotAvailable("SQL tasks need sqlglot; install quickstudy[sql]: pip install 'quickstudy[sql]'")
