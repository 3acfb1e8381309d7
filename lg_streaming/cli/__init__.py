"""Command line, ``python -m lg_streaming``: server, demo, schema of the wire, tokens, version."""
