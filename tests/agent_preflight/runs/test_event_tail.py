"""The newest events of a trial are read from the end of a file that may hold anything."""

import json
from pathlib import Path

from agent_preflight.runs.event_tail import TAIL_BYTES_MAX, TEXT_CHARS_MAX, newest_events


def write(folder: Path, content: bytes) -> Path:
    (folder / "events.jsonl").write_bytes(content)
    return folder


def test_events_come_the_newest_first_with_their_other_fields_as_text(tmp_path: Path) -> None:
    lines = [
        {"timestamp": "2026-01-01T00:00:00+00:00", "type": "a", "source": "agent", "x": 1, "elapsed_s": 0.1},
        {"type": "b"},
    ]
    events = newest_events(write(tmp_path, b"".join(json.dumps(line).encode() + b"\n" for line in lines)), 10)
    assert [(event.time, event.source, event.kind, event.text) for event in events] == [
        ("", "", "b", ""),
        ("2026-01-01T00:00:00+00:00", "agent", "a", '{"x": 1}'),
    ]
    assert [event.place for event in events] == [len(json.dumps(lines[0])) + 1, 0]
    assert newest_events(tmp_path, 1) == events[:1]


def test_what_is_no_whole_object_is_left_out(tmp_path: Path) -> None:
    assert newest_events(tmp_path, 10) == []
    content = b'no json\n[1]\n\n\xff\xfe\n{"type": "a"}\n{"type": "half'
    assert [event.kind for event in newest_events(write(tmp_path, content), 10)] == ["a"]
    assert newest_events(write(tmp_path, b'{"type": "half'), 10) == []


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text('{"type": "a"}\n')
    (tmp_path / "events.jsonl").symlink_to(tmp_path / "other")
    assert newest_events(tmp_path, 10) == []


def test_only_the_end_of_a_long_file_is_read_and_a_cut_line_is_no_event(tmp_path: Path) -> None:
    line = json.dumps({"type": "a", "pad": "x" * 1000}).encode() + b"\n"
    events = newest_events(write(tmp_path, line * 2000), 10**6)
    assert len(events) == (TAIL_BYTES_MAX - 1) // len(line)
    assert {event.kind for event in events} == {"a"}
    assert events[0].place == 1999 * len(line)
    assert newest_events(write(tmp_path, b'{"x": "' + b"y" * TAIL_BYTES_MAX + b'"}\n'), 10) == []


def test_the_text_of_an_event_is_cut_and_has_no_escapes(tmp_path: Path) -> None:
    line = json.dumps({"type": "t" * 1000, "source": 5, "text": "\x1b[31m\u202eevil" + "x" * 10**5}, ensure_ascii=False)
    (event,) = newest_events(write(tmp_path, line.encode() + b"\n"), 10)
    assert (len(event.kind), event.source, len(event.text)) == (80, "5", TEXT_CHARS_MAX)
    assert event.text.isprintable()
