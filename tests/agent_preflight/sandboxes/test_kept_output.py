"""What is wished of an output folder and what came of it, as labels, records and summaries hold them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent_preflight.sandboxes.kept_output import KEEP_OFF, RECORD, KeptOutput, OutputPolicy, set_workspace_aside
from tests.support.cases import each

WISH = OutputPolicy("/out", 1.5, 10, 20, 3, ("data",))


def test_a_label_says_all_that_a_sweep_needs() -> None:
    assert OutputPolicy.read(WISH.text()) == WISH


def test_a_label_of_what_is_not_to_be_copied_is_empty() -> None:
    assert OutputPolicy(unkept="no").text() == ""
    assert OutputPolicy.read("") is None


@each("text", ["{", "[]", "null", '{"timeout_s": "long"}', '{"files_max": 1.5}'])
def test_a_label_that_is_none_of_ours_is_none(text: str) -> None:
    assert OutputPolicy.read(text) is None


def test_a_record_is_read_back(tmp_path: Path) -> None:
    kept = KeptOutput("/x/workspace", 1, 2, ({"path": "l", "why": "link"},), 1, ("time",))
    kept.write_record(tmp_path, "c0ffee")
    record = json.loads((tmp_path / RECORD).read_text())
    assert (record["container"], KeptOutput.read(record["output"])) == ("c0ffee", kept)
    assert [path.name for path in tmp_path.iterdir()] == [RECORD]


def test_a_record_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    KeptOutput().write_record(tmp_path / "nowhere", "c")
    assert KeptOutput.read({"files": "many"}) is None


def test_the_warning_names_each_limit_with_its_figure_and_its_option() -> None:
    kept = KeptOutput(limits=("time", "bytes", "files", "depth", "archive"))
    text = str(kept.warning(WISH))
    for told in ("1.5 s (output_timeout_s)", "10 bytes", "20 files", "3 levels", "what the engine could read", "/out"):
        assert told in text


def test_an_output_is_set_aside_under_its_attempts_number_and_never_over_another(tmp_path: Path) -> None:
    set_workspace_aside(tmp_path)
    (tmp_path / "workspace.1").mkdir()
    (tmp_path / "workspace").mkdir()
    with pytest.raises(FileExistsError):
        set_workspace_aside(tmp_path, 1)
    set_workspace_aside(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["workspace.1", "workspace.2"]


def test_an_agent_that_wrote_nothing_is_told_from_an_output_that_was_not_kept() -> None:
    assert KeptOutput(why="there is no such folder").is_nothing
    assert KeptOutput(why="it is empty").is_nothing
    for kept in (KeptOutput(path="/x"), KeptOutput(why=KEEP_OFF), KeptOutput(why="it could not be copied yet")):
        assert not kept.is_nothing
