"""Requests about runs that other processes hold, and options that hold in all processes of a fleet."""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING, Any, Final

import orjson

from lg_streaming.errors import (
    LogUnavailableError,
    NoAnswerError,
    PromptError,
    RunRefusedError,
    StreamingError,
    UpdateTooLargeError,
)
from lg_streaming.events import ROOM_PREFIX
from lg_streaming.fork import new_lock, restart_after_fork
from lg_streaming.hub.callbacks import call_in_thread
from lg_streaming.hub.execution import Execution
from lg_streaming.hub.run_control import RunControl
from lg_streaming.log.base import latest_state
from lg_streaming.publisher import Scope

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lg_streaming.hub.cancellation import RunCanceller
    from lg_streaming.hub.prompts import PromptManager
    from lg_streaming.hub.publisher import HubPublisher
    from lg_streaming.log.base import LogState, PendingUpdate
    from lg_streaming.log.fleet import Fleet

__all__ = ["HubFleet"]

logger: logging.Logger = logging.getLogger(__name__)

_OPEN: Final = frozenset({"running", "interrupted"})
_MAX_ANSWER: Final = 1_000_000
"""Most bytes of a response that another process takes: requests have up to 1 MiB."""
_FIRST_CHECK: Final = 1.0
"""Seconds from the start of a run to the look-up of the process that holds it. Most runs have ended by then."""
_GUEST_INTERVAL: Final = 5.0
"""Seconds between two checks of the runs that another process holds."""

Options = dict[str, dict[str, Any]]
"""Options of ``configure``, by section: ``token``, ``event``, ``progress``."""


