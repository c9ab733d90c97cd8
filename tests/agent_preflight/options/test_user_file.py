"""Which file configures a run, and where its paths lead."""

from pathlib import Path

import pytest

from agent_preflight.options.text_files import BYTES_MAX
from agent_preflight.options.user_file import load_config
from preflight_proxy.core.errors import ConfigError


def test_without_a_file_nothing_is_configured(tmp_path: Path) -> None:
    assert load_config(None, tmp_path) == ({}, None)


def test_preflight_toml_comes_before_pyproject_toml(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.agent-preflight]\nimage = 'p'")
    assert load_config(None, tmp_path)[0]["image_name"] == "p"
    (tmp_path / "preflight.toml").write_text("image = 'f'")
    assert load_config(None, tmp_path) == ({"image_name": "f"}, tmp_path / "preflight.toml")


def test_a_pyproject_without_our_table_is_nobodys_business(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'")
    assert load_config(None, tmp_path) == ({}, None)
    with pytest.raises(ConfigError, match="no table"):
        load_config(tmp_path / "pyproject.toml", tmp_path)


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "other.toml", tmp_path)


@pytest.mark.parametrize("content", [b"image = '\xff'", b"#" * (BYTES_MAX + 1)])
def test_what_is_no_configuration_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "preflight.toml").write_bytes(content)
    with pytest.raises(ConfigError):
        load_config(None, tmp_path)


def test_paths_are_taken_from_the_files_own_folder(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    path = folder / "preflight.toml"
    path.write_text(
        'prompt_file = "task.txt"\nenv_file = ["a.env", "/b.env"]\n'
        'mounts = ["./a:/a:ro", "volume:/v", "/abs:/b", { source = "../c", target = "/c" }]'
    )
    config, _ = load_config(path, tmp_path)
    assert (config["prompt_file"], config["env_file"]) == (f"{folder}/task.txt", [f"{folder}/a.env", "/b.env"])
    assert config["mounts"] == [
        f"{folder}/a:/a:ro",
        "volume:/v",
        "/abs:/b",
        (f"{tmp_path}/c", "/c", "rw"),
    ]
