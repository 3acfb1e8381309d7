"""Ends and beginnings of texts, in bytes."""

from hypothesis import given
from hypothesis import strategies as st

from lg_streaming.activity.text import BoundedText, encoded_size, first_bytes, last_bytes

texts = st.text(st.characters(exclude_categories=()), max_size=12)


def size(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


@given(texts, st.integers(0, 30))
def test_a_cut_keeps_whole_characters_and_as_many_as_fit(text: str, most: int) -> None:
    first, last = first_bytes(text, most), last_bytes(text, most)
    assert text.startswith(first)
    assert text.endswith(last)
    assert encoded_size(text) == size(text)
    for kept, more in ((first, text[: len(first) + 1]), (last, text[len(text) - len(last) - 1 :])):
        assert size(kept) <= most
        assert kept == text or size(more) > most


@given(st.lists(texts), st.integers(0, 40))
def test_a_bounded_text_is_the_beginning(pieces: list[str], most: int) -> None:
    text, whole = BoundedText(most), "".join(pieces)
    for piece in pieces:
        text.add(piece)
        str(text)
    assert str(text) == first_bytes(whole, most)
    assert text.truncated is (size(whole) > most)
