"""The rules of one connection, without a transport.

- `session`: login, principal, rate, subscriptions; `handlers`: one function for each message.
- `starting`: starts of runs; `graph_states`: graph, states and forks of an execution.
- `subscriptions`: values of subscriptions and replies; `status`: status messages; `rooms`: members of rooms.
- `timers`: heartbeat, and expiry of the token; `instrumentation`: reports events to metrics and log.
- `context`: state that all transports share; `lifecycle`: start, drain and stop with the server.
- `several_processes`: processes that serve one application without a shared log; `fleet_link`: messages
  between processes with one.
"""
