from tests.capture.conftest import streaming

__all__ = ["streaming"]
