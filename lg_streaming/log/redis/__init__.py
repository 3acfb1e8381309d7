"""Log on Redis, shared by several processes.

- `log`: `RedisLog`, which implements `EventLog`.
- `keys`, `records`, `batches`: names of keys, the binary form of updates, the arguments of the script that appends.
- `reading`: updates, states and heads of executions.
- `open_runs`, `repair`: the runs that this process holds, and executions of which Redis has lost updates.
- `scripts`: the Lua scripts.
- `follower`, `watch`, `tail`: notifications, and the newest updates of each execution that this process reads.
- `all_executions`, `seen_heads`: notifications for readers of all executions.
- `index`: the ids of executions.
- `target`, `connection`: the servers that a URL names, their clients, and the errors that mean "not reachable now".
- `notifications`: messages of Redis channels, over one server or a cluster.
- `store`, `keyed_locks`: commands and scripts, which share requests, and locks for those of one key.
- `rights`: the rights that they need, as a rule for access control lists.
- `fleet`: `RedisFleet`, which implements `Fleet`, out of `lease`, `mailbox`, `messages`, `claims`,
  `shared_values` and `counters`.
- `rare_log`: log lines about a repeated problem, as of another application's messages.
- `io_thread`: the thread with the event loop of these connections.
"""

from lg_streaming.log.redis.log import RedisLog

__all__ = ["RedisLog"]
