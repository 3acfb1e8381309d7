"""Processes that open, answer, cancel and end the same runs at the same time."""

import asyncio
import time
from collections import Counter
from typing import Any

import pytest

from lg_streaming.events import StreamUpdate
from lg_streaming.hub import StreamHub
from tests.fleet.processes import PATIENCE, Fleet, Member, finals, numbers, until
from tests.hub.helpers import collect

RACES = 100


async def at_once(*works: tuple[Member, str]) -> list[Any]:
    """Run code in several processes, beginning at one moment; `together` is its time."""
    together = time.time() + 0.1
    code = f"await asyncio.sleep({together} - time.time())\n"
    return await asyncio.gather(*(member.do(code + work) for member, work in works))


async def read(hub: StreamHub, execution_id: str) -> list[StreamUpdate]:
    """Return all runs of an execution, and assert that they are whole."""
    updates = await asyncio.wait_for(collect(hub.subscribe(execution_id)), PATIENCE)
    numbers(updates)
    return updates


def texts(updates: list[StreamUpdate]) -> list[str]:
    return [update.data["content"] for update in updates if update.type == "token"]


# ---------------------------------------------------------------- answers
async def test_of_three_answers_to_a_prompt_exactly_one_wins(fleet: Fleet, scale: int) -> None:
    members = [await fleet.start() for _ in range(3)]
    hub = await fleet.hub()
    for at in range(scale):
        await answer_at_once(hub, *members, execution_id=f"e{at}")


async def answer_at_once(hub: StreamHub, a: Member, b: Member, c: Member, *, execution_id: str) -> None:
    await a.do(f"""
hub.open("{execution_id}")
for n in range({RACES}):
    hub.publish("{execution_id}", "human_prompt", {{"prompt_id": f"p{{n}}", "question": "?"}})
await hub.writer.flush()
p.answers = []
hub.on_response("{execution_id}", lambda *answer: p.answers.append(answer))
""")
    answer = """
async def answer(n):
    try:
        await hub.respond(ID, f"p{n}", NAME)
        return True
    except Exception as error:
        return type(error).__name__
return await asyncio.gather(*(answer(n) for n in range(RACES)))
""".replace("RACES", str(RACES)).replace("ID", repr(execution_id))
    results = await at_once(
        *((member, answer.replace("NAME", repr(name))) for member, name in ((a, "a"), (b, "b"), (c, "c")))
    )
    winners: dict[str, str] = {}
    for n, outcomes in enumerate(zip(*results, strict=True)):
        assert Counter(outcomes) == {True: 1, "PromptError": 2}, n
        winners[f"p{n}"] = "abc"[outcomes.index(True)]
    await a.do(f"await hub.close({execution_id!r})")
    updates = await read(hub, execution_id)
    published = [update.data for update in updates if update.type == "human_response"]
    assert {each["prompt_id"]: each["response"] for each in published} == winners
    assert len(published) == RACES
    assert dict(await a.do("return p.answers")) == winners


# ---------------------------------------------------------------- cancel
@pytest.mark.parametrize("twice", [False, True], ids=["once", "from two gateways"])
async def test_a_cancel_at_any_moment_ends_a_run_once(fleet: Fleet, twice: bool) -> None:
    a, b, c = await fleet.start(), await fleet.start(), await fleet.start()
    cancel = """
async def cancel(n):
    await asyncio.sleep(n * 0.025 + n % 25 * 0.001)
    return await hub.cancel(f"e{n}", "enough")
return await asyncio.gather(*(cancel(n) for n in range(50)))
"""
    start = """
async def start(n):
    await asyncio.sleep(n * 0.025)
    p.start(f"e{n}", count=40, pause=0.005)
await asyncio.gather(*(start(n) for n in range(50)))
"""
    await a.do("p.start('first', count=1); await p.outcome('first')")
    others = ((b, cancel), (c, cancel)) if twice else ((b, cancel),)
    _, *cancelled = await at_once((a, start), *others)
    fates = await a.do("return [await p.outcome(f'e{n}') for n in range(50)]")
    hub = await fleet.hub()
    ends: Counter[str] = Counter()
    for n, fate in enumerate(fates):
        (final,) = finals(await read(hub, f"e{n}"))
        ends[final] += 1
        assert (final == "workflow_cancelled") == (fate == "CancelledError"), (n, final, fate)
        if not any(each[n] for each in cancelled):
            assert final == "workflow_complete"  # it had not begun, or had ended
    assert set(ends) <= {"workflow_cancelled", "workflow_complete"}
    assert ends["workflow_cancelled"]


