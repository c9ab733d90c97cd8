"""A tar archive read in pieces: what the standard library writes is read back, and hostile bytes end in an error or in entries."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_preflight.sandboxes.tar_stream import EXTENSION_BYTES_MAX, TarStream
from tests.support.cases import each

Read = list[tuple[tarfile.TarInfo, bytes]]


def read(pieces: Iterable[bytes]) -> tuple[Read, bool]:
    """Return the entries of an archive with their contents, and whether its end was seen."""
    stream, found = TarStream(), []
    for piece in pieces:
        for item in stream.feed(piece):
            if isinstance(item, tarfile.TarInfo):
                found.append((item, bytearray()))
            else:
                found[-1][1].extend(item)
    return [(entry, bytes(content)) for entry, content in found], stream.ended


def in_pieces(data: bytes, size: int) -> Iterable[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def archive(members: Sequence[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    """Return an archive as the standard library writes it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def header(name: bytes = b"a", flag: bytes = b"0", size: bytes = b"00000000000", **raw: bytes) -> bytes:
    """Return one block, with a checksum that is right."""
    block = bytearray(tarfile.BLOCKSIZE)
    for at, value in ((0, name), (100, b"0000644\0"), (124, size), (136, b"00000000000\0"), (156, flag)):
        block[at : at + len(value)] = value
    block[257:265] = b"ustar\x0000"
    for key, value in raw.items():
        at = int(key.removeprefix("at"))
        block[at : at + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(records: bytes) -> bytes:
    return header(b"x", b"x", b"%011o" % len(records)) + records + bytes(-len(records) % tarfile.BLOCKSIZE)


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=300).filter(
    lambda text: text.strip("/") != "" and not text.endswith("/")
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(names, st.binary(max_size=2000)), max_size=6), st.integers(1, 3000), st.booleans())
def test_what_the_standard_library_writes_is_read_back_whatever_the_pieces(
    files: list[tuple[str, bytes]], size: int, gnu: bool
) -> None:
    data = archive(
        [(member(name), content) for name, content in files], tarfile.GNU_FORMAT if gnu else tarfile.PAX_FORMAT
    )
    found, ended = read(in_pieces(data, size))
    assert [(entry.name.lstrip("/"), content) for entry, content in found] == [
        (name.lstrip("/"), content) for name, content in files
    ]
    assert ended


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=4096), st.integers(1, 700))
def test_bytes_that_are_no_archive_end_in_an_error_or_in_nothing(data: bytes, size: int) -> None:
    try:
        read(in_pieces(data, size))
    except tarfile.TarError:
        return


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_an_archive_with_one_byte_changed_ends_in_an_error_or_in_entries(data: st.DataObject) -> None:
    whole = bytearray(archive([(member("a/b" * 60), b"x" * 700), (member("c", tarfile.SYMTYPE, linkname="/etc"), b"")]))
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        read([bytes(whole)])
    except tarfile.TarError:
        return


@each(
    "kind",
    [
        *(tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE),
        *(tarfile.FIFOTYPE, tarfile.CONTTYPE),
    ],
)
def test_an_entry_of_each_type_is_read_with_the_one_after_it(kind: bytes) -> None:
    found, ended = read([archive([(member("a", kind, linkname="b"), b""), (member("last"), b"1")])])
    assert ([entry.type for entry, _ in found], ended) == ([kind, tarfile.REGTYPE], True)


def test_the_mode_and_the_time_of_an_entry_are_read() -> None:
    found, _ = read([archive([(member("a", mode=0o6755, mtime=1_700_000_000), b"")])])
    assert (found[0][0].mode, found[0][0].mtime) == (0o6755, 1_700_000_000)


def test_the_prefix_of_a_ustar_header_is_a_part_of_the_name() -> None:
    found, _ = read([header(b"a", at345=b"long")])
    assert [entry.name for entry, _ in found] == ["long/a"]


def test_a_size_above_eight_gibibytes_is_read_from_an_extended_header_or_in_base_256() -> None:
    size = 10 * 2**30
    records = b"20 size=%d\n" % size
    base_256 = (1 << 95 | size).to_bytes(12, "big")
    for block in (pax(records) + header(), header(size=base_256)):
        (entry, _), *rest = read([block])[0]
        assert (entry.size, rest) == (size, [])


def test_the_content_of_an_unknown_kind_is_passed_over_and_that_of_a_link_is_none() -> None:
    data = header(b"u", b"Q", b"%011o" % 5) + b"12345" + bytes(507) + header(b"l", b"2", b"%011o" % 5) + header(b"z")
    found, _ = read([data])
    assert [(entry.name, content) for entry, content in found] == [("u", b""), ("l", b""), ("z", b"")]


@each(
    "block",
    [
        header()[:-1] + b"x",  # a checksum that is wrong
        header(size=b"12345678999"),  # a size that is no number
        header(size=b"\xff" * 12),  # a size below zero
        header(size=b"\x80" + b"\x7f" * 11),  # a size that no disk has
        header(flag=b"S"),  # a sparse map
        header(flag=b"x", size=b"%011o" % (EXTENSION_BYTES_MAX + 1)),  # an extended header above the limit
        header(flag=b"L", size=b"%011o" % (EXTENSION_BYTES_MAX + 1)),  # a name above the limit
        pax(b"999 path=a\n"),  # a record longer than its header
        pax(b"0 path=a\n"),  # a record of no length
        pax(b"10 path=ab"),  # a record that ends nowhere
        pax(b"9 path=ab"),  # a record without a line's end
        pax(b"path=a\n"),  # a record without a length
        pax(b"12 size=-1\n\n") + header(),  # a record's size that is none
        pax(b"28 size=9999999999999999999\n") + header(),  # a record's size that no disk has
    ],
)
def test_what_cannot_be_read_is_an_error(block: bytes) -> None:
    with pytest.raises(tarfile.TarError):
        read([block])


def test_what_follows_the_end_is_ignored() -> None:
    found, ended = read([archive([(member("a"), b"1")]), b"\xff" * 5000])
    assert (len(found), ended) == (1, True)


def test_an_archive_that_breaks_off_has_not_ended() -> None:
    data = archive([(member("a"), b"1" * 3000)])
    for cut in (0, 100, 512, 2000, 3584, 4096):
        assert not read([data[:cut]])[1], cut


def test_one_zero_block_is_no_end() -> None:
    found, ended = read([bytes(tarfile.BLOCKSIZE) + header(b"a") + bytes(tarfile.BLOCKSIZE)])
    assert ([entry.name for entry, _ in found], ended) == (["a"], False)


def test_a_header_of_gigabytes_and_a_file_of_gigabytes_take_no_memory() -> None:
    piece = bytes(2**16)
    ignored = header(b"x", b"x") + header(b"g", b"g", b"%011o" % 2**30)
    big = header(b"big", b"0", b"%011o" % 2**30)
    tracemalloc.start()
    stream = TarStream()
    for begin in (ignored, big):
        list(stream.feed(begin))
        for _ in range(2**30 // len(piece) // 16):
            for _ in stream.feed(piece):
                pass
        stream = TarStream()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_extended_headers_without_an_entry_take_no_memory() -> None:
    stream = TarStream()
    tracemalloc.start()
    for number in range(200):
        list(stream.feed(pax(b"10012 %04d=%s\n" % (number, b"x" * 10_000))))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20
