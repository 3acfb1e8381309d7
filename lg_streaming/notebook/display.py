"""Display of a run: what a notebook's cell shows for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Final

from lg_streaming.folding.formatting import summary
from lg_streaming.folding.run_view import RunView
from lg_streaming.notebook.markup import render_html
from lg_streaming.notebook.plain import PlainProgress, render_text
from lg_streaming.notebook.shell import open_output, present_cell, show

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.events import StreamUpdate
    from lg_streaming.hub import StreamHub
    from lg_streaming.notebook.shell import Output

__all__ = ["RunDisplay"]

_FRAME_INTERVAL: Final = 0.2
"""Seconds between two updates of a live output."""
_READ_TIMEOUT: Final = 5.0
_PAGE: Final = 2_000


class RunDisplay:
    """Picture of an execution's last run, for the output of a notebook's cell.

    As the last expression of a cell it shows the run as it is now. ``await`` shows it live: one output changes in place
    until the run ends. An interrupt of the kernel stops that without an error, and the run goes on. Without a notebook
    the picture is text, and ``await`` prints a line for each change of a node.

    Args:
        hub: The hub.
        execution_id: The execution.
        run_id: The run; None for the last one.
    """

    def __init__(self, hub: StreamHub, execution_id: str, run_id: str | None = None) -> None:
        self._hub = hub
        self._execution_id = execution_id
        self._run_id = run_id
        self._live_in: int | None = None  # the cell that has shown the run live

    def __await__(self) -> Generator[object, None, RunDisplay]:
        """Show the run live until it ends, and return the display.

        Raises:
            StreamingError: If the run cannot be read.
        """
        return self._show_live().__await__()

    # --- at rest --------------------------------------------------------------------------------------------

    def _repr_html_(self) -> str:
        """Return the run as it is now, as HTML."""
        return render_html(self._execution_id, self._read(), now=time.time())

    def __repr__(self) -> str:
        """Return the run as it is now, as text."""
        return render_text(self._execution_id, self._read())

    def _ipython_display_(self) -> None:
        """Show the run as it is now; nothing in the cell whose output has shown it live."""
        cell = present_cell()
        if cell is None or cell != self._live_in:
            show(self._bundle(self._read()))

    def _bundle(self, view: RunView | None) -> dict[str, str]:
        return {
            "text/html": render_html(self._execution_id, view, now=time.time()),
            "text/plain": render_text(self._execution_id, view),
        }

    def _read(self) -> RunView | None:
        """Return the run as the log has it now. A notebook's event loop runs already, so another thread reads."""
        found: list[RunView | None] = []
        errors: list[BaseException] = []

        def read() -> None:
            try:
                found.append(asyncio.run(asyncio.wait_for(self._fold_log(), _READ_TIMEOUT)))
            except BaseException as error:  # noqa: BLE001 (raised in the calling thread)
                errors.append(error)

        thread = threading.Thread(target=read, name="lg-streaming-display", daemon=True)
        thread.start()
        thread.join()
        for error in errors:
            raise error
        return found[0]

    async def _fold_log(self) -> RunView | None:
        fold = _Fold(self._run_id)
        after = 0
        while (page := await self._hub.log.read(self._execution_id, after, _PAGE)) is not None and page.records:
            for record in page.records:
                fold.add(record.update)
            after = page.records[-1].update.seq
        return fold.view

    # --- live -----------------------------------------------------------------------------------------------

    async def _show_live(self) -> RunDisplay:
        fold = _Fold(self._run_id)
        output = open_output(self._bundle(None))
        update = _shown_in(output, self._bundle) if output is not None else _printed()
        reading = asyncio.create_task(self._follow(fold), name=f"lg-streaming show {self._execution_id}")
        shown = -1
        try:
            while not reading.done():
                await asyncio.wait({reading}, timeout=_FRAME_INTERVAL)
                if fold.view is not None and fold.view.updates != shown:
                    shown = fold.view.updates
                    update(fold.view)
            reading.result()
        except (KeyboardInterrupt, asyncio.CancelledError):
            if output is None:
                raise
            # a notebook cancels the cell at an interrupt of the kernel
        finally:
            reading.cancel()
            await asyncio.wait({reading})
        if output is None and fold.view is not None:
            print(summary(fold.view))  # noqa: T201 (for the person at the terminal)
        self._live_in = present_cell()
        return self

    async def _follow(self, fold: _Fold) -> None:
        async for update in self._hub.subscribe(self._execution_id, follow=True):
            fold.add(update)
            if fold.has_ended:
                state = await self._hub.describe(self._execution_id)
                if state is None or state.head <= update.seq or self._run_id is not None:
                    return


class _Fold:
    """Fold of an execution's updates to one run.

    Args:
        run_id: The run; None for the last one.
    """

    def __init__(self, run_id: str | None) -> None:
        self._run_id = run_id
        self.view: RunView | None = None
        """The run; None before its first update."""
        self.has_ended = False

    def add(self, update: StreamUpdate) -> None:
        """Apply an update, if it is of the run."""
        if update.type == "gap":
            if self.view is not None:
                self.view.mark_gap(update.data)
            return
        if self._run_id is not None and update.run_id != self._run_id:
            return
        if self.view is None or update.type == "workflow_start":
            self.view = RunView()
        self.view.apply(update.to_dict())
        self.has_ended = update.is_final


def _shown_in(output: Output, bundle: Callable[[RunView], dict[str, str]]) -> Callable[[RunView], None]:
    return lambda view: output.update(bundle(view), raw=True)


def _printed() -> Callable[[RunView], None]:
    return PlainProgress(print).show
