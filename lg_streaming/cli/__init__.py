"""``python -m lg_streaming``: the demo, the schema of the wire, the version."""
