"""Built-in sinks: destinations for the updates of an execution, see `StreamHub.attach`."""

from lg_streaming.sinks.callback import CallbackSink
from lg_streaming.sinks.jsonl import JsonLinesSink
from lg_streaming.sinks.logs import LoggingSink
from lg_streaming.sinks.queue import QueueSink
from lg_streaming.sinks.signature import verify_webhook
from lg_streaming.sinks.webhook import WebhookSink

__all__ = ["CallbackSink", "JsonLinesSink", "LoggingSink", "QueueSink", "WebhookSink", "verify_webhook"]