async def test_an_interrupted_run_is_cancelled_from_two_gateways_at_once(fleet: Fleet) -> None:
    a, b, c = await fleet.start(), await fleet.start(), await fleet.start()
    await a.do("for n in range(20): p.start(f'e{n}', count=1, ask=True)")
    await a.do("for n in range(20): await p.outcome(f'e{n}')\nawait hub.writer.flush()")
    cancel = "return await asyncio.gather(*(hub.cancel(f'e{n}', 'enough') for n in range(20)))"
    one, two = await at_once((b, cancel), (c, cancel))
    assert all(x or y for x, y in zip(one, two, strict=True))
    hub = await fleet.hub()
    for n in range(20):
        assert finals(await read(hub, f"e{n}")) == ["workflow_cancelled"]
    assert await b.do("return await hub.cancel('e0')") is False


# ---------------------------------------------------------------- runs
WRITE = """
async def write(n):
    async with streaming.execution(f"eAT.{n}"):
        await hub.writer.flush()
        begun = await hub.log.fleet.count("begun", f"eAT.{n}", 1)
        while begun < 2:  # neither ends before the other has begun
            await asyncio.sleep(0.02)
            begun = await hub.log.fleet.count("begun", f"eAT.{n}", 0)
        for number in range(5):
            hub.emitter(f"eAT.{n}").token(f"NAME{number} ")
            await asyncio.sleep(0.02)
await asyncio.gather(*(write(n) for n in range(RACES)))
""".replace("RACES", str(RACES))


async def test_two_processes_that_begin_an_execution_at_once_share_a_run(fleet: Fleet, scale: int) -> None:
    a, b = await fleet.start(), await fleet.start()
    hub = await fleet.hub()
    for at in range(scale):
        await begin_at_once(hub, a, b, at)


async def begin_at_once(hub: StreamHub, a: Member, b: Member, at: int) -> None:
    write = WRITE.replace("AT", str(at))
    await at_once((a, write.replace("NAME", "a")), (b, write.replace("NAME", "b")))
    wanted = [f"{name}{number} " for name in "ab" for number in range(5)]
    for n in range(RACES):
        updates = await read(hub, f"e{at}.{n}")
        assert finals(updates) == ["workflow_complete"]
        assert sorted(texts(updates)) == wanted
        for name in "ab":
            own = [text for text in texts(updates) if text.startswith(name)]
            assert own == sorted(own)
    for member in (a, b):
        assert await member.do("return p.refused, len(hub.registry.open_runs), len(hub.log._runs.executions)") == [
            0,
            0,
            0,
        ]


async def test_of_two_owners_one_wins(fleet: Fleet) -> None:
    a, b = await fleet.start(), await fleet.start()
    code = """
def write(n):
    hub.open(f"e{n}", owner="NAME")
    hub.publish(f"e{n}", "token", {"content": "NAME"})
for n in range(50): write(n)
await hub.writer.flush()
refused = [n for n in range(50) if not hub.registry.is_running(f"e{n}")]
for n in range(50): await hub.close(f"e{n}")
return refused
"""
    for_a, for_b = await at_once((a, code.replace("NAME", "alice")), (b, code.replace("NAME", "bob")))
    assert not set(for_a) & set(for_b)
    hub = await fleet.hub()
    for n in range(50):
        updates = await read(hub, f"e{n}")
        state = await hub.describe(f"e{n}")
        assert state is not None
        assert finals(updates) == ["workflow_complete"]
        assert set(texts(updates)) == {state.owner}
    assert len(for_a) + len(for_b) == 50


