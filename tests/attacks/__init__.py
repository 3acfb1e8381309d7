"""Attacks on a server, most without a token; `make attack` runs them all."""
