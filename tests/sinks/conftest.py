from tests.hub.conftest import busy_threads, hub, make_hub

__all__ = ["busy_threads", "hub", "make_hub"]
