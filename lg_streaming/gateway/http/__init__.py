"""HTTP routes: event streams, plain requests, metrics, the browser module and OpenAPI."""
