"""The table behind `tests/capture/test_same.py`."""
