"""Bound what callers use: connections, rates, requests and threads.

- `admission`: all counters of a gateway, made of `rates`; `fleet_limits`: those of several processes.
- `workers`: threads for functions of the application that may block.
"""
