"""What Podman wants otherwise; that a trial on it is closed is shown by the container tests, run with PREFLIGHT_ENGINE=podman."""

from __future__ import annotations

from pathlib import Path

from agent_preflight.docker.argv import CAPABILITIES
from agent_preflight.docker.podman import (
    DROPPED,
    Mount,
    capabilities,
    link_may_stray,
    names_files,
    network_name,
    write_names,
)
from tests.cases import each


def test_what_is_dropped_and_what_is_left_is_all_that_linux_has() -> None:
    assert len({*DROPPED.split(), *CAPABILITIES}) == 41
    assert not set(DROPPED.split()) & set(CAPABILITIES)
    assert capabilities()[:2] == ["--cap-drop", "AUDIT_CONTROL"]


def test_docker_s_bridge_has_another_name() -> None:
    assert (network_name("bridge"), network_name("mine")) == ("podman", "mine")


def test_a_sealed_agents_names_lead_to_itself(tmp_path: Path) -> None:
    write_names(tmp_path, ["openrouter.ai", "los"])
    (hosts, at), (resolver, resolver_at) = names_files(tmp_path)
    assert (at, resolver_at) == ("/etc/hosts", "/etc/resolv.conf")
    names = "127.0.0.1\tlocalhost\n127.0.0.1\topenrouter.ai\n127.0.0.1\tlos\n::1\tlocalhost\n"
    assert (hosts.read_text(), resolver.read_text()) == (names, "nameserver 127.0.0.1\n")
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}


OWN = Mount("/run/preflight", rw=False)
DATA = Mount("/data", rw=False)


@each(
    "mounts, strays",
    [
        ([], False),
        ([OWN], False),
        ([OWN, Mount("/cache", rw=True)], False),
        ([OWN, DATA], True),
        ([OWN, DATA, Mount("/w/out/", rw=True)], False),
        ([OWN, DATA, Mount("/w", rw=True)], True),
        ([OWN, Mount("/w/out", rw=False)], True),
    ],
)
def test_a_link_is_placed_only_where_it_cannot_end_up_in_a_read_only_mount(mounts: list[Mount], strays: bool) -> None:
    assert link_may_stray(mounts, "/w/out", ["/run/preflight"]) is strays
