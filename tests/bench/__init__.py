"""Benchmarks: `make bench`, see `tests.bench.__main__`."""
