"""What is not changed leaves as the bytes that came, on every shape."""

import json
from decimal import Decimal

from preflight_proxy.core.shapes.reading import Shape
from preflight_proxy.core.shapes.request_writer import write_request
from tests.support.cases import each
from tests.support.quote_cases import CHAT, MESSAGES, RESPONSES, read

ODD = (
    b'[ {"role" :"user",  "content":"a\\u00e9\\/\\n \xc3\xa9 \\ud83d\\ude00"  ,"x":123456789012345678901234567890.10e-2 ,'
    b'"b":1,"a":2 } ,\n\t{"role":"assistant","content":null} ]'
)
TOOLS = b'[ {"type":"function" , "function":{"name":"z\\u0061","parameters":{"b":{},"a":1.0}}} ]'


@each(
    "shape, fields",
    [
        (CHAT, {"messages": ODD, "tools": TOOLS, "response_format": b'{ "type":"text" }', "temperature": b"1.0"}),
        (RESPONSES, {"input": ODD, "tools": TOOLS.replace(b'"function":{', b'"f":{'), "instructions": b'"x\\u0041"'}),
        (
            MESSAGES,
            {
                "messages": ODD,
                "tools": b'[ {"name":"a" ,"input_schema":{ }} ]',
                "system": b'[ {"type":"text","text":"\\u0041"} ]',
            },
        ),
    ],
)
def test_unchanged_slices_leave_byte_for_byte_and_in_order(shape: Shape, fields: dict[str, bytes]) -> None:
    body = b'{ "model" : "a/b" ,' + b" , ".join(b'"%b" : %b' % (k.encode(), v) for k, v in fields.items()) + b" }"
    sent = write_request(read(shape, body), bound=100, only=("t",), max_price={"prompt": Decimal("0.15")})
    places = [sent.index(b'"%b":%b' % (name.encode(), raw)) for name, raw in fields.items()]
    assert places == sorted(places)
    assert sent.endswith(b'"provider":{"only":["t"],"max_price":{"prompt":0.15}}}')
    assert json.loads(sent)["model"] == "a/b"


def test_a_routing_object_is_written_as_it_was_read_pinned_and_capped_at_the_smaller_price() -> None:
    wish = {
        "order": ["x", "y"],
        "only": ["x", "y", "z"],
        "max_price": {"prompt": "1.5", "completion": 100, "image": 0.5},
        "allow_fallbacks": False,
        "options": {"x": {"fast": True}},
    }
    request = read(CHAT, {"model": "a/b", "messages": [], "provider": wish})
    assert request.dropped == ("provider.options",)
    sent = write_request(
        request, bound=None, only=("x/fp8",), max_price={"prompt": Decimal(3), "completion": Decimal(15)}
    )
    assert json.loads(sent)["provider"] == {
        "order": ["x", "y"],
        "allow_fallbacks": False,
        "only": ["x/fp8"],
        "max_price": {"prompt": 1.5, "completion": 15, "image": 0.5},
    }


def test_without_pins_caps_or_wishes_no_routing_object_is_written() -> None:
    assert write_request(read(CHAT, {"model": "a/b", "messages": []}), bound=None, only=(), max_price={}) == (
        b'{"model":"a/b","messages":[]}'
    )


def test_a_top_level_key_that_comes_twice_leaves_once() -> None:
    sent = write_request(read(CHAT, b'{"model":"a/b","model":"c/d","messages":[]}'), bound=None, only=(), max_price={})
    assert sent == b'{"model":"c/d","messages":[]}'
