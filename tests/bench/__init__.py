"""Benchmarks: modules `bench_*.py` with a `main()` that prints one line of JSON for each thing it measures.

A line has `name`, `ratio` (measured over its reference), `target` (the bound on the ratio), `ok`, and further
explanations. `python -m tests.bench` runs them.
"""
