"""Carry the pages of subscriptions to a client.

- `pump`: receives pages, and writes them as frames; `merge`: joins updates for a client that lags.
- `frames`: encodes frames once for all readers at a position; `ticker`: the common pace of readers.
"""