class HubFleet(RunControl):
    """Requests of a hub to the processes that share its log, and its answers to theirs.

    A run is held by the process that opened it. Another process that publishes to the run is its guest. The hub of a
    guest counts the run as open until it finds in the log that the run has ended.

    Code of the application is called in threads, so that it never delays the lease of this process.

    Args:
        fleet: The processes.
        publisher: The publisher, with its runs, their registry and their writer.
        canceller: Cancels runs of this process.
        prompts: Answers prompts of this process.
    """

    def __init__(self, fleet: Fleet, publisher: HubPublisher, canceller: RunCanceller, prompts: PromptManager) -> None:
        super().__init__(publisher, canceller, prompts)
        self._fleet = fleet
        self._runs = publisher.runs
        self._registry = publisher.runs.registry
        self._log = self._registry.log
        self._writer = publisher.runs.writer
        self._lock = new_lock()
        self._start_empty()
        restart_after_fork(self)
        self._runs.opener.on_open = self._opened
        fleet.on_request("cancel", self._on_cancel)
        fleet.on_request("respond", self._on_respond)
        fleet.on_message("cancel", self._on_cancelled)
        fleet.on_message("run_taken", self._on_taken)
        fleet.on_message("configure", self._on_configure)

    def _start_empty(self) -> None:
        self._guests: dict[str, str] = {}  # executions with a run of another process, and this hub's id of the run
        self._checking = False
        self._newer: dict[str, Options] = {}  # options that arrived during the look-up of stored ones

    def after_fork(self) -> None:
        """Drop the runs of the parent process."""
        self._start_empty()

    # --- cancel -------------------------------------------------------------------------------------------

    async def cancel(self, execution_id: str, reason: str | None = None, *, run_id: str | None = None) -> bool:
        """Cancel the open run, in the process that holds it; return whether one was open. See `StreamHub.cancel`."""
        try:
            state = await latest_state(self._log, execution_id)
        except LogUnavailableError:
            if await self._canceller.cancel(execution_id, reason, run_id=run_id):
                return True
            raise
        if state is None or state.state not in _OPEN or state.process == self._fleet.process_id:
            return await self._cancel_here(execution_id, reason, state, run_id)
        if run_id is not None and _run_of(state) not in {None, run_id}:
            return False
        await self._canceller.cancel(execution_id, reason)  # this process may be a guest
        holder = state.process
        if holder is not None:
            payload = {"execution_id": execution_id, "reason": reason, "run_id": run_id}
            try:
                return bool(await self._request(holder, "cancel", payload))
            except NoAnswerError:
                if await self._is_live(holder):
                    raise
        return await self._end_for(execution_id, reason, state)

    async def _cancel_here(
        self, execution_id: str, reason: str | None, state: LogState | None, run_id: str | None
    ) -> bool:
        """Cancel a run of this process, also one that this hub has forgotten, as after a restart."""
        if await self._canceller.cancel(execution_id, reason, run_id=run_id):
            self._publish_cancel(execution_id, reason, state)
            return True
        return await self._cancel_forgotten(execution_id, reason, state, run_id)

    async def _cancel_forgotten(
        self, execution_id: str, reason: str | None, state: LogState | None, run_id: str | None
    ) -> bool:
        if state is None or state.state not in _OPEN:
            return False
        await self._writer.flush()
        state = await self._log.state(execution_id)
        if state is None or state.state not in _OPEN or state.process != self._fleet.process_id:
            return False
        if run_id is not None and _run_of(state) not in {None, run_id}:
            return False
        return await self._end_for(execution_id, reason, state)

    async def _end_for(self, execution_id: str, reason: str | None, state: LogState) -> bool:
        """End a run as cancelled in place of its holder, which is dead or has forgotten the run."""
        outcome, encoder = self._canceller.outcome(reason), self._writer.encoder
        execution = Execution(execution_id, "", self._registry.clock())
        data = await call_in_thread(lambda: encoder.codec.encode_data(outcome.type, outcome.data))

        def make_update(run_id: str) -> PendingUpdate:
            return encoder.encode(execution, outcome.type, data, Scope(run_id=run_id), "high", by_hub=True)[0]

        ended = await self._log.end_for(execution_id, state.process, make_update)
        if ended:
            self._publish_cancel(execution_id, reason, state)
        return ended

    async def _request(self, process_id: str, name: str, payload: object) -> Any:
        return await self._fleet.request(
            process_id, name, payload, timeout=self._registry.settings.redis.request_timeout
        )

    async def _is_live(self, process_id: str) -> bool:
        return any(process.process_id == process_id for process in await self._fleet.processes())

    def _publish_cancel(self, execution_id: str, reason: str | None, state: LogState | None) -> None:
        """Notify guests of the run, so that their handlers are called too. A guest may have taken the run over."""
        final_seq = state.final_seq if state is not None else 0
        self._fleet.publish("cancel", {"execution_id": execution_id, "reason": reason, "final_seq": final_seq})

    async def _on_cancel(self, payload: Any) -> bool:
        execution_id, reason, run_id = payload["execution_id"], payload["reason"], payload.get("run_id")
        state = await self._log.state(execution_id)
        if not await call_in_thread(lambda: self._canceller.request(execution_id, reason, run_id=run_id)):
            return await self._cancel_forgotten(execution_id, reason, state, run_id)
        if self._runs.current_run_id(execution_id) is None:
            await self._writer.flush()
        self._publish_cancel(execution_id, reason, state)
        return True

    def _on_cancelled(self, payload: Any) -> None:
        execution_id: str = payload["execution_id"]
        run_id = self._runs.current_run_id(execution_id)
        if run_id is not None:
            self._fleet.spawn(lambda: self._cancel_guest(execution_id, run_id, payload["reason"], payload["final_seq"]))

    async def _cancel_guest(self, execution_id: str, run_id: str, reason: str | None, final_seq: int) -> None:
        """Cancel this hub's part in a run that had been cancelled after ``final_seq``; leave a later run."""
        await self._writer.flush()  # the start of a later run may be on its way to the log
        state = await self._log.state(execution_id)
        holds = state is not None and state.process == self._fleet.process_id and state.state in _OPEN
        if not holds or (state is not None and state.final_seq == final_seq):
            await call_in_thread(lambda: self._canceller.request(execution_id, reason, run_id=run_id))

    def _on_taken(self, payload: Any) -> None:
        """Close a run that waited for a human here, and goes on in another process."""
        execution = self._registry.executions.get(payload["execution_id"])
        mine = payload["process_id"] == self._fleet.process_id
        if mine and execution is not None and execution.run_id == payload["run_id"] and not execution.participants:
            taken = RunRefusedError("the run goes on in another process", execution_id=execution.execution_id)
            self._fleet.spawn(
                lambda: call_in_thread(lambda: self._canceller.abandon(execution, payload["run_id"], taken))
            )

    async def _close_here(self, execution: Execution, run_id: str) -> None:
        """Close this hub's part in a run. Buffered text is encoded, and so redacted."""
        await call_in_thread(lambda: self._runs.statuses.abandon(execution, run_id))

    # --- respond ------------------------------------------------------------------------------------------

    async def respond(
        self, execution_id: str, prompt_id: str, response: object, *, responder: str | None = None
    ) -> None:
        """Answer a prompt, in the process that asked. See `StreamHub.respond`."""
        try:
            await self._respond(execution_id, prompt_id, response, responder)
        except (PromptError, NoAnswerError):
            if not await self.opens(execution_id, prompt_id):
                raise
            await self._respond(execution_id, prompt_id, response, responder)

    async def _respond(self, execution_id: str, prompt_id: str, response: object, responder: str | None) -> None:
        if self._prompts.is_open(execution_id, prompt_id):
            run_id = self._runs.current_run_id(execution_id)
            await self._prompts.respond(execution_id, prompt_id, response, responder=responder)
            self._ensure_kept(execution_id, run_id)
            return
        self._registry.ensure_open()
        state = await latest_state(self._log, execution_id)
        if state is None or state.state not in _OPEN:
            raise PromptError(execution_id=execution_id)
        answer = {"prompt_id": prompt_id, "response": self._to_json(response), "responder": responder}
        payload = {"execution_id": execution_id, **answer}
        holder, here, gone = state.process, self._fleet.process_id, None
        if holder is not None and holder != here:
            try:
                await self._request(holder, "respond", payload)
                return
            except PromptError:
                pass  # a guest of the run may have asked
            except NoAnswerError as error:
                if await self._is_live(holder):
                    raise
                gone = error  # a guest that lives may have asked
        others = [each.process_id for each in await self._fleet.processes() if each.process_id not in {here, holder}]
        try:
            await self._respond_to_guest(payload, others)
        except PromptError:
            if gone is None:
                raise
            raise NoAnswerError(
                "the process that holds the run has ended: answer again when another process has taken the run over",
                execution_id=execution_id,
                details=gone.details,
            ) from None

    def _ensure_kept(self, execution_id: str, run_id: str | None) -> None:
        """Check that the log has not refused an answer, because another process has the run by now."""
        if run_id is not None and self._runs.is_abandoned(execution_id, run_id):
            raise PromptError(execution_id=execution_id)

    def _to_json(self, response: object) -> Any:
        encoded, limit = self._publisher.encode(response), min(self._registry.settings.limits.update_bytes, _MAX_ANSWER)
        if len(encoded) > limit:
            raise UpdateTooLargeError(f"a response may have {limit} bytes, not {len(encoded)}")
        return orjson.loads(encoded)

    async def _respond_to_guest(self, payload: Mapping[str, Any], others: Sequence[str]) -> None:
        """Answer a prompt that one of the other processes published to a run that it does not hold.

        Raises:
            PromptError: If none of them has the prompt.
        """
        requests = [self._request(each, "respond", payload) for each in others]
        results = await asyncio.gather(*requests, return_exceptions=True)
        if any(not isinstance(result, BaseException) for result in results):
            return
        for result in results:
            if isinstance(result, StreamingError) and not isinstance(result, (PromptError, NoAnswerError)):
                raise result
        raise PromptError(execution_id=payload["execution_id"])

    async def _on_respond(self, payload: Any) -> None:
        execution_id, prompt_id, response = payload["execution_id"], payload["prompt_id"], payload["response"]
        answer = functools.partial(
            self._prompts.answer, execution_id, prompt_id, response, responder=payload.get("responder")
        )
        try:
            await call_in_thread(answer)
        except PromptError:
            if not await self.opens(execution_id, prompt_id):  # this process has just taken the run over
                raise
            await call_in_thread(answer)
        run_id = self._runs.current_run_id(execution_id)
        await self._writer.flush()
        self._ensure_kept(execution_id, run_id)

    # --- configure ----------------------------------------------------------------------------------------

    def configure(self, execution_id: str, **options: Mapping[str, Any] | None) -> None:
        """Change the decorators' defaults of one execution in all processes, also in those that come later."""
        super().configure(execution_id, **options)
        given = {section: dict(values) for section, values in options.items() if values}
        changed: Options = orjson.loads(self._publisher.encode(given))
        if changed and not self._registry.closed:
            self._note_newer(execution_id, changed)
            self._fleet.publish("configure", {"execution_id": execution_id, "options": changed})
            self._fleet.spawn(lambda: self._store(execution_id, changed))

    async def _store(self, execution_id: str, options: Options) -> None:
        """Store each option by itself, so that the last writer of each wins."""
        ttl = self._registry.settings.retention.record_ttl
        for section, values in options.items():
            for name, value in values.items():
                await self._fleet.put(_options_of(execution_id), f"{section}.{name}", value, ttl=ttl)

    def _on_configure(self, payload: Any) -> None:
        execution_id: str = payload["execution_id"]
        if execution_id in self._registry.executions:
            self._note_newer(execution_id, payload["options"])
            self._apply(execution_id, payload["options"])

    def _note_newer(self, execution_id: str, options: Options) -> None:
        """Remember options that are newer than those that are being looked up."""
        with self._lock:
            newer = self._newer.get(execution_id)
            if newer is not None:
                for section, values in options.items():
                    newer.setdefault(section, {}).update(values)

    async def _load_options(self, execution_id: str) -> None:
        """Apply the options that were stored for an execution whose run has begun here."""
        with self._lock:
            self._newer[execution_id] = {}
        options: Options = {}
        try:
            for key, value in (await self._fleet.values(_options_of(execution_id))).items():
                section, _, name = key.partition(".")
                options.setdefault(section, {})[name] = value
        finally:
            with self._lock:
                newer = self._newer.pop(execution_id, {})
        for section, values in newer.items():
            options.setdefault(section, {}).update(values)
        if options:
            self._apply(execution_id, options)

    def _apply(self, execution_id: str, options: Options) -> None:
        try:
            self._publisher.configure(execution_id, **options)
        except Exception as error:  # noqa: BLE001 (a process of another version may send anything)
            logger.warning("options of execution %r cannot be used here: %s", execution_id, error)

    # --- runs that begin here -----------------------------------------------------------------------------

    def _opened(self, execution_id: str) -> None:
        """Look up, after a run was opened here, its options, and whether another process holds it."""
        if not execution_id.startswith(ROOM_PREFIX):
            self._fleet.spawn(lambda: self._look_up(execution_id))

    async def _look_up(self, execution_id: str) -> None:
        try:
            await self._load_options(execution_id)
            run_id = self._runs.current_run_id(execution_id)
            await asyncio.sleep(_FIRST_CHECK)
            if run_id is not None and self._runs.current_run_id(execution_id) == run_id:
                await self._note_guest(execution_id, run_id)
        except LogUnavailableError as error:
            logger.debug("the options of execution %r were not read: %s", execution_id, error)

    async def _note_guest(self, execution_id: str, run_id: str) -> None:
        await self._writer.flush()
        state = await self._log.state(execution_id)
        if state is None or state.process == self._fleet.process_id:
            return
        with self._lock:
            self._guests[execution_id] = run_id
            starts, self._checking = not self._checking, True
        if starts:
            self._fleet.spawn(self._check_guests)

    async def _check_guests(self) -> None:
        """Close this hub's part in runs of other processes after their end, until none is left."""
        try:
            while self._guests and not self._registry.closed:
                for execution_id, run_id in list(self._guests.items()):
                    if await self._is_over(execution_id, run_id):
                        self._guests.pop(execution_id, None)
                await asyncio.sleep(_GUEST_INTERVAL)
        finally:
            self._checking = False

    async def _is_over(self, execution_id: str, run_id: str) -> bool:
        """Close this hub's part in a run that has ended in the log; return whether nothing is left to check."""
        if self._runs.current_run_id(execution_id) != run_id:
            return True
        try:
            state = await self._log.state(execution_id)
        except LogUnavailableError:
            return False
        if state is not None and state.state in _OPEN:
            return state.process == self._fleet.process_id
        execution = self._registry.executions.get(execution_id)
        if execution is not None and not execution.participants:
            await self._close_here(execution, run_id)
        return True


def _run_of(state: LogState) -> str | None:
    """Return the id of the open run in the log; None if its start is not known."""
    start = state.start_record
    return start.scope.run_id if start is not None else None


def _options_of(execution_id: str) -> str:
    return f"configure {execution_id}"
