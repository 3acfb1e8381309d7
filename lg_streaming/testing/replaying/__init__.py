"""Replay of recorded runs, for front ends that are built and tested without a model.

- `recording`: the file of a recording, and the places of its runs; `reading`: values of any shape.
- `pace`: when updates are due.
- `player`: publishes one recorded run; `asked`: its prompts; `ids`: new ids for a repeated run.
- `graph`: a graph whose runs replay a recording.
- `replay`: the replay of a recording in a module.
"""

from lg_streaming.testing.replaying.graph import RecordedError
from lg_streaming.testing.replaying.recording import RecordedRun, Recording
from lg_streaming.testing.replaying.replay import Replay, replay

__all__ = ["RecordedError", "RecordedRun", "Recording", "Replay", "replay"]
