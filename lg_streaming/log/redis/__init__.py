"""Log on Redis, for several processes."""
