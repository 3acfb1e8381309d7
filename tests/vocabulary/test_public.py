"""The public names: each is there, listed once, and imported only when it is used."""

import subprocess
import sys

import lg_streaming


def test_every_public_name_is_found_where_it_is_said_to_be() -> None:
    assert list(lg_streaming.__all__) == sorted(lg_streaming.__all__)
    for name in lg_streaming.__all__:
        value = getattr(lg_streaming, name)
        assert value.__name__ == name
        assert value.__module__.startswith("lg_streaming.")
    assert set(lg_streaming.__all__) <= set(dir(lg_streaming))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    assert not hasattr(lg_streaming, "StreamingModul")


def test_importing_the_package_imports_no_part_of_it() -> None:
    code = "import sys, lg_streaming; print([name for name in sys.modules if name.startswith('lg_streaming.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
