"""HTTP routes: event streams, plain requests, metrics, the browser module and OpenAPI.

- `sse`: the route of event streams; `event_stream`: the response; `lazy_stream`: that of an application's route.
- `stream_encoder`: the interface of formats; `native`: the library's own.
- `rest`: all other routes of executions; `queries`: pages of updates; `executions`: lists of executions.
- `state_routes`: graphs, states and forks of executions.
- `query_params`: from a query to a message's payload; `endpoint`: methods, errors and CORS of a route.
- `compression`, `assets`, `metrics`, `openapi`: as named; `context`: shared services.
- `installed`: the paths of an application's gateways.
"""
