"""``python -m lg_streaming``: the demo, the schema of the wire, tokens, the version."""
