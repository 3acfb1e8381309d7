"""A hub that has worked before `os.fork()`: it begins anew in the child, and the parent goes on undisturbed."""

from __future__ import annotations

import os

import pytest

from tests.support.forks import run_forking

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

ALL = ["workflow_start", "token", "token", "workflow_complete"]


EVERYTHING = """
import logging

class Lines(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())

lines = []
logging.getLogger("lg_streaming.updates").setLevel(logging.INFO)
logging.getLogger("lg_streaming.updates").addHandler(Lines())
streaming = StreamingModule(StreamingSettings(log_events=True))
shared = CallbackSink(lambda update: seen.append(update.type))
seen = []

def everything(name):
    '''Uses all that has a thread; says what came of it.'''
    seen.clear()
    lines.clear()
    attachment = streaming.hub.attach(name, CallbackSink(lambda update: seen.append(update.type)))
    observed, completed, held = [], threading.Event(), threading.Event()
    streaming.hub.observe(name).subscribe(
        lambda update: (observed.append(update.type), update.type == "token" and held.set()),
        on_completed=completed.set,
    )
    with streaming.execution(name):
        streaming.tokens.stream_token(name, "node", "held")  # leaves by the timer alone
        timely = held.wait(PATIENCE)
        streaming.hub.emitter(name).token("said")
    attachment.join(PATIENCE)
    completed.wait(PATIENCE)
    if name.endswith("last"):
        asyncio.run(streaming.hub.aclose())  # logs what waits
    return {"timer": timely, "sink": list(seen), "observer": observed, "log": len(lines)}
"""


def test_timers_sinks_observers_and_the_update_log_work_in_a_child_and_its_child() -> None:
    seen = run_forking(
        EVERYTHING
        + """
before = everything("before")
def child():
    return {"child": everything("child"), "grandchild": in_child(lambda: everything("grandchild-last"))}
result = in_child(child)
print(json.dumps({"before": before, **result, "after": everything("after-last")}))
"""
    )
    for name in ("before", "child", "grandchild", "after"):
        assert (seen[name]["timer"], seen[name]["sink"], seen[name]["observer"]) == (True, ALL, ALL), name
    assert seen["grandchild"]["log"] == seen["after"]["log"] == len(ALL)


def test_a_child_of_multiprocessing_works() -> None:
    seen = run_forking(
        """
streaming = StreamingModule()
run(streaming, "before")

def work(queue):
    attachment_seen = []
    attachment = streaming.hub.attach("child", CallbackSink(lambda update: attachment_seen.append(update.type)))
    run(streaming, "child")
    attachment.join(PATIENCE)
    queue.put(attachment_seen)

context = multiprocessing.get_context("fork")
queue = context.Queue()
process = context.Process(target=work, args=(queue,))
process.start()
child = queue.get(timeout=PATIENCE)
process.join(PATIENCE)
print(json.dumps({"child": child, "exit": process.exitcode, "parent": types(run(streaming, "after"))}))
"""
    )
    assert seen == {"child": ALL, "exit": 0, "parent": ALL}


def test_forks_among_threads_that_publish_and_read() -> None:
    """A child can publish and reads a complete history, at any state of the threads at the fork."""
    seen = run_forking(
        """
streaming = StreamingModule(StreamingSettings(retention={"max_updates": 200}))
shared = streaming.hub.emitter("shared")
stop = threading.Event()

def publish():
    while not stop.is_set():
        shared.token("x")
        streaming.tokens.stream_token("streamed", "node", "y")
        with streaming.execution("own"):
            shared.progress(10, 100)

def read():
    while not stop.is_set():
        async def some():
            async for update in streaming.hub.subscribe("shared"):
                return
        asyncio.run(some())
        streaming.hub.attach("shared", CallbackSink(lambda update: None)).detach()

streaming.hub.open("shared")
threads = [threading.Thread(target=each) for each in (publish, publish, publish, read)]
for thread in threads:
    thread.start()

def child():
    numbers = []
    for execution_id in ("shared", "streamed", "own"):
        found = asyncio.run(streaming.hub.log.read(execution_id, 0, 1_000))
        numbers.append([] if found is None else [record.seq for record in found.records] + [found.state.head + 1])
    holes = [later for each in numbers for former, later in zip(each, each[1:]) if later != former + 1]
    shared.token("z")
    streaming.tokens.stream_token("streamed", "node", "z")
    streaming.tokens.flush_tokens("streamed", "node")
    streaming.hub.statistics()
    return {"holes": holes, "types": types(run(streaming, "child"))}

children = [in_child(child) for _ in range(25)]
stop.set()
for thread in threads:
    thread.join(PATIENCE)
print(json.dumps({"children": children, "parent": types(run(streaming, "parent"))}))
"""
    )
    assert seen["children"] == [{"holes": [], "types": ALL}] * 25
    assert seen["parent"] == ALL


