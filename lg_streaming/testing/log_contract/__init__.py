"""Contract suite for logs: the cases and the random test that every `EventLog` must pass.

```python
class TestMyLog(LogContract):
    @pytest.fixture
    def harness(self) -> LogHarness:
        return MyHarness()
```

- `contract`: `LogContract`, the suite.
- `harness`: `LogHarness`, the part that its user writes.
- `producer`: batches to append, numbered as a producer must.
- `base`: the base of the cases, which runs each in an event loop.
- `append_cases`, `read_cases`, `retention_cases`, `state_cases`, `newest_cases`, `listener_cases`, `fleet_cases`: the
  cases by topic.
- `machine`: the state machine of the random test.
"""

import importlib.util

from lg_streaming.errors import MissingExtraError

for _name in ("pytest", "hypothesis"):
    if importlib.util.find_spec(_name) is None:
        raise MissingExtraError(f"the contract suite for logs needs {_name}: pip install 'lg-streaming[log-contract]'")

import pytest  # noqa: E402 (after the check)

pytest.register_assert_rewrite(__name__)  # failures show the compared values

from lg_streaming.testing.log_contract.contract import LogContract  # noqa: E402 (after the rewriting is registered)
from lg_streaming.testing.log_contract.harness import LogHarness  # noqa: E402
from lg_streaming.testing.log_contract.machine import check_random_steps  # noqa: E402
from lg_streaming.testing.log_contract.producer import Producer, encode_update  # noqa: E402

__all__ = ["LogContract", "LogHarness", "Producer", "check_random_steps", "encode_update"]
