"""`agent-preflight init` writes a file once."""

from pathlib import Path

from agent_preflight.options.config_file import parse_config
from tests.support.cli_commands import invoke


def test_a_file_is_written_that_run_understands_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "preflight.toml"
    first = invoke("init", str(path))
    assert (first.exit_code, parse_config(path.read_text())["image_name"]) == (0, "my-agent")
    path.write_text("mine")
    second = invoke("init", str(path))
    assert (second.exit_code, path.read_text()) == (1, "mine")
    assert "stays as it is" in second.output


def test_a_folder_that_is_not_there_is_said_in_a_line(tmp_path: Path) -> None:
    result = invoke("init", str(tmp_path / "no" / "preflight.toml"))
    assert result.exit_code == 1
    assert "cannot be written" in result.output
