"""The rules of one connection, without a transport."""
