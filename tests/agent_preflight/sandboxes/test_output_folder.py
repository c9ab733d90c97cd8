"""What is written of an archive that nobody trusts: nothing outside the folder, no link, no more than is allowed."""

from __future__ import annotations

import errno
import os
import resource
import stat
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_preflight.sandboxes.kept_output import KeptOutput, OutputPolicy
from agent_preflight.sandboxes.output_folder import LISTED_MAX, PARTIAL, SMALL_BYTES, OutputFolder
from tests.agent_preflight.sandboxes.test_tar_stream import archive, header, member, pax
from tests.support.cases import each

Members = Sequence[tuple[tarfile.TarInfo, bytes]]
TOP = (member("output", tarfile.DIRTYPE, mode=0o777), b"")


def file(name: str, content: bytes = b"1", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return member(f"output/{name}", **fields), content


def folder(name: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(f"output/{name}", tarfile.DIRTYPE), b""


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return member(f"output/{name}", kind, linkname=to), b""


def write(place: Path, members: Members | bytes, wish: OutputPolicy | None = None, piece: int = 10_000) -> KeptOutput:
    """Write an archive's tree, in pieces."""
    output = OutputFolder(place, wish or OutputPolicy(), free_bytes_min=0)
    data = members if isinstance(members, bytes) else archive([TOP, *members])
    try:
        for at in range(0, len(data), piece):
            if not output.take(data[at : at + piece]):
                break
        return output.finish()
    finally:
        output.discard()


def tree(place: Path) -> dict[str, str | None]:
    """Return what lies in the kept folder: files with their contents, folders with None."""
    top = place / "workspace"
    found = sorted(top.rglob("*"))
    assert not any(path.is_symlink() for path in found)
    return {str(path.relative_to(top)): None if path.is_dir() else path.read_text() for path in found}


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def why(kept: KeptOutput) -> dict[str, str]:
    return {each["path"]: each["why"] for each in kept.skipped}


def test_files_and_folders_are_kept_and_counted(tmp_path: Path) -> None:
    kept = write(tmp_path, [file("a.txt", b"hello"), folder("sub"), file("sub/b", b""), folder("sub/empty")])
    assert tree(tmp_path) == {"a.txt": "hello", "sub": None, "sub/b": "", "sub/empty": None}
    assert kept == KeptOutput(str(tmp_path / "workspace"), files=2, bytes=5)
    assert names(tmp_path) == ["workspace"]


def test_an_archive_that_names_its_folder_by_a_dot_is_kept_as_well(tmp_path: Path) -> None:
    write(tmp_path, archive([(member("./", tarfile.DIRTYPE), b""), (member("./a"), b"1")]))
    assert tree(tmp_path) == {"a": "1"}


def test_modes_are_the_owners_alone_and_no_right_beyond_that_is_left(tmp_path: Path) -> None:
    write(
        tmp_path,
        [file("su", mode=0o6755), file("none", mode=0), file("all", mode=0o666), folder("d"), file("d/x", mode=0o1711)],
    )
    modes = {name: stat.S_IMODE((tmp_path / "workspace" / name).stat().st_mode) for name in tree(tmp_path)}
    assert modes == {"su": 0o700, "none": 0o600, "all": 0o600, "d": 0o700, "d/x": 0o700}
    assert stat.S_IMODE((tmp_path / "workspace").stat().st_mode) == 0o700
    assert {path.stat().st_uid for path in (tmp_path / "workspace").rglob("*")} == {os.getuid()}


def test_a_file_keeps_the_time_of_its_writing_and_a_time_that_none_is_costs_nothing(tmp_path: Path) -> None:
    for wrong in (b"\x80\0\0\0\x7f" + b"\xff" * 7, b"\xff" * 12):
        write(tmp_path, archive([TOP])[:512] + header(b"output/a", at136=wrong) + bytes(1024))
        assert tree(tmp_path) == {"a": ""}
    write(tmp_path, [file("a", mtime=1_600_000_000)])
    assert (tmp_path / "workspace" / "a").stat().st_mtime == 1_600_000_000


def test_links_and_devices_are_listed_and_our_own_link_is_not(tmp_path: Path) -> None:
    kept = write(
        tmp_path,
        [
            link("budget.txt", "/run/preflight/budget.txt"),
            link("lnk", "/etc/passwd"),
            file("one"),
            link("two", "output/one", tarfile.LNKTYPE),
            (member("output/pipe", tarfile.FIFOTYPE), b""),
            (member("output/null", tarfile.CHRTYPE), b""),
            (member("output/disk", tarfile.BLKTYPE), b""),
            folder("sub"),
            link("sub/budget.txt", "elsewhere"),
        ],
    )
    assert tree(tmp_path) == {"one": "1", "sub": None}
    assert why(kept) == {
        "lnk": "link",
        "two": "hard link",
        "pipe": "pipe",
        "null": "device",
        "disk": "device",
        "sub/budget.txt": "link",
    }
    assert (kept.skipped_count, kept.limits) == (6, ())


def test_a_budget_file_of_the_agents_own_is_kept(tmp_path: Path) -> None:
    write(tmp_path, [file("budget.txt", b"mine")])
    assert tree(tmp_path) == {"budget.txt": "mine"}


@each(
    "name",
    [
        *(b"output/../../escaped", b"output/..", b"/etc/escaped", b"output/a/../../../escaped", b"../escaped"),
        *(b"escaped", b"outputescaped", b"/output/../escaped", b"output/new\nline", b"output/\x1b[2Jescape"),
        *(b"output/del\x7f", b"output/" + b"n" * 256, b"output/\x00nul", b"output/bell\x07/x"),
    ],
)
def test_a_name_that_leads_outside_or_reaches_a_terminal_is_left_out(name: bytes) -> None:
    with tempfile.TemporaryDirectory() as made:
        place = Path(made) / "deep" / "trial"
        place.mkdir(parents=True)
        record = b" path=" + name + b"\n"
        length = next(n for n in range(len(record), len(record) + 5) if len(str(n)) + len(record) == n)
        data = (
            archive([TOP])[:512]
            + pax(str(length).encode() + record)
            + header(b"x", b"0", b"%011o" % 1)
            + b"1".ljust(512)
        )
        kept = write(place, data + header(b"output/good") + bytes(1024))
        assert tree(place) == {"good": ""}
        assert [each["why"] for each in kept.skipped] == ["name"]
        assert names(Path(made)) == ["deep"]
        assert names(place.parent) == ["trial"]


def test_a_name_that_is_no_unicode_is_kept_and_a_listed_one_is_text(tmp_path: Path) -> None:
    kept = write(
        tmp_path,
        archive([TOP])[:512] + header(b"output/lat\xe9in") + header(b"output/l\xe9nk", b"2") + bytes(1024),
    )
    assert [os.fsencode(name) for name in names(tmp_path / "workspace")] == [b"lat\xe9in"]
    assert kept.skipped == ({"path": "l\\xe9nk", "why": "link"},)


def test_of_two_entries_of_one_name_the_first_is_kept(tmp_path: Path) -> None:
    kept = write(
        tmp_path,
        [file("a", b"first"), file("a", b"second"), folder("a"), file("a/inside"), folder("d"), folder("d"), file("d")],
    )
    assert tree(tmp_path) == {"a": "first", "d": None}
    assert [each["why"] for each in kept.skipped] == ["duplicate"] * 5


def test_a_link_and_then_a_file_through_it_writes_nothing_outside(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    place = tmp_path / "trial"
    place.mkdir()
    kept = write(place, [link("way", str(outside)), file("way/in"), file("good")])
    assert (tree(place), list(outside.iterdir())) == ({"good": "1"}, [])
    assert why(kept) == {"way": "link", "way/in": "folder"}


def test_a_link_that_somebody_puts_into_the_folder_meanwhile_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    output = OutputFolder(tmp_path, OutputPolicy())
    output.take(archive([TOP, folder("d")])[:1024])
    (tmp_path / PARTIAL / "d").rmdir()
    (tmp_path / PARTIAL / "d").symlink_to(tmp_path / "outside")
    output.take(header(b"output/d/in") + bytes(1024))
    assert output.finish().skipped == ({"path": "d/in", "why": "duplicate"},)
    assert list((tmp_path / "outside").iterdir()) == []


def test_what_would_pass_the_limit_of_bytes_is_left_out_whole_and_what_fits_is_kept(tmp_path: Path) -> None:
    wish = OutputPolicy(bytes_max=1000)
    kept = write(tmp_path, [file("a", b"x" * 600), file("b", b"x" * 401), file("c", b"x" * 400), file("d", b"x")], wish)
    assert sorted(tree(tmp_path)) == ["a", "c"]
    assert (kept.bytes, kept.limits, why(kept)) == (1000, ("bytes",), {"b": "bytes", "d": "bytes"})
    assert "1000 bytes (output_max_bytes)" in str(kept.warning(wish))


def test_the_limit_of_files_counts_folders_and_ends_the_copy(tmp_path: Path) -> None:
    wish = OutputPolicy(files_max=3)
    kept = write(tmp_path, [folder("a"), file("a/1"), file("a/2"), file("a/3"), file("a/4")], wish, piece=512)
    assert (sorted(tree(tmp_path)), kept.files, kept.limits) == (["a", "a/1", "a/2"], 2, ("files",))
    assert kept.skipped_count == 1


def test_exactly_as_many_files_as_are_allowed_are_no_limit(tmp_path: Path) -> None:
    kept = write(
        tmp_path, [file(str(number)) for number in range(3)], OutputPolicy(files_max=3, bytes_max=3, depth_max=1)
    )
    assert (kept.files, kept.limits, kept.warning(OutputPolicy())) == (3, (), None)


def test_what_is_too_deep_is_left_out(tmp_path: Path) -> None:
    members = [folder("/".join("d" * depth)) for depth in range(1, 6)]
    kept = write(tmp_path, [*members, file("d/d/x"), file("d/d/d/y")], OutputPolicy(depth_max=3))
    assert sorted(tree(tmp_path)) == ["d", "d/d", "d/d/d", "d/d/x"]
    assert (kept.limits, kept.skipped_count) == (("depth",), 3)


def test_what_the_user_mounts_below_is_left_out_and_named_once(tmp_path: Path) -> None:
    wish = OutputPolicy(mounts=("data", "a/b"))
    members = [folder("a"), folder("a/b"), file("a/b/c"), folder("data"), file("data/x", b"x" * 50), file("database")]
    kept = write(tmp_path, members, wish)
    assert sorted(tree(tmp_path)) == ["a", "database"]
    assert why(kept) == {"a/b": "mount", "data": "mount"}


def test_a_hundred_entries_are_listed_and_all_are_counted(tmp_path: Path) -> None:
    kept = write(tmp_path, [link(f"l{number}" + "n" * 300, "x") for number in range(LISTED_MAX + 20)])
    assert (len(kept.skipped), kept.skipped_count) == (LISTED_MAX, LISTED_MAX + 20)
    assert max(len(each["path"]) for each in kept.skipped) == 200


def test_a_file_of_zeros_takes_no_room(tmp_path: Path) -> None:
    content = bytearray(8 * 2**20)
    content[3 * 2**20] = 1
    write(tmp_path, [file("sparse", bytes(content)), file("zeros", bytes(2**20))], piece=2**16)
    found = (tmp_path / "workspace" / "sparse").stat()
    assert (tmp_path / "workspace" / "sparse").read_bytes() == content
    assert (tmp_path / "workspace" / "zeros").stat().st_size == 2**20
    assert found.st_blocks * 512 <= 2**18


def test_a_sparse_file_above_the_limit_neither_fills_the_disk_nor_uses_up_the_limit(tmp_path: Path) -> None:
    begin = archive([TOP])[:512] + pax(b"20 size=10737418240\n") + header(b"output/big")
    output = OutputFolder(tmp_path, OutputPolicy())
    output.take(begin)
    piece = bytes(2**20)
    for _ in range(10 * 2**10):
        output.take(piece)
    output.take(archive([file("after", b"answer")]))
    kept = output.finish()
    assert tree(tmp_path) == {"after": "answer"}
    assert (kept.limits, why(kept)) == (("bytes",), {"big": "bytes"})


def test_a_copy_that_is_under_way_is_seen_to_be_none_and_the_next_one_removes_it(tmp_path: Path) -> None:
    output = OutputFolder(tmp_path, OutputPolicy())
    output.take(archive([TOP, file("a")]))
    assert names(tmp_path) == [PARTIAL]
    write(tmp_path, [file("b")])
    assert (names(tmp_path), tree(tmp_path)) == (["workspace"], {"b": "1"})
    output.discard()
    assert tree(tmp_path) == {"b": "1"}


def test_what_lies_in_the_place_of_a_copy_under_way_is_removed_and_never_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    (tmp_path / PARTIAL).symlink_to(outside)
    write(tmp_path, [file("a")])
    assert ([path.name for path in outside.iterdir()], tree(tmp_path)) == (["precious"], {"a": "1"})


def test_an_earlier_output_is_set_aside(tmp_path: Path) -> None:
    for text in (b"1", b"2", b"3"):
        write(tmp_path, [file("a", text)])
    texts = [(tmp_path / name / "a").read_text() for name in ("workspace.1", "workspace.2", "workspace")]
    assert texts == ["1", "2", "3"]


def test_a_file_that_came_in_part_is_removed(tmp_path: Path) -> None:
    output = OutputFolder(tmp_path, OutputPolicy())
    output.take(archive([TOP, file("a"), file("b", b"x" * 5000)])[:4000])
    kept = output.finish("time")
    assert (tree(tmp_path), kept.files, kept.limits, why(kept)) == ({"a": "1"}, 1, ("time",), {"b": "time"})


def test_an_output_of_which_only_a_part_of_one_file_came_is_no_folder(tmp_path: Path) -> None:
    output = OutputFolder(tmp_path, OutputPolicy())
    output.take(archive([TOP, file("b", b"x" * 5000)])[:4000])
    assert (output.finish("time").path, list(tmp_path.iterdir())) == (None, [])


def test_nothing_is_made_of_an_empty_archive(tmp_path: Path) -> None:
    for members, reason in (([], "it is empty"), ([link("l", "x")], "it is empty"), (b"", "there is no such folder")):
        kept = write(tmp_path, members)
        assert (kept.path, kept.why, list(tmp_path.iterdir())) == (None, reason, [])
    kept = write(tmp_path, archive([(member("output"), b"1")]))
    assert (kept.path, kept.why, why(kept)) == (None, "it is no folder", {".": "file"})


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))
    try:
        with pytest.raises(OSError):
            write(tmp_path, [file("a"), file("b", b"x" * 2**17)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_copy_leaves_room_for_the_trials_that_run_but_a_small_answer_is_written(tmp_path: Path) -> None:
    output = OutputFolder(tmp_path, OutputPolicy(), free_bytes_min=2**62)
    output.take(archive([TOP, file("answer", b"x" * SMALL_BYTES)]))
    output.take(b"")
    more = OutputFolder(tmp_path, OutputPolicy(), free_bytes_min=2**62)
    with pytest.raises(OSError) as caught:
        more.take(archive([TOP, file("heap", b"x" * (SMALL_BYTES + 1))]))
    assert caught.value.errno == errno.ENOSPC
    more.discard()
    output.discard()


parts = st.sampled_from(["a", "b", "..", ".", "", "budget.txt", "new\nline", "é", "x" * 300])
paths = st.lists(parts, min_size=1, max_size=5).map("/".join)
kinds = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["output/", "/", ""]), paths, kinds, st.binary(max_size=40)), max_size=12))
def test_whatever_an_archive_holds_nothing_is_written_outside_and_no_link_is_made(
    entries: list[tuple[str, str, bytes, bytes]],
) -> None:
    with tempfile.TemporaryDirectory() as made:
        place = Path(made) / "run" / "trial"
        place.mkdir(parents=True)
        members = [
            (member(top + path, kind, linkname="../../x"), content if kind == tarfile.REGTYPE else b"")
            for top, path, kind, content in entries
        ]
        kept = write(place, members)
        assert [names(Path(made)), names(place.parent)] == [["run"], ["trial"]]
        assert names(place) == (["workspace"] if kept.path else [])
        found = list((place / "workspace").rglob("*"))
        assert not any(path.is_symlink() or not (path.is_file() or path.is_dir()) for path in found)
        assert sum(path.is_file() for path in found) == kept.files
        assert all(len(path.relative_to(place / "workspace").parts) <= 32 for path in found)
