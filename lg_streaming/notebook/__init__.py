"""Runs in notebooks: a picture of a run as the output of a cell.

- `display`: the object that a cell shows, at rest or live; `markup`: its HTML; `plain`: its lines of text.
- `shell`: the notebook or terminal in which the code runs.
"""

from lg_streaming.notebook.display import RunDisplay

__all__ = ["RunDisplay"]
