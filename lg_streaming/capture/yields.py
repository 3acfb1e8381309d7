"""Publish the items that a node yields: texts and chunks of messages become tokens; the graph gets them unchanged.

A node yields when it is a generator, or when it returns a generator or another iterator. Such a node ends with its
iterator: when that is exhausted, closed or garbage-collected.
"""

from __future__ import annotations

import inspect
import io
import itertools
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from langchain_core.messages import AIMessage, BaseMessage

from lg_streaming.capture.enter_node import activate
from lg_streaming.capture.message_parts import parse_message
from lg_streaming.chunks import get_message_id, parse_chunk

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterable

    from lg_streaming.capture.node import NodeRun
    from lg_streaming.chunks import ContentPart

__all__ = [
    "ChunkJoiner",
    "YieldRecorder",
    "is_iterator_result",
    "pass_on",
    "run_generator",
    "run_generator_async",
    "wrap_iterator",
]

T = TypeVar("T")


class YieldRecorder:
    """Publisher of the items that one try of a node yields, except text that is captured from a model."""

    __slots__ = ("_indexes", "_run", "_scope", "result")

    def __init__(self, run: NodeRun) -> None:
        self.result: Any = None
        """The last item, which LangGraph takes for the node's result."""
        self._run = run
        self._scope = run.scope
        self._indexes = {"token": itertools.count(), "thinking": itertools.count()}
        run.echo = []

    def record(self, item: object) -> None:
        """Publish one item."""
        self.result = item
        captured, self._run.echo = self._run.echo or [], None  # the text that follows is not a model's
        try:
            if isinstance(item, str):
                if not _ends_with(captured, item):
                    self._record_parts(parse_chunk(item))
            elif isinstance(item, BaseMessage):
                own = item.id == self._scope.message_id and item.id is not None
                if isinstance(item, AIMessage) and (own or item.id not in self._run.message_ids):
                    self._record_parts(parse_message(item), item.id)
            elif not isinstance(item, dict):
                self._record_parts(parse_chunk(item), get_message_id(item))
        except Exception as error:  # noqa: BLE001 (an item's own properties may raise anything)
            self._run.warn_unreadable(error)
        finally:
            self._run.echo = []

    def _record_parts(self, parts: Iterable[ContentPart], message_id: str | None = None) -> None:
        if message_id is not None and message_id != self._scope.message_id:
            self._run.note_message(message_id, self._scope.namespace)
            self._scope = self._scope.derive(message_id=message_id)
        for kind, data in parts:
            if kind != "tool_args":
                data |= {"index": next(self._indexes[kind]), "role": "ai"}
            self._run.record(kind, data, self._scope)


class ChunkJoiner:
    """Joiner of a streamed Runnable's chunks, by LangGraph's rule: their sum if they can be added, else the last.

    Its models are captured by themselves; the chunks are not published.
    """

    __slots__ = ("_add", "result")

    def __init__(self) -> None:
        self.result: Any = None
        self._add = True

    def record(self, item: Any) -> None:
        """Add one chunk."""
        if self.result is None or not self._add:
            self.result = item
            return
        try:
            self.result = self.result + item
        except TypeError:
            self.result, self._add = item, False


def _ends_with(captured: list[str], text: str) -> bool:
    """Return whether the last of the captured pieces, joined, are ``text``."""
    made = ""
    for piece in reversed(captured):
        made = piece + made
        if len(made) >= len(text):
            return made == text
    return False


def run_generator(
    run: NodeRun, steps: Iterator[T], recorder: YieldRecorder | ChunkJoiner | None = None
) -> Generator[T, Any, Any]:
    """Iterate over ``steps`` as the node ``run``. The node is in force only while its own code runs.

    ``recorder`` accepts each item and makes the result of them; a `YieldRecorder` when not given.
    """
    recorder = recorder or YieldRecorder(run)
    try:
        while True:
            undo = activate(run)
            try:
                item = next(steps)
                recorder.record(item)
            except StopIteration as end:
                run.succeed(recorder.result)
                return end.value
            finally:
                undo()
            yield item
    except BaseException as error:
        run.fail(error)
        raise
    finally:
        if inspect.isgenerator(steps):
            steps.close()


async def run_generator_async(
    run: NodeRun, steps: AsyncIterator[T], recorder: YieldRecorder | ChunkJoiner | None = None
) -> AsyncGenerator[T]:
    """Iterate over async ``steps``, as `run_generator` does."""
    recorder = recorder or YieldRecorder(run)
    try:
        while True:
            undo = activate(run)
            try:
                item = await anext(steps)
                recorder.record(item)
            except StopAsyncIteration:
                run.succeed(recorder.result)
                return
            finally:
                undo()
            yield item
    except BaseException as error:
        run.fail(error)
        raise
    finally:
        if inspect.isasyncgen(steps):
            await steps.aclose()


async def pass_on(steps: AsyncIterator[T]) -> AsyncGenerator[T]:
    """Iterate over ``steps`` where no node is captured, and close them at the end."""
    try:
        async for item in steps:
            yield item
    finally:
        if inspect.isasyncgen(steps):
            await steps.aclose()


def is_iterator_result(result: object) -> bool:
    """Return whether a node's result is an iterator, so that the node runs until the iterator ends."""
    return isinstance(result, (AsyncIterator, Iterator)) and not isinstance(result, io.IOBase)


def wrap_iterator(run: NodeRun, result: object) -> object:
    """Return an iterator for the node's caller with the items of ``result``, which are published on the way."""
    if isinstance(result, AsyncIterator):
        source = cast("AsyncIterator[Any]", result)
        steps = run_generator_async(run, source)
        passed: object = steps if inspect.isasyncgen(source) else _AsyncProxy(source, steps)
    else:
        source = cast("Iterator[Any]", result)
        steps = run_generator(run, source)
        passed = steps if inspect.isgenerator(source) else _Proxy(source, steps)
    weakref.finalize(steps, _on_collected, run).atexit = False  # it may never be read
    return passed


def _on_collected(run: NodeRun) -> None:
    if not run.ended:  # on a thread: the caller that drops the last reference may hold any lock
        threading.Thread(target=run.succeed, args=(None,), name="lg-streaming-collected", daemon=True).start()


class _Relay(Generic[T]):
    """A proxy of an iterator of another class, such as a client's stream, with all of its attributes."""

    def __init__(self, source: object, steps: T) -> None:
        self._source = source
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


class _Proxy(_Relay[Iterator[Any]]):
    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._steps)

    def __enter__(self) -> Any:
        enter: Any = self._source
        enter.__enter__()
        return self

    def __exit__(self, *error: object) -> Any:
        leave: Any = self._source
        return leave.__exit__(*error)


class _AsyncProxy(_Relay[AsyncIterator[Any]]):
    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        return await anext(self._steps)

    async def __aenter__(self) -> Any:
        enter: Any = self._source
        await enter.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> Any:
        leave: Any = self._source
        return await leave.__aexit__(*error)
