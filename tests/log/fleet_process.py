"""Process of a fleet, which a test controls by requests: `python -m tests.log.fleet_process URL PREFIX LEASE`."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from typing import Any

from tests.log.fleets import Member


class Process:
    """Handlers of the requests."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.fleet = member.fleet
        self.events: list[object] = []

    def serve(self) -> None:
        self.fleet.on_claim_lost(lambda name: self.events.append(["claim", name]))
        self.fleet.on_lease_lost(lambda process_id: self.events.append(["lease", process_id]))
        self.fleet.on_message("topic", lambda payload: self.events.append(["message", payload]))
        for name in ("hold", "claim", "count", "report", "shift", "hang"):
            self.fleet.on_request(name, getattr(self, f"_{name}"))

    async def _hold(self, runs: list[str]) -> None:
        for run in runs:
            await self.member.client().execute_command(*self.fleet.add_run(run, self.fleet.process_id))

    async def _claim(self, name: str) -> bool:
        return await self.fleet.claim(name)

    async def _count(self, change: int) -> int:
        return await self.fleet.count("connections", "x", change)

    async def _report(self, _payload: object) -> Any:
        return {"events": self.events, "abandoned": self.member.abandoned, "live": sorted(self.fleet.live)}

    async def _shift(self, seconds: float) -> None:
        real = time.time
        time.time = lambda: real() + seconds

    async def _hang(self, _payload: object) -> None:
        await asyncio.Event().wait()


def main(url: str, prefix: str, lease: str) -> None:
    member = Member(url, prefix, lease=float(lease))
    Process(member).serve()
    asyncio.run(member.fleet.processes())  # type: ignore[arg-type]
    print(json.dumps(member.fleet.process_id), flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
