"""Messages of the wire: their models, their registry and their JSON Schema."""
