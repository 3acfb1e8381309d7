"""A real Jupyter kernel, whose cells tests run."""

from __future__ import annotations

import queue
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from jupyter_client.manager import KernelManager

from tests.support.warm import ROOT

TIMEOUT = 60.0


@dataclass
class Output:
    """Output of a cell."""

    displays: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    """Outputs that the page shows at the end, by MIME type, in their order."""
    updates: int = 0
    """Changes in place."""
    text: str = ""
    error: str = ""


class Kernel:
    """A kernel with its client."""

    def __init__(self, manager: KernelManager) -> None:
        self._manager = manager
        self._client: Any = manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=TIMEOUT)

    def run(self, code: str, *, interrupt_at: str | None = None) -> Output:
        """Run a cell to its end; interrupt it when an output has this text."""
        request = self._client.execute(code, store_history=True)
        output, places = Output(), dict[str, int]()
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            try:
                message = self._client.get_iopub_msg(timeout=1)
            except queue.Empty:
                continue
            content, kind = message["content"], message["msg_type"]
            if message["parent_header"].get("msg_id") != request:
                continue
            if kind == "status" and content["execution_state"] == "idle":
                return output
            self._add(output, places, kind, content)
            if interrupt_at is not None and any(interrupt_at in each["text/html"] for each in output.displays):
                self._manager.interrupt_kernel()
                interrupt_at = None
        raise TimeoutError(f"a cell did not end: {code!r}, {output}")

    @staticmethod
    def _add(output: Output, places: dict[str, int], kind: str, content: dict[str, Any]) -> None:
        if kind == "stream":
            output.text += content["text"]
        elif kind == "error":
            output.error = f"{content['ename']}: {content['evalue']}"
        elif kind == "update_display_data":
            output.displays[places[content["transient"]["display_id"]]] = content["data"]
            output.updates += 1
        elif kind in {"display_data", "execute_result"}:
            place = content.get("transient", {}).get("display_id")
            if place is not None:
                places[place] = len(output.displays)
            output.displays.append(content["data"])

    def close(self) -> None:
        """End the kernel."""
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)
        self._manager.cleanup_resources()


@contextmanager
def kernel() -> Generator[Kernel]:
    """A kernel that runs in the folder of the repository."""
    manager: Any = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(ROOT))
    running = Kernel(manager)
    try:
        yield running
    finally:
        running.close()
