"""One base for all errors of operation."""

import pytest

from preflight_proxy.core.errors import ConfigError, LedgerError, OperatingError, UpstreamError
from tests.support.cases import each


@each("kind", [ConfigError, LedgerError, UpstreamError])
def test_every_operating_error_is_caught_by_the_base_and_as_a_runtime_error(kind: type[OperatingError]) -> None:
    with pytest.raises(OperatingError, match="disk"):
        raise kind("disk full")
    assert issubclass(kind, RuntimeError)
