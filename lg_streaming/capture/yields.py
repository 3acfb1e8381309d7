"""What a node yields: texts and chunks of messages are said as tokens; the graph gets them as they are.

A node yields when it is a generator, or when it returns one or another iterator. Such a node ends with its
iterator: when that is exhausted, closed or forgotten.
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

__all__ = ["Joining", "YieldRecorder", "drive", "drive_async", "passing", "yielding", "yields"]

T = TypeVar("T")


class YieldRecorder:
    """Says what one try of a node yields, unless a model inside the node was heard saying it."""

    __slots__ = ("_indexes", "_run", "_scope", "result")

    def __init__(self, run: NodeRun) -> None:
        self.result: Any = None
        """The last item, which LangGraph takes for the node's result."""
        self._run = run
        self._scope = run.scope
        self._indexes = {"token": itertools.count(), "thinking": itertools.count()}
        run.echo = []

    def say(self, item: object) -> None:
        """One item that was yielded."""
        self.result = item
        heard, self._run.echo = self._run.echo or [], None  # what is said here is no model's
        try:
            if isinstance(item, str):
                if not _ends_with(heard, item):
                    self._parts(parse_chunk(item))
            elif isinstance(item, BaseMessage):
                own = item.id == self._scope.message_id and item.id is not None
                if isinstance(item, AIMessage) and (own or item.id not in self._run.message_ids):
                    self._parts(parse_message(item), item.id)
            elif not isinstance(item, dict):
                self._parts(parse_chunk(item), get_message_id(item))
        except Exception as error:  # noqa: BLE001 (an item's own properties may raise anything)
            self._run.odd(error)
        finally:
            self._run.echo = []

    def _parts(self, parts: Iterable[ContentPart], message_id: str | None = None) -> None:
        if message_id is not None and message_id != self._scope.message_id:
            self._run.note_message(message_id, self._scope.namespace)
            self._scope = self._scope.derive(message_id=message_id)
        for kind, data in parts:
            if kind != "tool_args":
                data |= {"index": next(self._indexes[kind]), "role": "ai"}
            self._run.record(kind, data, self._scope)


class Joining:
    """Joins the chunks of a Runnable that is streamed as LangGraph does it: added up where they can be, else the last.

    Its models are heard by themselves; the chunks are not published.
    """

    __slots__ = ("_add", "result")

    def __init__(self) -> None:
        self.result: Any = None
        self._add = True

    def say(self, item: Any) -> None:
        """One chunk."""
        if self.result is None or not self._add:
            self.result = item
            return
        try:
            self.result = self.result + item
        except TypeError:
            self.result, self._add = item, False


def _ends_with(heard: list[str], text: str) -> bool:
    """Whether ``text`` is what the last of the pieces that were heard make together."""
    made = ""
    for piece in reversed(heard):
        made = piece + made
        if len(made) >= len(text):
            return made == text
    return False


def drive(run: NodeRun, steps: Iterator[T], saying: YieldRecorder | Joining | None = None) -> Generator[T, Any, Any]:
    """Iterates ``steps`` as the node ``run``. The node is in force only while its own code runs.

    ``saying`` takes each item and makes the result of them; a `YieldRecorder` where it is not given.
    """
    saying = saying or YieldRecorder(run)
    try:
        while True:
            undo = activate(run)
            try:
                item = next(steps)
                saying.say(item)
            except StopIteration as end:
                run.succeed(saying.result)
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


async def drive_async(
    run: NodeRun, steps: AsyncIterator[T], saying: YieldRecorder | Joining | None = None
) -> AsyncGenerator[T]:
    """The same for an async iterator."""
    saying = saying or YieldRecorder(run)
    try:
        while True:
            undo = activate(run)
            try:
                item = await anext(steps)
                saying.say(item)
            except StopAsyncIteration:
                run.succeed(saying.result)
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


async def passing(steps: AsyncIterator[T]) -> AsyncGenerator[T]:
    """Iterates ``steps``, and closes them with itself, where no node is captured."""
    try:
        async for item in steps:
            yield item
    finally:
        if inspect.isasyncgen(steps):
            await steps.aclose()


def yields(result: object) -> bool:
    """Whether a node's result is an iterator, so that the node goes on while it is read."""
    return isinstance(result, (AsyncIterator, Iterator)) and not isinstance(result, io.IOBase)


def yielding(run: NodeRun, result: object) -> object:
    """``result``, an iterator, for the node's caller: it gives the same items, which are said as they go by."""
    if isinstance(result, AsyncIterator):
        source = cast("AsyncIterator[Any]", result)
        steps = drive_async(run, source)
        passed: object = steps if inspect.isasyncgen(source) else _AsyncProxy(source, steps)
    else:
        source = cast("Iterator[Any]", result)
        steps = drive(run, source)
        passed = steps if inspect.isgenerator(source) else _Proxy(source, steps)
    weakref.finalize(steps, _forgotten, run).atexit = False  # nobody may ever read it
    return passed


def _forgotten(run: NodeRun) -> None:
    if not run.ended:  # on a thread: whoever drops the last reference may hold any lock
        threading.Thread(target=run.succeed, args=(None,), name="lg-streaming-forgotten", daemon=True).start()


class _Passing(Generic[T]):
    """Stands for an iterator of some class of its own, such as a client's stream: has all it has."""

    def __init__(self, source: object, steps: T) -> None:
        self._source = source
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


class _Proxy(_Passing[Iterator[Any]]):
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


class _AsyncProxy(_Passing[AsyncIterator[Any]]):
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