BLOCK = """
p.leave = asyncio.Event()
p.inside = asyncio.Event()
async def work():
    async with streaming.execution("e"):
        p.inside.set()
        while not p.leave.is_set():
            hub.emitter("e").token("NAME ")
            await asyncio.sleep(0.01)
p.tasks["e"] = asyncio.create_task(work())
await p.inside.wait()
await asyncio.sleep(0.05)
await hub.writer.flush()
"""


async def begin(*members: Member) -> None:
    """Enter a block of the execution in each process, one after the other."""
    for number, member in enumerate(members):
        await member.do(BLOCK.replace("NAME", str(number)))


async def leave(member: Member) -> str:
    return await member.do("p.leave.set()\nfate = await p.outcome('e')\nawait hub.writer.flush()\nreturn fate")


async def holder(member: Member) -> str | None:
    return await member.do("state = await hub.describe('e')\nreturn state and state.process")


async def process_id(member: Member) -> str:
    return await member.do("return hub.log.fleet.process_id")


async def test_a_run_goes_on_with_a_guest_whose_holder_ends_or_dies(fleet: Fleet) -> None:
    members = [await fleet.start() for _ in range(4)]
    await begin(*members[:3])
    ids = [await process_id(each) for each in members]
    assert await holder(members[3]) == ids[0]
    assert await leave(members[0]) == "returned"
    second = await holder(members[3])
    assert second in ids[1:3]
    at = ids.index(str(second))
    dying, last = members[at], members[3 - at]
    dying.kill()
    await until(lambda: _is(holder(members[3]), ids[3 - at]), "the last one holds the run")
    assert await leave(last) == "returned"
    updates = await members[3].read("e")
    numbers(updates)
    assert finals(updates) == ["workflow_complete"]
    assert {text.strip() for text in texts(updates)} == {"0", "1", "2"}


async def _is(awaited: Any, wanted: object) -> bool:
    return await awaited == wanted


async def test_a_run_that_was_handed_over_to_a_guest_that_dies_is_abandoned(fleet: Fleet) -> None:
    a, b, c = await fleet.start(), await fleet.start(), await fleet.start()
    await begin(a, b)
    await leave(a)
    assert await holder(c) == await process_id(b)
    b.kill()
    updates = await c.read("e")
    numbers(updates)
    assert finals(updates) == ["workflow_abandoned"]


async def test_a_guest_of_a_paused_holder_goes_on_alone(fleet: Fleet) -> None:
    a, b = await fleet.start(), await fleet.start()
    await begin(a, b)
    a.pause()
    await until(lambda: _is(holder(b), b_id), "the guest holds the run") if (b_id := await process_id(b)) else None
    a.go_on()
    await until(lambda: a.do("return p.refused or p.tasks['e'].done()"), "the paused one was refused or is a guest")
    assert await leave(b) == "returned"
    updates = await b.read("e")
    numbers(updates)
    assert finals(updates) == ["workflow_complete"]
    assert await leave(a) in {"CancelledError", "returned"}
    assert len(await b.read("e")) == len(updates)


async def test_an_open_run_without_participants_outlasts_blocks_of_others(fleet: Fleet) -> None:
    a, b = await fleet.start(), await fleet.start()
    await a.do("hub.open('e'); await hub.writer.flush()")
    await begin(b)
    await leave(b)
    assert await holder(a) == await process_id(a)
    await a.do("await hub.close('e')")
    assert finals(await b.read("e")) == ["workflow_complete"]


async def test_a_guest_without_a_participant_does_not_keep_a_run_open(fleet: Fleet) -> None:
    a, b = await fleet.start(), await fleet.start()
    await begin(a)
    await b.do("hub.open('e'); hub.publish('e', 'note', 1); await hub.writer.flush()")
    await leave(a)
    await b.do("hub.publish('e', 'note', 2); await hub.writer.flush()")
    updates = await b.read("e")
    assert finals(updates) == ["workflow_complete"]
    assert [update.data for update in updates if update.type == "note"] == [1]
    assert await b.do("return p.refused, hub.registry.is_running('e')") == [1, False]
