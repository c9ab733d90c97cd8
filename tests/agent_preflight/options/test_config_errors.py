"""Messages for a person, from messages for a programmer."""

from agent_preflight.options.config_errors import explained, known_keys
from agent_preflight.options.run_file import Mount, Stall, file_table, tables
from tests.support.cases import each


@each(
    "message, told",
    [
        ("Object contains unknown field `imag`", "unknown key 'imag': do you mean 'image'?"),
        (
            "Expected `decimal | null`, got `bool` - at `$.models[1].budget`",
            "models[1].budget: must be a number, not true or false.",
        ),
        ("Invalid enum value 'r' - at `$.mounts[0].mode`", "mounts[0].mode: invalid enum value 'r'; known are ro, rw."),
        ("Something new - at `$.env[...]`", "env[...]: something new."),
        ("Something new", "something new."),
    ],
)
def test_a_message_names_the_place_as_the_file_has_it(message: str, told: str) -> None:
    assert explained(message, tables()) == told


def test_a_place_that_no_table_knows_is_no_reason_to_fail() -> None:
    assert "known are" in explained("Object contains unknown field `x` - at `$.nowhere`", tables())


def test_the_key_that_tells_a_tables_kind_is_a_key_too() -> None:
    assert known_keys(Stall) == ("policy", "threshold")
    assert known_keys(Mount) == ("source", "target", "mode")
    assert "image" in known_keys(file_table())
