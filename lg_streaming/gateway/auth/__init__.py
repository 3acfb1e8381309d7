"""Decide who may connect, and what each caller may read and do."""
