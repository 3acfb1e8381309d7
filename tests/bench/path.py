"""`python -m tests.bench.path`: list the functions on a token's way from the model's callback to the socket.

A graph, a scripted model, uvicorn, and one Socket.IO client on a WebSocket share an event loop. The graph's node is
under `@stream_token(flush_interval=0)`, so that each token is a separate update. A profile function records each
function of `lg_streaming` that one token enters, from `on_llm_new_token` to the `write` of the server's transport.

A function counts once, however often it is called or, as a coroutine, resumed: the loop may wake up twice. The way is
that of the usual token, the middle one of three. One token in ten is the first of a second, whose text is made then.
Properties and comprehensions, which newer Pythons make no frames for, are listed with an indent, and do not count.
"""

import asyncio
import asyncio.selector_events
import dis
import logging
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple

import socketio
from fastapi import FastAPI

import lg_streaming
from lg_streaming import StreamingModule, StreamingSettings, stream_token
from lg_streaming.capture.callbacks import ModelFollower
from lg_streaming.settings import AuthSettings
from lg_streaming.testing import ScriptedChatModel
from tests.bench.bench_capture import build
from tests.bench.graphs import State
from tests.bench.stage import serving

PACKAGE: Final = str(Path(lg_streaming.__file__).parent)
TESTING: Final = str(Path(PACKAGE, "testing"))
START: Final = ModelFollower.on_llm_new_token.__code__
_TRANSPORT: Any = getattr(asyncio.selector_events, "_SelectorSocketTransport")  # noqa: B009 (asyncio's own name)
WRITE: Final[CodeType] = _TRANSPORT.write.__code__
TOKENS: Final = 12
STEADY: Final = range(6, 9)
"""The tokens that are recorded: all before them have warmed the caches."""
DELAY: Final = 0.1
"""Seconds between tokens: each is with the client before the next one comes."""


class Step(NamedTuple):
    """A function on the way."""

    name: str
    place: str
    """File and line, below the package."""
    counts: bool

    def __str__(self) -> str:
        return f"{self.place:<52}{'' if self.counts else '    '}{self.name}"


class Recorder:
    """Records the functions of the package that one token enters."""

    def __init__(self, token: int) -> None:
        self._token = token
        self._seen = 0
        self._codes: set[CodeType] = set()
        self.steps: list[Step] = []
        self.done = False

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call":
            return
        code = frame.f_code
        if code is START:
            self._seen += 1
        if self._seen != self._token or self.done or code in self._codes:
            return
        if code is WRITE and frame.f_back is not None and _is_ours(frame.f_back.f_code):
            self.done = True
        elif _is_ours(code):
            self._codes.add(code)
            place = f"{code.co_filename[len(PACKAGE) + 1 :]}:{code.co_firstlineno}"
            self.steps.append(Step(code.co_qualname, place, counts=not (_is_attribute(frame) or _is_inline(code))))


def _is_ours(code: CodeType) -> bool:
    return code.co_filename.startswith(PACKAGE) and not code.co_filename.startswith(TESTING)


def _is_attribute(frame: FrameType) -> bool:
    """Return whether a frame is that of a property: its caller reads an attribute and calls nothing."""
    caller = frame.f_back
    return caller is not None and dis.opname[caller.f_code.co_code[caller.f_lasti]] == "LOAD_ATTR"


def _is_inline(code: CodeType) -> bool:
    return code.co_name in {"<listcomp>", "<dictcomp>", "<setcomp>"}


async def record() -> list[Step]:
    """Run the graph for one client, and return the way of one token."""
    words = "".join(f"word{number} " for number in range(TOKENS))
    model = ScriptedChatModel(answers=[words], delay=DELAY)

    @stream_token(flush_interval=0)
    async def write(state: State) -> dict[str, Any]:
        return {"text": (await model.ainvoke(state["topic"])).text}

    recorders = [Recorder(token) for token in STEADY]

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        for recorder in recorders:
            recorder(frame, event, argument)

    streaming = StreamingModule(StreamingSettings(auth=AuthSettings(enabled=False)))
    app = FastAPI()
    streaming.install(app)
    async with streaming, serving(app) as port:
        client = socketio.AsyncClient()
        await client.connect(f"http://127.0.0.1:{port}", transports=["websocket"])
        streaming.hub.open("e")
        try:
            await client.call("subscribe_execution", {"execution_id": "e"})
            sys.setprofile(profile)
            await build(write).ainvoke({"topic": "go"}, streaming.config(execution_id="e"))
        finally:
            sys.setprofile(None)
            await client.disconnect()
    for recorder in recorders:
        if not recorder.done:
            raise RuntimeError(f"the token did not reach the socket: {recorder.steps}")
    return sorted((recorder.steps for recorder in recorders), key=_count)[len(recorders) // 2]


def _count(steps: list[Step]) -> int:
    return sum(step.counts for step in steps)


def main() -> None:
    """Print the way, and the number of its functions."""
    logging.disable(logging.WARNING)  # that authentication is off
    steps = asyncio.run(record())
    number = 0
    for step in steps:
        number += step.counts
        print(f"{number if step.counts else '':>3}  {step}")
    print(f"{number} functions")


if __name__ == "__main__":
    main()
