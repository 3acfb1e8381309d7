"""Log on Redis, shared by several processes.

- `target`: the Redis servers that a URL names, and its options.
- `connection`: clients of these servers, and the errors that mean "not reachable now".
- `notifications`: messages of Redis channels, over one server or a cluster.
"""