def test_a_child_that_only_reads_gets_what_was_there() -> None:
    seen = run_forking(
        """
streaming = StreamingModule()
ended = [str(update.position) for update in run(streaming, "ended")]
streaming.hub.open("running")
streaming.hub.emitter("running").token("said before")

async def first_two():
    found = []
    async with asyncio.timeout(PATIENCE):
        async for update in streaming.hub.subscribe("running"):
            found.append(update.type)
            if len(found) == 2:
                return found

def child():
    again = [str(update.position) for update in asyncio.run(read_all(streaming.hub, "ended"))]
    after = [update.type for update in asyncio.run(read_all(streaming.hub, "ended", after=again[1]))]
    return {"again": again, "after": after, "running": asyncio.run(first_two()), "ours": streaming.hub.health().running}

print(json.dumps({"ended": ended, **in_child(child)}))
"""
    )
    assert seen["again"] == seen["ended"]
    assert seen["after"] == ALL[2:]
    assert seen["running"] == ["workflow_start", "token"]
    assert seen["ours"] == 0


def test_positions_and_ids_of_the_processes_are_apart() -> None:
    """A child's updates of its parent's execution follow the history, under a new epoch."""
    seen = run_forking(
        """
streaming = StreamingModule()
run(streaming, "shared", ["parent"])

def child():
    updates = run(streaming, "shared", ["child"])
    log = asyncio.run(streaming.hub.log.read("shared", 0, 1_000))
    return {
        "hub": streaming.hub.registry.hub_id,
        "epoch": log.state.epoch,
        "runs": [update.metadata.run_id for update in updates if update.type == "workflow_start"],
        "tokens": [record.update.data["content"] for record in log.records if record.type == "token"],
        "epochs": sorted({record.update.metadata.epoch for record in log.records}),
    }

children = [in_child(child) for _ in range(2)]
ours = asyncio.run(streaming.hub.log.read("shared", 0, 1_000))
print(json.dumps({
    "children": children,
    "hubs": [streaming.hub.registry.hub_id] + [each["hub"] for each in children],
    "epochs": [ours.state.epoch] + [each["epoch"] for each in children],
    "head": ours.state.head,
    "runs": [each["runs"] for each in children],
}))
"""
    )
    assert len(set(seen["hubs"])) == len(set(seen["epochs"])) == 3
    for child in seen["children"]:
        assert child["tokens"] == ["parent", "child"]
        assert child["epochs"] == [child["epoch"]]
    assert seen["runs"][0][-1] != seen["runs"][1][-1]
    assert seen["head"] == 3


def test_the_parent_goes_on_undisturbed() -> None:
    seen = run_forking(
        """
streaming = StreamingModule()
closed, seen, observed, done = [], [], [], threading.Event()
sink = CallbackSink(lambda update: seen.append(update.type), on_closed=closed.append)
attachment = streaming.hub.attach("job", sink)
streaming.hub.observe("job").subscribe(lambda update: observed.append(update.type), on_completed=done.set)
read = []
reader = threading.Thread(target=lambda: read.extend(types(asyncio.run(read_all(streaming.hub, "job")))))
reader.start()

def child():
    streaming.hub.emitter("job").token("not the parent's")
    streaming.tokens.stream_token("job", "node", "nor this")
    joined = attachment.join(PATIENCE)
    asyncio.run(streaming.hub.shutdown())
    return {"closed": closed, "reason": attachment.reason, "health": streaming.hub.health().status}

with streaming.execution("job"):
    streaming.tokens.stream_token("job", "node", "held while the process forks")
    child = in_child(child)
    streaming.hub.emitter("job").token("more")
attachment.join(PATIENCE)
done.wait(PATIENCE)
reader.join(PATIENCE)
print(json.dumps({"child": child, "sink": seen, "observer": observed, "reader": read, "closed": closed}))
"""
    )
    assert seen["child"] == {"closed": [], "reason": "detached", "health": "closed"}
    assert seen["sink"] == seen["observer"] == seen["reader"] == ALL
    assert seen["closed"] == ["completed"]


def test_what_waits_for_a_slow_log_is_appended_by_the_parent_alone() -> None:
    seen = run_forking(
        """
from lg_streaming.hub import StreamHub
from lg_streaming.log import MemoryLog

class Slow(MemoryLog):
    blocking = True
    def __init__(self):
        super().__init__()
        self.entered, self.go, self.batches = threading.Event(), threading.Event(), []
    def append(self, batch):
        self.entered.set()
        self.go.wait(PATIENCE)
        self.batches.append((os.getpid(), batch.execution_id, [draft.type for draft in batch.updates]))
        return super().append(batch)

log = Slow()
hub = StreamHub(StreamingSettings(), log=log)
hub.open("parent")
hub.emitter("parent").token("waits")
log.entered.wait(PATIENCE)  # the writer is in the middle of an append

def child():
    log.go = threading.Event()
    log.go.set()
    waiting = hub.statistics().waiting
    hub.open("child")
    hub.emitter("child").token("x")
    asyncio.run(hub.writer.flush())
    return {"waiting": waiting, "executions": sorted({each[1] for each in log.batches})}

child = in_child(child)
log.go.set()
asyncio.run(hub.writer.flush())
said = [type for _, execution_id, types in log.batches for type in types]
print(json.dumps({"child": child, "parent": said, "by": len({each[0] for each in log.batches})}))
"""
    )
    assert seen["child"] == {"waiting": 0, "executions": ["child"]}
    assert (seen["parent"], seen["by"]) == (["workflow_start", "token"], 1)


