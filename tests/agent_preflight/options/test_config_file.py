"""What a configuration file may say, which file is read, and the errors for what is wrong in it."""

from decimal import Decimal
from pathlib import Path

import pytest

from agent_preflight.options.config_file import (
    explained,
    known_keys,
    load_config,
    parse_config,
    parse_pyproject,
    tables,
)
from agent_preflight.options.naming import NamedModel
from agent_preflight.options.text_files import BYTES_MAX
from preflight_proxy.core.errors import ConfigError
from tests.support.cases import each


def error(text: str) -> str:
    """Return the error of a file that is wrong."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    return str(caught.value)


def test_an_empty_file_gives_no_option() -> None:
    assert parse_config("") == {}


def test_amounts_are_exact_whether_in_quotes_or_not() -> None:
    for text in ("0.1", '"0.1"', '"$0.1"', "1e-1"):
        assert parse_config(f"budget = {text}") == {"budget_usd": Decimal("0.1")}
    assert parse_config("budget = 123456.123456789012") == {"budget_usd": Decimal("123456.123456789012")}


def test_models_and_mounts_may_be_texts_or_tables() -> None:
    config = parse_config(
        'models = ["a/b=x", { id = "c/d", budget = 1 }]\nmounts = ["/h:/c", { source = "s", target = "/t" }]'
    )
    assert config["models"] == (NamedModel("a/b", "x"), NamedModel("c/d", "d", budget_usd=Decimal(1)))
    assert config["mounts"] == ("/h:/c", "s:/t:rw")


@each(
    "text, near",
    [
        ("imge = 'x'", "do you mean 'image'?"),
        ("budget_usd = 1", "do you mean 'budget'?"),
        ("container_args = []", "do you mean 'arguments'?"),
        ("timeout = 1", "do you mean 'timeout_s'?"),
        ("max_worker = 1", "do you mean 'max_workers'?"),
        ("models = [{ id = 'x', budgt = 1 }]", "models[0]: unknown key 'budgt': do you mean 'budget'?"),
        ("[preflight]\ncheck = []", "preflight: unknown key 'check': do you mean 'checks'?"),
        (
            "[[policies]]\npolicy = 'stall'\ntreshold = 3",
            "policies[0]: unknown key 'treshold': do you mean 'threshold'?",
        ),
        (
            "[[preflight.infra]]\ncheck = 'http_health'\nurll = 'x'",
            "preflight.infra[0]: unknown key 'urll': do you mean 'url'?",
        ),
    ],
)
def test_an_unknown_key_is_an_error_that_names_the_nearest_known_key(text: str, near: str) -> None:
    assert near in error(text)


def test_an_unknown_key_that_is_like_no_other_is_an_error_that_lists_all_keys() -> None:
    assert "known are models, budget, image" in error("zzzzzz = 1")


@each("key", ["admin_key", "or_key", "OPENROUTER_API_KEY"])
def test_api_keys_do_not_belong_into_a_file(key: str) -> None:
    assert "OR_ADMIN_KEY" in error(f"{key} = 'sk-or-secret'")
    assert "sk-or-secret" not in error(f"{key} = 'sk-or-secret'")


@each(
    "text, where",
    [
        ("budget = true", "budget is dollars above 0 and at most 1000000, such as 0.25, not 'True'"),
        ("models = 'a/b'", "models: expected a list, got a text in quotes."),
        ("models = [3]", "models[0]: expected a text in quotes or a table, got a whole number."),
        ("max_workers = 2.5", "max_workers is a whole number above 0, not '2.5'."),
        ("parallel = 1", "parallel is true or false, not '1'."),
        ("timeout_s = 0", "timeout_s is a number of seconds above 0, not"),
        ("models = ['a/b', { id = 'x', budget = '' }]", "models[1].budget is dollars"),
        ("models = ['a b']", "models: 'a b' cannot be a model's id"),
        ("arguments = [3]", "arguments[0]: expected a text in quotes, got a whole number."),
        ("mounts = ['a']", "mounts: a mount is (host, container, mode)"),
        ("mounts = [{ source = '/a', target = '/b', mode = 'r' }]", "mounts: the mount's mode 'r' is not one"),
        ("[[policies]]\npolicy = 'progress'\nwindow_usd = 0", "policies[0].window_usd is dollars"),
        ("[env]\nA = 1", "env[...]: expected a text in quotes, got a whole number."),
        ("sandbox = 'dokcer'", "sandbox is 'docker' or 'process', not 'dokcer'."),
        ("[[policies]]\npolicy = 'stal'", "known are budget_exceeded, budget_fraction, idle_timeout, progress, stall"),
        ("[[policies]]\nthreshold = 3", "policies[0]: the key 'policy' is missing"),
        ("[[preflight.infra]]\ncheck = 'http_health'", "preflight.infra[0]: the key 'url' is missing"),
        ("prompt = 'x'\nprompt_file = 'y'", "contradict"),
        ("models = = 3", "line 1"),
    ],
)
def test_a_wrong_value_is_an_error_that_says_where(text: str, where: str) -> None:
    assert where in error(text)
    assert error(text).startswith("preflight.toml: ")


def test_a_pyproject_may_hold_the_same_keys() -> None:
    assert parse_pyproject("[tool.agent-preflight]\nimage = 'x'") == {"image_name": "x"}
    assert parse_pyproject("[tool.other]\nimage = 'x'") is None
    assert parse_pyproject("tool = 3") is None
    with pytest.raises(ConfigError, match=r"\[tool.agent-preflight\]: unknown key 'imag': do you mean 'image'"):
        parse_pyproject("[tool.agent-preflight]\nimag = 'x'")


def test_the_first_key_of_a_table_that_has_kinds_tells_the_kind() -> None:
    assert {place: known_keys(place)[0] for place in tables()} == {
        "": "models",
        "models[]": "id",
        "mounts[]": "source",
        "policies[]": "policy",
        "preflight": "checks",
        "preflight.infra[]": "check",
    }


@each(
    "message, sentence",
    [
        ("Something new - at `$.env[...]`", "env[...]: something new."),
        ("Something new", "Something new."),
        ("Expected `object`, got `array`", "Expected a table, got a list."),
        ("Object contains unknown field `x` - at `$.nowhere`", "nowhere: unknown key 'x': known are ."),
    ],
)
def test_a_message_that_is_not_known_begins_with_its_place(message: str, sentence: str) -> None:
    assert explained(message) == sentence


def test_without_a_file_there_are_no_options(tmp_path: Path) -> None:
    assert load_config(None, tmp_path) == ({}, None)


def test_preflight_toml_wins_over_pyproject_toml(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.agent-preflight]\nimage = 'p'")
    assert load_config(None, tmp_path)[0]["image_name"] == "p"
    (tmp_path / "preflight.toml").write_text("image = 'f'")
    assert load_config(None, tmp_path) == ({"image_name": "f"}, tmp_path / "preflight.toml")


def test_a_pyproject_without_our_table_is_an_error_only_if_it_was_named(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'")
    assert load_config(None, tmp_path) == ({}, None)
    with pytest.raises(ConfigError, match="no table"):
        load_config(tmp_path / "pyproject.toml", tmp_path)


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "other.toml", tmp_path)


@pytest.mark.parametrize("content", [b"image = '\xff'", b"#" * (BYTES_MAX + 1)])
def test_a_large_file_or_one_that_is_not_utf8_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "preflight.toml").write_bytes(content)
    with pytest.raises(ConfigError):
        load_config(None, tmp_path)


def test_paths_are_relative_to_the_folder_of_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    path = folder / "preflight.toml"
    path.write_text(
        'prompt_file = "task.txt"\nenv_file = ["a.env", "/b.env"]\n'
        'mounts = ["./a:/a:ro", "volume:/v", "/abs:/b", "~/x:/x", { source = "../c", target = "/c" }]'
    )
    config, _ = load_config(path, tmp_path)
    assert (config["prompt_file"], config["env_file"]) == (f"{folder}/task.txt", (f"{folder}/a.env", "/b.env"))
    assert config["mounts"] == (
        f"{folder}/a:/a:ro",
        "volume:/v",
        "/abs:/b",
        f"{Path.home()}/x:/x",
        f"{tmp_path}/c:/c:rw",
    )


def test_a_mount_above_a_linked_folder_is_above_the_folder_that_the_link_names(tmp_path: Path) -> None:
    (tmp_path / "real" / "project").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "project")
    (tmp_path / "link" / "preflight.toml").write_text('mounts = ["../data:/data"]')
    config, _ = load_config(tmp_path / "link" / "preflight.toml", tmp_path)
    assert config["mounts"] == (f"{(tmp_path / 'real').resolve()}/data:/data",)


def test_a_file_in_the_home_of_a_user_who_does_not_exist_is_an_error_once_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "preflight.toml").write_text(
        'prompt_file = "~nobody-of-that-name/p"\nenv_file = "~nobody-of-that-name/e"'
    )
    config, _ = load_config(None, tmp_path)
    home = tmp_path / "~nobody-of-that-name"
    assert config == {"prompt_file": str(home / "p"), "env_file": (str(home / "e"),)}
