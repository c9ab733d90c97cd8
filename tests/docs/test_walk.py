"""How a page is walked: what is run, what is written, and when what was printed counts as what is shown."""

import os
from pathlib import Path

import pytest

from tests.docs.walk import Shell, compared, plain, put, steps, updated, walk
from tests.support.cases import each

PAGE = """# A page

`some/file.txt`:

```text
hello
```

```bash
NAME=world
cat some/file.txt
```

It prints:

```text
hello
```

<!-- not run: it is dear -->
```bash
false
```

```bash
echo "$NAME has 17 coins"; echo done
```

```text
world has 3 coins
...
```

## Another section

```bash
true
```

### Later

```text
a drawing
```
"""


def test_a_page_is_files_commands_and_what_they_print() -> None:
    found = steps(PAGE)
    assert [step.path for step in found] == ["some/file.txt", "", "", ""]
    assert [step.printed for step in found] == [None, "hello\n", "world has 3 coins\n...\n", None]
    assert "false" not in str(found)


@pytest.mark.wire
def test_a_shell_keeps_its_variables_and_figures_are_taken_over(tmp_path: Path) -> None:
    ran = list(walk(PAGE, tmp_path, dict(os.environ), {"coins": "pence"}))
    assert [each.output for each in ran] == ["hello\n", "world has 17 pence\ndone\n", ""]
    assert not any(each.failed for each in ran)
    assert compared("world has 3 coins\n...\n", ran[1].output)[1] == ["world has 3 coins"]
    again = list(walk(PAGE, tmp_path, dict(os.environ), {}))
    assert "world has 17 coins\n...\n" in updated(PAGE, again)


@pytest.mark.wire
@pytest.mark.parametrize("block", ["false\ntrue", "ls nowhere | cat && ls nowhere", "cat < nowhere; true"])
def test_a_command_that_fails_is_noticed(tmp_path: Path, block: str) -> None:
    shell = Shell(tmp_path, dict(os.environ))
    try:
        output, failed = shell.run(block)
        assert failed, output
        assert shell.run("echo still here") == ("still here\n", False)
    finally:
        shell.end()


def lives(pid: int) -> bool:
    """Tell whether a process is there and not dead; a dead one may wait for somebody to reap it."""
    try:
        os.kill(pid, 0)
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.wire
def test_what_runs_in_the_background_is_ended_with_the_shell(tmp_path: Path) -> None:
    shell = Shell(tmp_path, dict(os.environ))
    try:
        output, _ = shell.run("sleep 600 &\necho $!")
        assert lives(int(output))
    finally:
        shell.end()
    assert not lives(int(output))


def test_a_file_that_is_there_has_the_text_that_is_shown(tmp_path: Path) -> None:
    put(tmp_path / "a" / "b", "text")
    put(tmp_path / "a" / "b", "text")
    with pytest.raises(AssertionError, match="b is not what the page shows"):
        put(tmp_path / "a" / "b", "other text")


@each(
    "one, other",
    [
        ("nano  done   4  $0.0001  3.6s", "nano  done  14  $0.1201  12.1s"),
        ("runs/run-20261130-004614/nano", "runs/run-20270101-010203-2/nano".replace("-2/", "/")),
        ("time  0m01s", "time  12s"),
        (
            "token pf-9oC6QVJUAt97TNaytxZXoHqc-VDE2F80G_E1vBHUTaM",
            "token pf-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_a-aaa",
        ),
        ("sha256:8a921c9380cc438d7f68485ebefbcca59002", "sha256:0000000000000000000000000000000000000"),
    ],
)
def test_figures_ids_and_spaces_may_differ(one: str, other: str) -> None:
    assert plain(one) == plain(other)


@each("one, other", [("nano done", "nano failed"), ("-$1.00", "$1.00"), ("a b", "ab"), ("$1.00", "1.00")])
def test_words_and_signs_may_not(one: str, other: str) -> None:
    assert plain(one) != plain(other)


@each(
    "shown, printed, missing",
    [
        ("a\nb 1\n", "a\n\nb 2\n", []),
        ("a\n", "a\nb\n", ["(nothing more; but it printed ['b'])"]),
        ("a\n...\n", "a\nb\n", []),
        ("...\nb\n", "a\na\nb\n", []),
        ("b\n", "a\nb\n", ["b"]),
        ("a\nc\n...\n", "a\nb\nc\n", ["c"]),
        ("...\na\n...\nb\n", "b\na\n", ["b"]),
        ("...\n", "", []),
    ],
)
def test_dots_stand_for_any_lines_and_nothing_else_does(shown: str, printed: str, missing: list[str]) -> None:
    assert compared(shown, printed)[1] == missing