def test_a_block_that_was_entered_before_ends_in_each_process() -> None:
    seen = run_forking(
        """
streaming = StreamingModule()

def child():
    streaming.hub.emitter("job").token("of the child")
    block.__exit__(None, None, None)
    return {"types": types(run(streaming, "next"))}

block = streaming.execution("job")
block.__enter__()
child = in_child(child)
streaming.hub.emitter("job").token("of the parent")
block.__exit__(None, None, None)
print(json.dumps({"child": child["types"], "parent": types(asyncio.run(read_all(streaming.hub, "job")))}))
"""
    )
    assert seen["child"] == ALL
    assert seen["parent"] == ["workflow_start", "token", "workflow_complete"]


def test_a_subscription_of_the_parent_is_refused_and_an_observable_is_not() -> None:
    seen = run_forking(
        """
streaming = StreamingModule()
run(streaming, "job")
subscription = streaming.hub.subscribe("job")
observable = streaming.hub.observe("job")

def child():
    async def read():
        return [update async for update in subscription]
    try:
        asyncio.run(read())
    except ForkedError as error:
        refused = str(error)
    return {"refused": refused, "last": observable.run().type, "readers": streaming.hub.health().subscriptions}

async def ours():
    return [update.type async for update in subscription]

print(json.dumps({**in_child(child), "parent": asyncio.run(ours())}))
"""
    )
    assert "subscribe again in this process" in seen["refused"]
    assert (seen["last"], seen["readers"], seen["parent"]) == ("workflow_complete", 0, ALL)


def test_a_sink_may_be_attached_in_both_processes() -> None:
    seen = run_forking(
        """
streaming = StreamingModule()
seen = []
sink = CallbackSink(lambda update: seen.append(update.type))
attachment = streaming.hub.attach("job", sink, shared=True)
first = streaming.hub.attach("first", sink, shared=True)
run(streaming, "first")
first.join(PATIENCE)  # the thread of the sink waits for more when the process forks
seen.clear()

def child():
    again = streaming.hub.attach("other", sink)
    run(streaming, "other")
    again.join(PATIENCE)
    return {"seen": seen}

child = in_child(child)
run(streaming, "job")
attachment.join(PATIENCE)
print(json.dumps({"child": child["seen"], "parent": seen}))
"""
    )
    assert seen == {"child": ALL, "parent": ALL}


def test_a_module_that_served_before_serves_in_a_child() -> None:
    """As `gunicorn --preload` does it: the application is made, and tried, before the workers are forked."""
    seen = run_forking(
        """
from fastapi import FastAPI
from fastapi.testclient import TestClient

streaming = StreamingModule(StreamingSettings(auth={"enabled": False}))
app = FastAPI()
streaming.install(app)
run(streaming, "warm-up")

def child():
    with TestClient(app) as client:
        run(streaming, "served")
        listed = [each["execution_id"] for each in client.get("/executions").json()["executions"]]
        health = client.get("/health").status_code
        stream = client.get("/executions/served/stream").text
    return {"listed": listed, "health": health, "ends": "event: end" in stream}

print(json.dumps({"children": [in_child(child) for _ in range(2)]}))
"""
    )
    for child in seen["children"]:
        assert "error" not in child, child
        assert (child["health"], child["ends"]) == (200, True)
        assert "served" in child["listed"]


def test_a_child_has_none_of_the_parents_subscriptions_and_sinks() -> None:
    seen = run_forking(
        """
streaming = StreamingModule(StreamingSettings(limits={"max_subscribers_per_execution": 2}))
hub = streaming.hub
hub.open("e")
hub.subscribe("e")
hub.attach("e", CallbackSink(lambda update: None))

def counts():
    statistics = hub.statistics()
    return [statistics.subscriptions, statistics.sinks, hub.readers.count("e"), len(hub.sinks.attached("e"))]

def child():
    before = counts()
    hub.subscribe("e")
    hub.subscribe("e")  # the parent's are not counted
    return {"child": before, "running": hub.registry.is_running("e")}
result = in_child(child)
print(json.dumps({**result, "parent": counts()}))
asyncio.run(hub.aclose())
"""
    )
    assert seen == {"child": [0, 0, 0, 0], "running": False, "parent": [2, 1, 2, 1]}
