"""Runs over folders of millions: rows of results in parquet parts, by this process or by Ray."""
