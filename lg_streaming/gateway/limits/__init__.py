"""Bound what callers use: connections, rates, requests and threads."""
