"""Which options of the engine pass, and to whom."""

from __future__ import annotations

from itertools import product

import pytest

from agent_preflight.docker.allow_list import Split, split
from preflight_proxy.errors import ConfigError
from tests.cases import each


@each(
    "args",
    [
        ["--publish", "80:80"],
        ["--publish=80:80"],
        ["-p", "80:80"],
        ["-p80:80"],
        ["-p=80:80"],
        ["-ip", "80:80"],
        ["-ip80:80"],
    ],
)
def test_every_spelling_is_the_same_option(args: list[str]) -> None:
    assert split(args, "bridge") == Split(gate=("--publish=80:80",))


def test_options_go_to_whom_they_concern() -> None:
    args = ["-v", "/a:/b", "-h", "box", "--dns", "1.1.1.1", "-m", "2g", "--sysctl=net.core.somaxconn=9", "--read-only"]
    assert split(args, "bridge") == Split(
        agent=("--volume=/a:/b", "--memory=2g", "--read-only"),
        gate=("--hostname=box", "--dns=1.1.1.1", "--sysctl=net.core.somaxconn=9"),
    )


def test_a_value_that_looks_like_an_option_stays_a_value() -> None:
    assert split(["--entrypoint", "--privileged"], "sealed") == Split(agent=("--entrypoint=--privileged",))


def test_what_every_trial_has_already_is_dropped() -> None:
    assert split(["--init", "-i", "--interactive"], "sealed") == Split()


@each("args", [["-p", "80:80"], ["-h", "x"], ["--dns=1.1.1.1"], ["--sysctl", "net.a=1"], ["-P"]])
def test_a_sealed_trial_refuses_options_of_the_network_by_name(args: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"--[a-z-]+ needs a network, and this trial is sealed.*network='bridge'"):
        split(args, "sealed")


REFUSED = (
    "network net privileged pid ipc uts userns cgroupns cgroup-parent device device-cgroup-rule security-opt cap-add volumes-from "
    "rm name label label-file log-driver log-opt restart cidfile detach env env-file tty pull runtime link use-api-socket "
    "isolation oom-kill-disable attach detach-keys sig-proxy volume-driver annotation no-such-option"
)


@each("name, form, network", product(REFUSED.split(), ["--{}=x", "--{}"], ["sealed", "bridge"]))
def test_an_option_that_is_not_on_the_list_is_refused(name: str, form: str, network: str) -> None:
    with pytest.raises(ConfigError, match="not allowed"):
        split([form.format(name), "x"], network)


@each("args", [["-d"], ["-it"], ["-e", "A=b"], ["-l", "a=b"], ["-a", "stdin"], ["-x"], ["-dp", "1:1"]])
def test_a_letter_that_is_not_on_the_list_is_refused_in_a_bundle_too(args: list[str]) -> None:
    with pytest.raises(ConfigError, match="not allowed"):
        split(args, "bridge")


def test_a_variable_is_refused_with_the_place_where_it_belongs() -> None:
    with pytest.raises(ConfigError, match="env="):
        split(["-e", "KEY=secret"], "bridge")


@each("args", [["ubuntu"], ["--"], ["-"], ["--read-only", "ubuntu"]])
def test_what_would_become_the_image_is_refused(args: list[str]) -> None:
    with pytest.raises(ConfigError, match="is no option"):
        split(args, "bridge")


@each("args", [["--user"], ["-v"]])
def test_an_option_without_its_value_is_refused(args: list[str]) -> None:
    with pytest.raises(ConfigError, match="needs a value"):
        split(args, "bridge")


@each("value", ["kernel.msgmax=1", "fs.mqueue.x=1", "network.x=1"])
def test_a_kernel_setting_outside_the_network_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"only net\.\*"):
        split(["--sysctl", value], "bridge")


def test_a_refusal_of_a_variable_shows_no_value() -> None:
    with pytest.raises(ConfigError) as caught:
        split(["--env=KEY=secret"], "bridge")
    assert "secret" not in str(caught.value)
