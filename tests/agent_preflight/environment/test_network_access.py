"""What agents may reach besides the proxy: options, errors, variables."""

from __future__ import annotations

from typing import Any

import pytest

from agent_preflight.environment.network_access import (
    NetworkAccess,
    network_env,
    network_warnings,
    proxy_warnings,
    read_network_access,
)
from agent_preflight.environment.variables import NO_PROXY_VARIABLES, PROXY_VARIABLES
from preflight_proxy.base.control_messages import EgressSpec, ServiceSpec
from preflight_proxy.core.errors import ConfigError
from tests.support.cases import each

BOTH = read_network_access({"los": "127.0.0.1:3000", "db:5433": "db.example:5432"}, ["pypi.org:443"], "sealed")


def test_without_options_nothing_is_reached() -> None:
    assert read_network_access(None, None, "bridge") == NetworkAccess()
    assert NetworkAccess().ports == (8788, 443)
    assert NetworkAccess().way_out is None
    assert network_warnings(NetworkAccess(), {}, in_container=False) == []


def test_a_service_has_the_port_of_its_target_unless_it_names_another() -> None:
    assert BOTH.openings == (
        ServiceSpec("los", 3000, "127.0.0.1:3000"),
        ServiceSpec("db:5433", 5433, "db.example:5432"),
    )
    assert BOTH.names == {"los": "127.0.0.1:3000", "db": "db.example:5432"}
    assert BOTH.way_out == EgressSpec(8789, ("pypi.org:443",))
    assert BOTH.ports == (8788, 443, 8789, 3000, 5433)
    assert BOTH.document() == {
        "services": {"los": "127.0.0.1:3000", "db:5433": "db.example:5432"},
        "egress": ["pypi.org:443"],
    }


def test_one_host_may_have_services_on_several_ports() -> None:
    reach = read_network_access({"Los:1": "127.0.0.1:3000", "los:2": "127.0.0.1:3001"}, None, "bridge")
    assert list(reach.names) == ["los"]
    assert [opening.name for opening in reach.openings] == ["los:1", "los:2"]


@each(
    "services, why",
    [
        ({"los": "127.0.0.1"}, "HOST:PORT"),
        ({"l os": "127.0.0.1:3000"}, "host name"),
        ({"": "127.0.0.1:3000"}, "host name"),
        ({"openrouter.ai": "127.0.0.1:3000"}, "can be named"),
        ({"localhost": "127.0.0.1:3000"}, "can be named"),
        ({"egress": "127.0.0.1:3000"}, "can be named"),
        ({"127.0.0.1": "127.0.0.1:3000"}, "can be named"),
        ({"[::1]": "127.0.0.1:3000"}, "can be named"),
        ({"los": "127.0.0.1:443"}, "port 443 inside the trial, which the proxy itself has"),
        ({"los": "127.0.0.1:8788"}, "'los:PORT'"),
        ({"los": "127.0.0.1:8789"}, "port 8789 inside the trial, which the proxy itself has"),
        ({"a": "10.0.0.1:80", "b": "10.0.0.2:80"}, "which 'a' has"),
        ({f"s{n}": f"127.0.0.1:{3000 + n}" for n in range(33)}, "at most 32"),
    ],
)
def test_a_service_that_cannot_be_used_is_an_error_with_the_reason(services: dict[str, str], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        read_network_access(services, None, "sealed")


@each(
    "egress, network, why",
    [
        (["pypi.org"], "sealed", "HOST:PORT"),
        ("pypi.org:443", "sealed", "a list"),
        (["pypi.org:443"], "bridge", "use network='sealed'"),
    ],
)
def test_an_egress_list_that_cannot_be_used_is_an_error_with_the_reason(egress: Any, network: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        read_network_access(None, egress, network)


NONE = dict.fromkeys(PROXY_VARIABLES + NO_PROXY_VARIABLES, "")


def test_a_sealed_agent_has_no_proxy_and_others_get_the_exceptions() -> None:
    assert network_env(NetworkAccess(), {}, in_container=True, network="sealed") == NONE
    image = {"no_proxy": "image.example"}
    env = network_env(NetworkAccess(), {}, in_container=True, network="bridge", image=image)
    assert env == dict.fromkeys(NO_PROXY_VARIABLES, "127.0.0.1,localhost,openrouter.ai,image.example")
    for network in ("bridge", "sealed", "host"):
        env = network_env(BOTH, {"HTTP_PROXY": "http://mine:1", "no_proxy": "x"}, in_container=False, network=network)
        assert env["NO_PROXY"] == env["no_proxy"] == "127.0.0.1,localhost,x"
        assert not set(PROXY_VARIABLES) & env.keys()


def test_a_proxy_that_a_sealed_trial_may_not_reach_is_a_warning() -> None:
    user = {"all_proxy": "http://mine:1", "FTP_PROXY": "http://mine:2", "HTTP_PROXY": "", "NO_PROXY": "x"}
    (warning,) = proxy_warnings(NetworkAccess(), user, "sealed")
    assert warning.startswith("all_proxy, FTP_PROXY in env are yours: in a sealed trial")
    assert "mine:1" not in warning
    assert proxy_warnings(NetworkAccess(), user, "bridge") == []
    assert proxy_warnings(BOTH, user, "sealed") == []
    assert proxy_warnings(NetworkAccess(), {"HTTP_PROXY": "", "NO_PROXY": "x"}, "sealed") == []


def test_an_agent_gets_the_addresses_of_services_as_it_reaches_them() -> None:
    services = NetworkAccess(services=BOTH.services)
    inside = {"PREFLIGHT_SERVICE_LOS": "los:3000", "PREFLIGHT_SERVICE_DB_5433": "db:5433"}
    assert network_env(services, {}, in_container=True, network="sealed") == inside | NONE
    past = dict.fromkeys(NO_PROXY_VARIABLES, "127.0.0.1,localhost")
    outside = {"PREFLIGHT_SERVICE_LOS": "127.0.0.1:3000", "PREFLIGHT_SERVICE_DB_5433": "db.example:5432"}
    assert network_env(BOTH, {}, in_container=False, network="sealed") == outside | past


def test_an_agent_with_an_egress_list_gets_a_proxy_with_exceptions_for_the_gate() -> None:
    user = {"no_proxy": "mine.example", "PREFLIGHT_SERVICE_LOS": "mine"}
    env = network_env(BOTH, user, in_container=True, network="sealed")
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"):
        assert env[name] == "http://127.0.0.1:8789"
    assert env["NO_PROXY"] == env["no_proxy"] == "127.0.0.1,localhost,openrouter.ai,los,db,mine.example"
    assert env["NODE_USE_ENV_PROXY"] == "1"
    assert "PREFLIGHT_SERVICE_LOS" not in env


def test_a_users_own_proxy_wins_with_a_warning() -> None:
    user = {"https_proxy": "http://mine:1"}
    env = network_env(BOTH, user, in_container=True, network="sealed")
    assert not [name for name in PROXY_VARIABLES if env.get(name)]
    (warning,) = network_warnings(BOTH, user, in_container=True)
    assert "https_proxy" in warning
    assert "8789" in warning


def test_services_and_egress_without_containers_are_a_warning() -> None:
    assert network_warnings(BOTH, {}, in_container=True) == []
    (warning,) = network_warnings(BOTH, {}, in_container=False)
    assert warning.startswith("services and egress have no effect without containers")
