"""The lake: one DuckLake with a PostgreSQL catalog that has what the homes of all machines have published.

Nothing of it is imported, and no extension loaded, unless TRADIER_LAKE is set.
"""
