"""The attacks of `make attack`, those before a request in full size."""

import pytest

from tests.attacks.__main__ import known, mount
from tests.attacks.attack import Attack, Result, Target
from tests.attacks.front import ATTACKS
from tests.attacks.server import target


@pytest.mark.soak
@pytest.mark.parametrize("attack", [pytest.param(attack, id=attack.name) for attack in ATTACKS])
async def test_the_server_holds(attack: Attack) -> None:
    async with target(attack.options, attack.env, secure=attack.secure) as running:
        result = await mount(attack, running)
    assert result.held, result.seen


def test_all_attacks_are_found_and_have_a_row_and_a_name_of_their_own() -> None:
    found = known()
    assert {attack.name for attack in ATTACKS} <= {attack.name for attack in found}
    assert len({attack.name for attack in found}) == len(found)
    assert all(attack.row for attack in found)


async def test_an_attack_that_fails_is_none_that_was_held() -> None:
    async def run(_: Target) -> Result:
        raise ConnectionResetError("gone")

    result = await mount(Attack("1", "broken", run), None)  # pyright: ignore[reportArgumentType]
    assert (result.held, result.seen) == (False, "ConnectionResetError: gone")
