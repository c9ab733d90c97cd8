"""Events come out whole and the bytes come out unchanged, whatever the chunking."""

from hypothesis import given
from hypothesis import strategies as st

from preflight_proxy.core.sse import Decoder, Event, Outline, parse
from tests.support.cases import each

CHAT = (
    b": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n"
    b'data: {"id":"gen-1","choices":[{"delta":{"content":"h\xc3\xa9"}}]}\n\n'
    b'event: message_delta\ndata: {"a":\ndata: 1}\n\n'
    b"data: [DONE]\n\n"
)
STREAMS = [
    CHAT,
    CHAT.replace(b"\n", b"\r\n"),
    CHAT.replace(b"\n", b"\r"),
    b"\n\n\n" + CHAT + b"data: torn",
    b"\xef\xbb\xbf" + CHAT + b"\r\n",
    b"data:x\r\n\ndata: y\n\r\n",
    b"data\n\n:\n\nid: 7\nretry: 3\n\n",
]


def decode(stream: bytes, cuts: list[int], event_bytes_max: int = 10**6) -> list[Event]:
    decoder = Decoder(event_bytes_max)
    events: list[Event] = []
    last = 0
    for cut in [*sorted(cuts), len(stream)]:
        events += decoder.feed(stream[last:cut])
        last = cut
        assert b"".join(event.raw for event in events) + decoder.pending == stream[:cut]
    return read(events + decoder.flush())


def read(events: list[Event]) -> list[Event]:
    return [event if event.skipped else parse(event.raw) for event in events]


@each("stream", STREAMS)
def test_byte_by_byte_and_whole_give_the_same_events(stream: bytes) -> None:
    whole = decode(stream, [])
    assert decode(stream, list(range(len(stream)))) == whole
    assert b"".join(event.raw for event in whole) == stream


@each("stream", STREAMS)
def test_every_single_cut_gives_the_same_events(stream: bytes) -> None:
    whole = decode(stream, [])
    assert all(decode(stream, [cut]) == whole for cut in range(len(stream)))


@each("ends", [b"\n", b"\r\n", b"\r"])
def test_names_and_data_are_read_with_every_line_end(ends: bytes) -> None:
    told = [(event.name, event.data) for event in decode(CHAT.replace(b"\n", ends), [])]
    assert told == [
        ("", b""),
        ("", b""),
        ("", b'{"id":"gen-1","choices":[{"delta":{"content":"h\xc3\xa9"}}]}'),
        ("message_delta", b'{"a":\n1}'),
        ("", b"[DONE]"),
    ]


@given(
    st.lists(st.sampled_from([b"\r", b"\n", b"data: a", b"event: n", b": c", b"data:b", b"x"]), max_size=25), st.data()
)
def test_no_chunking_changes_a_byte_or_an_event(pieces: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(pieces)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
    assert decode(stream, cuts) == decode(stream, [])


def test_the_end_of_the_input_yields_the_event_without_its_blank_line() -> None:
    decoder = Decoder()
    assert decoder.feed(b'data: {"usage":1}') == []
    assert [event.data for event in read(decoder.flush())] == [b'{"usage":1}']
    assert decoder.flush() == []


def test_an_event_comes_out_with_the_byte_that_completes_it() -> None:
    decoder = Decoder()
    assert decoder.feed(b"data: a\r\n\r") == []
    assert [event.data for event in read(decoder.feed(b"\n"))] == [b"a"]
    assert decoder.pending == b""


def test_an_oversized_event_passes_unread_and_the_next_is_read_again() -> None:
    decoder = Decoder(max_event_bytes=20)
    events = []
    stream = b"data: " + b"x" * 100 + b"\n\ndata: next\n\n"
    for index in range(len(stream)):
        events += decoder.feed(stream[index : index + 1])
    assert decoder.oversized
    assert b"".join(event.raw for event in events) == stream
    assert [event.data for event in read(events) if not event.skipped] == [b"next"]
    assert all(event.data == b"" for event in events if event.skipped)


def test_an_event_larger_than_allowed_in_one_chunk_is_read_if_it_is_complete() -> None:
    decoder = Decoder(max_event_bytes=4)
    assert [event.data for event in read(decoder.feed(b"data: abcdef\n\n"))] == [b"abcdef"]
    assert not decoder.oversized


def test_the_rest_of_an_oversized_event_is_skipped_at_the_end_of_the_input() -> None:
    decoder = Decoder(max_event_bytes=4)
    events = [*decoder.feed(b"data: abcdef"), *decoder.flush()]
    assert [event.skipped for event in events] == [True, True]
    assert b"".join(event.raw for event in events) == b"data: abcdef"


def test_the_smallest_limit_passes_every_byte_too() -> None:
    decoder = Decoder(max_event_bytes=1)
    events = [event for byte in b"data: a\n\ndata: b" for event in decoder.feed(bytes([byte]))] + decoder.flush()
    assert b"".join(event.raw for event in events) == b"data: a\n\ndata: b"


def test_memory_is_bounded_however_long_an_event_is() -> None:
    decoder = Decoder(max_event_bytes=1000)
    for _ in range(100):
        decoder.feed(b"z" * 1000)
        assert len(decoder.pending) <= 1000


def test_a_name_that_is_not_utf8_is_read_all_the_same() -> None:
    assert parse(b"event: \xff\ndata: 1\n\n") == Event(b"event: \xff\ndata: 1\n\n", "\ufffd", b"1")


def of(words: bytes, more: bytes = b"") -> bytes:
    return b'data: {"id":"gen-1","choices":[{"delta":{"content":"%b"},"finish_reason":null}]%b}\n\n' % (words, more)


def test_an_event_that_differs_in_its_words_alone_has_the_same_outline() -> None:
    outline = Outline()
    assert not outline.fits(of(b"one"))
    outline.note(of(b"one"))
    assert all(outline.fits(of(words)) for words in (b"one", b"", b"two words", b"\xc3\xa4", b"\xff", b"data: [DONE]"))


@each(
    "other",
    [
        of(b"two", b',"usage":{}'),
        of(b'","usage":{"cost":1},"x":"'),
        of(b"\\n"),
        of(b"x\n\ndata: [DONE]\n\ny"),
        of(b"x\r\rdata: [DONE]\r\ry"),
        of(b"x").replace(b"gen-1", b"gen-2"),
        of(b"one") + of(b"two"),
        of(b"one") + b"\n",
        of(b"one")[:-1],
        b": comment\n\n" + of(b"one"),
        of(b"")[:70],
        b"data: [DONE]\n\n",
        b"",
    ],
)
def test_what_could_say_anything_else_has_another_outline(other: bytes) -> None:
    outline = Outline()
    outline.note(of(b"one"))
    assert not outline.fits(other)


@each("raw", [b": comment\n\n", b"", of(b"\\n"), of(b"one").replace(b"\n", b"\r"), b'data: {"name":"content"}\n\n'])
def test_what_has_no_words_has_no_outline(raw: bytes) -> None:
    outline = Outline()
    outline.note(of(b"one"))
    outline.note(raw)
    assert not outline.fits(raw)
    assert not outline.fits(of(b"one"))
