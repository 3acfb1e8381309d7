"""Attacks on a server, each without a token unless it says otherwise; `make attack` mounts them all."""
