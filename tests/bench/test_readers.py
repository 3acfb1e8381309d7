"""The readers of the benchmarks count every update once, at any cut of the stream, and every hole."""

from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tests.bench.readers import Tally, first_frame, masked
from tests.bench.stage import unlimited


def stream(numbers: Iterable[int]) -> bytes:
    return b"".join(b'{"sent":1,"metadata":{"sequence_number":%d,"epoch":"e"}}\n' % number for number in numbers)


def read(data: bytes, cuts: Iterable[int] = ()) -> Tally:
    tally, rest, edges = Tally(delays=[]), b"", [0, *sorted(cuts), len(data)]
    for start, end in pairwise(edges):
        rest = tally.take(rest + data[start:end])
    return tally


@given(st.integers(1, 30).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(0, len(stream(range(n))))))))
def test_each_update_counts_once_however_the_stream_is_cut(drawn: tuple[int, list[int]]) -> None:
    count, cuts = drawn
    tally = read(stream(range(100, 100 + count)), cuts)
    assert (tally.count, tally.seen, tally.holes) == (count, 99 + count, 0)
    assert tally.delays is not None
    assert len(tally.delays) == count


def test_a_hole_is_noticed_within_a_piece_and_between_two() -> None:
    holed = [1, 2, 4]
    assert read(stream(holed)).holes == 1
    assert read(stream(holed), [len(stream([1, 2]))]).holes == 1
    assert read(stream([1, 2, 2])).holes == 1


def test_a_frame_is_taken_when_it_is_whole() -> None:
    assert first_frame(b"\x81\x03abcd") == (b"abc", b"d")
    assert first_frame(b"\x81\x05abcd") is None
    long = b"\x81\x7e\x01\x00" + b"x" * 256
    assert first_frame(long + b"y") == (b"x" * 256, b"y")
    assert first_frame(long[:-1]) is None
    assert masked(b"x" * 200)[:4] == b"\x81\xfe\x00\xc8"


def test_connections_are_without_a_limit() -> None:
    assert unlimited().connections is None
