"""The queue that the web processes and the workers share.

Any queue would do, because a worker needs only the address of the log. This one is asyncio, and works with the redis-py
that the library needs; arq and SAQ require an older one.
"""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator

from redis.exceptions import RedisError
from taskiq_redis import ListQueueBroker

REDIS = os.environ.get("LG_STREAMING_LOG", "redis://127.0.0.1:6379/0")


class Broker(ListQueueBroker):
    """A queue whose workers outlast a lost connection to Redis, with the jobs that they run."""

    async def listen(self) -> AsyncGenerator[bytes]:
        while True:
            try:
                async for job in super().listen():
                    yield job
            except RedisError as error:
                logging.getLogger("broker").warning("no jobs can be taken: %s", error)
                await asyncio.sleep(1)


# A worker takes each job once. If it dies, its run ends with `workflow_abandoned`, and the user may ask again.
# A queue that repeats the job would add a second run to the execution.
broker = Broker(REDIS, queue_name="reports", socket_timeout=None)  # a worker waits for jobs without an end
