"""The routing object is read strictly, and what it means for prices is kept."""

from decimal import Decimal

import pytest

from preflight_proxy.core.shapes.body import BadRequest
from preflight_proxy.core.shapes.provider import ProviderPreferences, read_provider, serves
from tests.support.cases import each


def test_no_object_is_no_wish() -> None:
    assert read_provider(None) == read_provider(b"null") == read_provider(b"{}") == ProviderPreferences()


def test_every_wish_is_read() -> None:
    wish = read_provider(
        b'{"only":["a"],"ignore":["b"],"max_price":{"prompt":"0.5","completion":2,"image":null,"x":1},'
        b'"require_parameters":true,"zdr":true,"new":1}'
    )
    assert wish.only == ("a",)
    assert wish.ignore == ("b",)
    assert wish.max_price == {"prompt": Decimal("0.5"), "completion": Decimal(2)}
    assert wish.require_parameters
    assert wish.rest == {"ignore": b'["b"]', "require_parameters": b"true", "zdr": b"true"}
    assert wish.dropped == ("provider.new",)


@each(
    "raw",
    [
        b"7",
        b'{"only":"a"}',
        b'{"only":[1]}',
        b'{"ignore":[null]}',
        b'{"ignore":[' + b'"a",' * 1000 + b'"a"]}',
        b'{"max_price":3}',
        b'{"max_price":{"prompt":-1}}',
        b'{"max_price":{"prompt":"1e900000"}}',
        b'{"max_price":{"prompt":true}}',
        b'{"max_price":{"prompt":[1]}}',
        b'{"sort":"throughput"}',
        b'{"sort":{"by":"throughput"}}',
    ],
)
def test_a_wish_that_cannot_be_kept_is_refused(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        read_provider(raw)


def test_a_number_among_names_is_no_name() -> None:
    with pytest.raises(BadRequest, match="list of names"):
        read_provider(b'{"only":["a",1]}')


def test_an_endpoint_is_meant_by_its_tag_its_provider_part_or_its_provider_name() -> None:
    for name in ("deepinfra/fp8", "DeepInfra", "deepinfra", "Deep Infra"):
        assert serves([name], "deepinfra/fp8", "Deep Infra")
    assert not serves(["deepinfra/bf16", "fp8"], "deepinfra/fp8", "Deep Infra")
    assert not serves([], "deepinfra", "DeepInfra")
