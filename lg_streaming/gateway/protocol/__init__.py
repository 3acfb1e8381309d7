"""Messages of the wire: their models, their registry and their JSON Schema.

- `inbound`, `outbound`: models of messages; `registry`: their names, their parser and their schema.
- `http_models`: models of queries, bodies and responses of HTTP; `state_models`: those of graphs, states and forks.
- `responses`: JSON and error responses.
"""
