"""Bodies of requests, as the SDK's clients send them. Unknown fields are ignored, as these clients rely on it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from lg_streaming.gateway.dialects.langgraph.refusals import RefusedError

__all__ = [
    "MODES",
    "CancelRuns",
    "CheckpointBody",
    "CommandBody",
    "ConfigBody",
    "CreateThread",
    "HistoryBody",
    "PatchThread",
    "RunBody",
    "SearchAssistants",
    "SearchThreads",
    "StateBody",
    "StateUpdate",
    "modes_of",
    "parse_body",
]

B = TypeVar("B", bound=BaseModel)

Mode = Literal[
    "values",
    "updates",
    "messages",
    "messages-tuple",
    "custom",
    "debug",
    "tasks",
    "checkpoints",
    "events",
    "tools",
]
MODES: Final[frozenset[str]] = frozenset(get_args(Mode))


def modes_of(value: object) -> object:
    """Return stream modes as a list: one text, a list, or nothing, which means ``values``."""
    if value in (None, "", []):
        return ["values"]
    return [value] if isinstance(value, str) else value


Modes = Annotated[list[Mode], BeforeValidator(modes_of)]
Metadata = dict[str, Any]
Nodes = Literal["*"] | list[str]
Limit = Annotated[int, Field(ge=1, le=1_000)]


class _Body(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore", frozen=True, strict=True)


class CommandBody(_Body):
    """A command to a graph."""

    resume: Any = None
    update: Any = None
    goto: Any = None

    @property
    def resumes(self) -> bool:
        """True if it has an answer. Null is none."""
        return self.resume is not None


class ConfigBody(_Body):
    """The parts of a config that count."""

    configurable: dict[str, Any] | None = None
    recursion_limit: Annotated[int, Field(ge=1)] | None = None
    tags: list[str] | None = None
    metadata: Metadata | None = None


class CheckpointBody(_Body):
    """Name of a checkpoint."""

    checkpoint_id: str | None = None
    checkpoint_ns: str | None = None


class RunBody(_Body):
    """The body of a start."""

    assistant_id: str
    input: Any = None
    command: CommandBody | None = None
    config: ConfigBody | None = None
    context: dict[str, Any] | None = None
    metadata: Metadata | None = None
    stream_mode: Modes = Field(default_factory=lambda: ["values"])  # pyright: ignore[reportAssignmentType]
    stream_subgraphs: bool | None = False
    stream_resumable: bool | None = None
    on_disconnect: Literal["cancel", "continue"] | None = None
    multitask_strategy: Literal["reject", "enqueue", "interrupt", "rollback"] | None = None
    durability: Literal["sync", "async", "exit"] | None = None
    checkpoint_during: bool | None = None
    if_not_exists: Literal["create", "reject"] | None = None
    checkpoint: CheckpointBody | None = None
    checkpoint_id: str | None = None
    interrupt_before: Nodes | None = None
    interrupt_after: Nodes | None = None
    on_completion: Literal["delete", "keep"] | None = None
    webhook: str | None = None
    after_seconds: float | None = None

    @property
    def fork(self) -> str | None:
        """The checkpoint at which the run begins."""
        named = self.checkpoint.checkpoint_id if self.checkpoint is not None else None
        configurable = (self.config.configurable if self.config is not None else None) or {}
        found = self.checkpoint_id or named or configurable.get("checkpoint_id")
        return None if found is None else str(found)

    @property
    def calls(self) -> dict[str, Any]:
        """Options of the graph's calls."""
        during = None if self.checkpoint_during is None else "async" if self.checkpoint_during else "exit"
        options = {
            "durability": self.durability or during,
            "interrupt_before": self.interrupt_before,
            "interrupt_after": self.interrupt_after,
        }
        return {name: value for name, value in options.items() if value is not None}


class CreateThread(_Body):
    """The body of ``POST /threads``."""

    thread_id: str | None = None
    metadata: Metadata | None = None
    if_exists: Literal["raise", "do_nothing"] | None = None
    graph_id: str | None = None


class SearchThreads(_Body):
    """The body of ``POST /threads/search`` and ``/count``."""

    metadata: Metadata | None = None
    values: Metadata | None = None
    ids: list[str] | None = None
    status: Literal["idle", "busy", "interrupted", "error"] | None = None
    limit: Limit = 10
    offset: Annotated[int, Field(ge=0)] = 0
    sort_by: Literal["thread_id", "status", "created_at", "updated_at", "state_updated_at"] | None = None
    sort_order: Literal["asc", "desc"] | None = None
    select: list[str] | None = None


class SearchAssistants(_Body):
    """The body of ``POST /assistants/search``."""

    graph_id: str | None = None
    name: str | None = None
    metadata: Metadata | None = None
    limit: Limit = 10
    offset: Annotated[int, Field(ge=0)] = 0


class StateBody(_Body):
    """The body of ``POST /threads/{thread}/state/checkpoint``."""

    checkpoint: CheckpointBody | None = None
    subgraphs: bool | None = None


class CancelRuns(_Body):
    """The body of ``POST /runs/cancel``."""

    thread_id: str | None = None
    run_ids: list[str] | None = None
    status: Literal["pending", "running", "all"] | None = None


class PatchThread(_Body):
    """The body of ``PATCH /threads/{thread}``."""

    metadata: Metadata | None = None


class HistoryBody(_Body):
    """The body of ``POST /threads/{thread}/history``."""

    limit: Limit | None = None
    before: str | dict[str, Any] | None = None
    metadata: Metadata | None = None
    checkpoint: CheckpointBody | None = None


class StateUpdate(_Body):
    """The body of ``POST /threads/{thread}/state``."""

    values: Any = None
    as_node: str | None = None
    checkpoint: CheckpointBody | None = None
    checkpoint_id: str | None = None


def parse_body(model: type[B], value: object) -> B:
    """Parse a body.

    Raises:
        RefusedError: If a field has the wrong kind.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(each) for each in first["loc"]) or "body"
        raise RefusedError(422, f"{place:.200}: {first['msg']:.300}") from None
