"""Carry the pages of subscriptions to a client."""
