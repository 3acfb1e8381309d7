"""Record of a run that begins."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from lg_streaming.runs.records import RunRecord, json_config, json_value

if TYPE_CHECKING:
    from lg_streaming.runs.request import RunRequest
    from lg_streaming.runs.run import GraphRun

__all__ = ["record_of"]

logger: logging.Logger = logging.getLogger(__name__)


def record_of(request: RunRequest, run: GraphRun) -> RunRecord | None:
    """Return the record of a run; None if no other process can go on with it."""
    if request.takeover is not None:
        return request.takeover.record
    if not request.is_registered or not request.has_persistent_checkpointer:
        return None
    record = RunRecord(
        graph=request.graph_name,
        execution_id=run.execution_id,
        thread_id=run.thread_id,
        run_id=run.run_id,
        owner=run.owner,
        metadata=dict(request.metadata),
        config=json_config(request.config),
        context=request.context,
        call_options=dict(request.call_options),
        on_abandoned=request.on_abandoned,
        on_disconnect=request.on_disconnect,
        deadline=None if request.deadline is None else time.time() + request.deadline,
        input=json_value(request.input) if request.on_abandoned == "resume" else None,
    )
    try:
        return RunRecord(**record.to_json())
    except TypeError as error:
        logger.warning("the run of execution %r cannot go on in another process: %s", run.execution_id, error)
        return None
