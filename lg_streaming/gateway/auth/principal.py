"""The principal of a connection, and its rights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

from lg_streaming.globs import matches

__all__ = ["ANONYMOUS", "CLAIM", "Action", "Grant", "Principal", "grants_of"]

Action = Literal["read", "control", "start"]
"""``read``: watch an execution. ``control``: cancel it, and answer its prompts. ``start``: start a graph."""

CLAIM: Final = "lg_streaming"
"""The claim that grants more than a principal's own executions."""
_MAX_GRANTS: Final = 64
_ACTIONS: Final = frozenset({"read", "control", "start"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Actions (`"read"`, `"control"`) on all executions whose ids match one of the globs.

    `*` matches within a `/` segment, `**` across.

    A room is matched as `room:<room_id>`, so `room:*` grants all rooms whose ids have no `/`. The action `start` needs
    `graphs`: globs of the names of graphs. A start under an id that the caller chooses also needs `executions`.
    """

    actions: frozenset[str]
    executions: tuple[str, ...] = ()
    graphs: tuple[str, ...] = ()

    def allows(self, action: Action, execution_id: str) -> bool:
        """Return whether this grant allows the action."""
        return action in self.actions and any(matches(each, execution_id) for each in self.executions)

    def allows_graph(self, graph: str) -> bool:
        """Return whether this grant allows a start of the graph of this name."""
        return "start" in self.actions and any(matches(each, graph) for each in self.graphs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The account that a connection acts for.

    It comes from a token's claims, or from the application: `authenticate=` of `StreamingModule` returns one.

    ```python
    Principal(subject="alice", expires_at=session.ends_at, claims={"jti": session.id, "iat": session.begun_at})
    ```
    """

    subject: str | None = None
    """The account: the token's `sub`. Executions whose `owner` is this text are its own, and limits of a subject count
    it. It is None for all callers while authentication is off. The application's principals need one; a whole number
    or a UUID counts as its text."""
    grants: tuple[Grant, ...] = ()
    """The executions that it may read or control in addition to its own; default: none."""
    claims: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """All claims of the token, or facts of the application for `authorize` and `revoked`: plain JSON values.

    `streaming.revoke(jti=…)` compares `jti`. `streaming.revoke(subject=…)` compares `iat`, the time of the login in
    seconds since 1970; a principal without it counts as logged in before."""
    expires_at: float | None = None
    """Seconds since 1970; None: never. The gateway ends what the principal reads at that time."""
    restricted_to: str | None = None
    """The only execution that the principal may read, if its link or ticket is for one; None: no such restriction.

    Other checks still apply.
    """
    source: Literal["none", "token", "ticket", "link", "application"] = field(default="none", compare=False)
    """The credentials that the gateway has checked; set by the gateway. A ticket that a link was exchanged for counts
    as the link."""

    @property
    def account(self) -> str | None:
        """The subject whose limits the caller uses up. None if only the limits of its address count.

        A link may have many holders, who must not use up what its issuer may do.
        """
        return None if self.source == "link" else self.subject

    def is_outside_scope(self, action: Action, execution_id: str) -> bool:
        """Return whether `restricted_to` forbids the action."""
        return self.restricted_to is not None and (action != "read" or execution_id != self.restricted_to)


ANONYMOUS: Final = Principal()


def grants_of(claim: object) -> tuple[Grant, ...]:
    """Return the grants of a claim; entries of another shape grant nothing."""
    if not isinstance(claim, list):
        return ()
    found: list[Grant] = []
    for entry in cast("list[object]", claim)[:_MAX_GRANTS]:
        if not isinstance(entry, dict):
            continue
        grant = cast("dict[str, object]", entry)
        executions, graphs = _strings(grant.get("executions")), _strings(grant.get("graphs"))
        actions = _ACTIONS.intersection(_strings(grant.get("actions")))
        if not graphs:
            actions -= {"start"}
        if actions and (executions or "start" in actions):
            found.append(Grant(actions=actions, executions=executions, graphs=graphs))
    return tuple(found)


def _strings(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(each for each in cast("list[object]", value)[:_MAX_GRANTS] if isinstance(each, str))
