"""`run` can read the file that `init` writes: as it is, and with every commented key in force."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

from agent_preflight.options.config_file import known_keys, parse_config, tables
from agent_preflight.options.settings import COMMAND_NETWORK, DEFAULTS, read_option

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = (ROOT / "agent_preflight" / "options" / "example.toml").read_text("utf-8")
DOCS = ROOT / "docs" / "config.md"
INSTEAD = {"prompt_file"}
"""Keys that contradict another key, so that the example has them in a comment only."""
EXAMPLES = {
    *(
        "models",
        "image_name",
        "container_args",
        "command",
        "initial_prompt",
        "egress",
        "mounts",
        "pass_env",
        "env_file",
    ),
    *("memory", "cpus", "docker_args", "timeout_s", "openrouter_base_url", "env", "services", "preflight_kwargs"),
    *("eject_policy", "output_path", "expect_tokens", "score", "score_image", "tags", "notify"),
}
"""Options that have no default, so that the example shows other values."""
IN_WORDS = {"models[]"}
"""Tables that the page describes, and the example leaves out for brevity."""


def uncommented() -> str:
    """Return the example with every commented key in force. Those lines begin with `#` and no blank."""
    lines = EXAMPLE.splitlines()
    return "\n".join(line[1:] if line[:1] == "#" and line[1:2] not in (" ", "") else line for line in lines)


def keys_at(document: object, place: str) -> set[str]:
    """Return the keys that a document uses at a place such as `preflight.infra[]`."""
    found: list[object] = [document]
    for part in filter(None, place.split(".")):
        name = part.removesuffix("[]")
        inner = [each[name] for each in found if isinstance(each, Mapping) and name in each]
        found = [item for each in inner for item in each] if part.endswith("[]") else inner
    return {key for each in found if isinstance(each, Mapping) for key in each}


def test_the_example_is_a_configuration() -> None:
    config = parse_config(EXAMPLE)
    assert config["image_name"] == "my-agent"
    assert len(config["models"]) == 2


def test_the_example_with_every_key_in_force_is_a_configuration() -> None:
    config = parse_config(uncommented())
    assert config["network"] == "sealed"
    assert [type(policy).__name__ for policy in config["eject_policy"]] == [
        *("BudgetExceeded", "IdleTimeout", "Stall", "BudgetFraction", "Progress")
    ]


def test_the_example_names_every_key_that_is_known() -> None:
    document = tomllib.loads(uncommented())
    for place in tables():
        if place not in IN_WORDS:
            assert set(known_keys(place)) - keys_at(document, place) <= INSTEAD, place


def test_the_page_names_every_key_that_is_known() -> None:
    page = DOCS.read_text("utf-8")
    known = {key for place in tables() for key in known_keys(place)}
    assert sorted(key for key in known if f"`{key}`" not in page) == []


def test_defaults_in_the_example_are_those_of_the_code() -> None:
    config = parse_config(uncommented())
    shown = {name: read_option(name, value) for name, value in config.items() if name not in EXAMPLES}
    assert shown == {name: {**DEFAULTS, "network": COMMAND_NETWORK}[name] for name in shown}
