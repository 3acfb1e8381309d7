"""Children of a process with an open hub on Redis: each produces and reads as another process."""

import asyncio

from tests.fleet.processes import Fleet, finals, numbers
from tests.hub.helpers import collect
from tests.support.forks import run_forking

_BEGIN = """
log = {"log": URL, "redis": {"prefix": PREFIX, "lease": 1.0}}
streaming = StreamingModule(StreamingSettings.model_validate(log))
hub = streaming.hub
hub.open("held", metadata={"by": "the parent"})
hub.publish("held", "note", 1)
asyncio.run(hub.writer.flush())
parent = hub.log.fleet.process_id
"""


async def test_a_child_produces_and_reads_under_an_id_of_its_own(fleet: Fleet) -> None:
    found = await asyncio.to_thread(
        run_forking,
        _BEGIN
        + """
def child():
    updates = run(streaming, f"of-child-{os.getpid()}")
    async def look():
        state = await hub.describe("held")
        return state.process, len(await hub.log.fleet.processes())
    process, members = asyncio.run(look())
    return {"id": hub.log.fleet.process_id, "types": types(updates), "holder": process, "members": members,
            "held": list(hub.log._runs.executions)}

children = [in_child(child) for _ in range(2)]
print(json.dumps({"parent": parent, "children": children, "types": types(run(streaming, "of-parent"))}))
""",
        URL=fleet.redis.url,
        PREFIX=fleet.prefix,
    )
    ids = {found["parent"], *(each["id"] for each in found["children"])}
    assert len(ids) == 3
    for each in found["children"]:
        assert each["types"] == found["types"] == ["workflow_start", "token", "token", "workflow_complete"]
        assert (each["holder"], each["held"]) == (found["parent"], [])
        assert each["members"] >= 2


async def test_a_child_that_ends_leaves_the_run_of_its_parent_open(fleet: Fleet) -> None:
    await asyncio.to_thread(
        run_forking,
        _BEGIN
        + """
def child():
    hub.publish("held", "note", "child")  # a guest of the run that the parent holds
    asyncio.run(hub.aclose())
    return True

async def end():
    await asyncio.sleep(2)  # longer than the lease of the child
    hub.publish("held", "note", 2)
    await hub.close("held")
    return hub.statistics().dropped["refused"], hub.log.fleet.process_id

assert in_child(child) is True
refused, process_id = asyncio.run(end())
assert (refused, process_id) == (0, parent), (refused, process_id, parent)
print(json.dumps({}))
""",
        URL=fleet.redis.url,
        PREFIX=fleet.prefix,
    )
    hub = await fleet.hub()
    updates = await collect(hub.subscribe("held"))
    numbers(updates)
    assert finals(updates) == ["workflow_complete"]
    assert [update.data for update in updates if update.type == "note"] == [1, "child", 2]


async def test_children_of_a_pool_share_a_run_with_their_parent(fleet: Fleet) -> None:
    """As with Celery's prefork pool: the module was made before the fork, and is used at once by all."""
    await asyncio.to_thread(
        run_forking,
        _BEGIN
        + """
def child(n):
    with streaming.execution("held"):
        for number in range(100):
            hub.publish("held", "note", f"{n}.{number}")
    asyncio.run(hub.writer.flush())
    os._exit(0)

pids = []
for n in range(3):
    pid = os.fork()
    if pid == 0:
        signal.alarm(PATIENCE)
        child(n)
    pids.append(pid)
for number in range(100):
    hub.publish("held", "note", f"p.{number}")
assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0, 0]
asyncio.run(hub.close("held"))
print(json.dumps({}))
""",
        URL=fleet.redis.url,
        PREFIX=fleet.prefix,
    )
    hub = await fleet.hub()
    updates = await collect(hub.subscribe("held"))
    numbers(updates)
    assert finals(updates) == ["workflow_complete"]
    notes = [update.data for update in updates if update.type == "note"][1:]
    for who in (*"012", "p"):
        assert [note for note in notes if note.startswith(who)] == [f"{who}.{n}" for n in range(100)]
