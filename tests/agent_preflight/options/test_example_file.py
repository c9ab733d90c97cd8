"""The file that `init` writes is one that `run` understands, as it stands and with every comment taken away."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

from agent_preflight.options.config_errors import known_keys
from agent_preflight.options.example_file import TEMPLATE, uncommented
from agent_preflight.options.run_file import parse_config, tables
from agent_preflight.options.settings import COMMAND_NETWORK, defaults, read_option

DOCS = Path(__file__).resolve().parents[3] / "docs" / "config.md"
INSTEAD = {"prompt_file"}
"""Keys that contradict another one, and so stand in words."""
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
    *("eject_policy", "output_path", "expect_tokens"),
}
"""Options that have no default to show."""
IN_WORDS = {"models[]"}
"""Tables that the page describes, and the template leaves out for brevity."""


def keys_at(document: object, place: str) -> set[str]:
    """Return the keys that a document uses at a place such as `preflight.infra[]`."""
    found: list[object] = [document]
    for part in filter(None, place.split(".")):
        name = part.removesuffix("[]")
        inner = [each[name] for each in found if isinstance(each, Mapping) and name in each]
        found = [item for each in inner for item in each] if part.endswith("[]") else inner
    return {key for each in found if isinstance(each, Mapping) for key in each}


def test_the_template_is_a_configuration() -> None:
    config = parse_config(TEMPLATE)
    assert config["image_name"] == "my-agent"
    assert len(config["models"]) == 2


def test_the_template_with_every_key_in_force_is_one_too() -> None:
    config = parse_config(uncommented())
    assert config["network"] == "sealed"
    assert [type(policy).__name__ for policy in config["eject_policy"]] == [
        *("BudgetExceeded", "IdleTimeout", "Stall", "BudgetFraction", "Progress")
    ]


def test_the_template_names_every_key_that_is_known() -> None:
    document = tomllib.loads(uncommented())
    for place, kinds in tables().items():
        known = {key for kind in kinds for key in known_keys(kind)}
        if place not in IN_WORDS:
            assert known - keys_at(document, place) <= INSTEAD, place


def test_the_page_names_every_key_that_is_known() -> None:
    page = DOCS.read_text("utf-8")
    known = {key for kinds in tables().values() for kind in kinds for key in known_keys(kind)}
    assert sorted(key for key in known if f"`{key}`" not in page) == []


def test_defaults_in_the_template_are_those_of_the_code() -> None:
    config = parse_config(uncommented())
    shown = {name: read_option(name, value) for name, value in config.items() if name not in EXAMPLES}
    assert shown == {name: {**defaults(), "network": COMMAND_NETWORK}[name] for name in shown}
