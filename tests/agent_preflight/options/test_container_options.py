"""Which options of the engine are allowed, for which container, and the fields of the API that they become."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_preflight.options.container_options import AGENT, GATE, OPTIONS, DockerArgs, merge, read_docker_args
from preflight_proxy.core.errors import ConfigError
from tests.support.cases import each

PORT_80 = {
    "HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "80"}]}},
    "ExposedPorts": {"80/tcp": {}},
}


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
    assert read_docker_args(args, "bridge") == DockerArgs(gate=PORT_80)


def test_an_option_goes_to_the_agent_or_to_its_gate() -> None:
    args = ["-v", "/a:/b", "-h", "box", "--dns", "1.1.1.1", "-m", "2g", "--sysctl=net.core.somaxconn=9", "--read-only"]
    assert read_docker_args([*args, "--platform", "linux/amd64"], "bridge") == DockerArgs(
        agent={"HostConfig": {"Binds": ["/a:/b"], "Memory": 2 << 30, "ReadonlyRootfs": True}},
        gate={"Hostname": "box", "HostConfig": {"Dns": ["1.1.1.1"], "Sysctls": {"net.core.somaxconn": "9"}}},
        platform="linux/amd64",
    )


def test_a_value_that_looks_like_an_option_stays_a_value() -> None:
    assert read_docker_args(["--entrypoint", "--privileged"], "sealed").agent == {"Entrypoint": ["--privileged"]}


@each("args", [[], ["--init", "-i", "--interactive"], ["--init=false", "-i=0"]])
def test_an_option_that_every_trial_has_is_dropped(args: list[str]) -> None:
    assert read_docker_args(args, "sealed") == DockerArgs()


@each("name", [name for name, (home, _, _) in OPTIONS.items() if home == GATE])
def test_a_sealed_trial_refuses_each_network_option_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"--{name} needs a network, and this trial is sealed.*network='bridge'"):
        read_docker_args([f"--{name}", "x"], "sealed")


@each("args", [["-p", "80:80"], ["-h", "x"], ["--dns=1.1.1.1"], ["--sysctl", "net.a=1"], ["-P"]])
def test_a_sealed_trial_refuses_network_options_in_every_spelling(args: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"--[a-z-]+ needs a network, and this trial is sealed.*network='bridge'"):
        read_docker_args(args, "sealed")


REFUSED = (
    "network net privileged pid ipc uts userns cgroupns cgroup-parent device device-cgroup-rule security-opt cap-add volumes-from "
    "rm name label label-file log-driver log-opt restart cidfile detach env env-file tty pull runtime link use-api-socket "
    "isolation oom-kill-disable attach detach-keys sig-proxy volume-driver annotation no-such-option"
)


@each("name, form, network", product(REFUSED.split(), ["--{}=x", "--{}"], ["sealed", "bridge"]))
def test_an_option_that_is_not_on_the_list_is_refused(name: str, form: str, network: str) -> None:
    with pytest.raises(ConfigError, match="not allowed"):
        read_docker_args([form.format(name), "x"], network)


@each("args", [["-d"], ["-it"], ["-e", "A=b"], ["-l", "a=b"], ["-a", "stdin"], ["-x"], ["-dp", "1:1"]])
def test_a_letter_that_is_not_on_the_list_is_refused_also_among_other_flags(args: list[str]) -> None:
    with pytest.raises(ConfigError, match="not allowed"):
        read_docker_args(args, "bridge")


def test_the_refusal_of_a_variable_names_the_option_for_variables() -> None:
    with pytest.raises(ConfigError, match="env="):
        read_docker_args(["-e", "KEY=secret"], "bridge")


@each(
    "args", [["--env=KEY=secret"], ["-eKEY=secret"], ["-e=KEY=secret"], ["--env", "KEY=secret"], ["--env-file=secret"]]
)
def test_the_refusal_of_a_variable_does_not_show_its_value(args: list[str]) -> None:
    with pytest.raises(ConfigError, match="not allowed") as caught:
        read_docker_args(args, "bridge")
    assert "secret" not in str(caught.value)


@each("args", [["ubuntu"], [""], ["--"], ["-"], ["--read-only", "ubuntu"]])
def test_a_word_that_docker_would_take_as_the_image_is_refused(args: list[str]) -> None:
    with pytest.raises(ConfigError, match="is no option"):
        read_docker_args(args, "bridge")


@each("args", [["--user"], ["-v"], ["-iv"]])
def test_an_option_without_its_value_is_refused(args: list[str]) -> None:
    with pytest.raises(ConfigError, match="needs a value"):
        read_docker_args(args, "bridge")


@each("value", ["kernel.msgmax=1", "fs.mqueue.x=1", "network.x=1"])
def test_a_kernel_setting_outside_the_network_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"only net\.\*"):
        read_docker_args(["--sysctl", value], "bridge")


def host(**fields: Any) -> dict[str, Any]:
    return {"HostConfig": fields}


def end(**fields: Any) -> dict[str, Any]:
    return {"NetworkingConfig": {"EndpointsConfig": {"my.net": fields}}}


def gpus(count: int = 0, devices: list[str] | None = None, capabilities: str = "gpu", **more: Any) -> dict[str, Any]:
    request = {
        "Driver": "",
        "Count": count,
        "DeviceIDs": devices,
        "Capabilities": [capabilities.split()],
        "Options": {},
    }
    return host(DeviceRequests=[request | more])


def ports(bindings: dict[str, list[tuple[str, str]]]) -> dict[str, Any]:
    bound = {port: [{"HostIp": ip, "HostPort": host} for ip, host in pairs] for port, pairs in bindings.items()}
    return {**host(PortBindings=bound), "ExposedPorts": {port: {} for port in bindings}}


def mounted(**fields: Any) -> dict[str, Any]:
    return host(Mounts=[{"Type": "volume", "Target": "/b"} | fields])


HERE = str(Path.cwd())
FIELDS: list[tuple[str, dict[str, Any]]] = [
    ("--blkio-weight=500", host(BlkioWeight=500)),
    ("--cap-drop=chown --cap-drop=CAP_KILL --cap-drop=all", host(CapDrop=["CAP_CHOWN", "CAP_KILL", "ALL"])),
    ("--cpu-period=50000", host(CpuPeriod=50000)),
    ("--cpu-quota=25000", host(CpuQuota=25000)),
    ("--cpu-shares=512 -c 256", host(CpuShares=256)),
    ("--cpus=1.5", host(NanoCpus=1_500_000_000)),
    ("--cpus=.000000001", host(NanoCpus=1)),
    ("--cpus=2.", host(NanoCpus=2_000_000_000)),
    ("--cpuset-cpus=0-1,3", host(CpusetCpus="0-1,3")),
    ("--cpuset-mems=0", host(CpusetMems="0")),
    ("--device-read-bps=/dev/sda:1mb", host(BlkioDeviceReadBps=[{"Path": "/dev/sda", "Rate": 1 << 20}])),
    ("--device-read-iops=/dev/sda:7", host(BlkioDeviceReadIOps=[{"Path": "/dev/sda", "Rate": 7}])),
    ("--device-write-bps=/dev/sda:10", host(BlkioDeviceWriteBps=[{"Path": "/dev/sda", "Rate": 10}])),
    ("--device-write-iops=/dev/sda:7", host(BlkioDeviceWriteIOps=[{"Path": "/dev/sda", "Rate": 7}])),
    ("--entrypoint=a --entrypoint=b", {"Entrypoint": ["b"]}),
    ("--entrypoint=", {"Entrypoint": [""]}),
    ("--gpus=all", gpus(-1)),
    ("--gpus=2", gpus(2)),
    ("--gpus=device=0", gpus(0, ["0"])),
    ('--gpus="device=0,1",capabilities=utility', gpus(0, ["0", "1"], "utility gpu")),
    ("--gpus=count=2,driver=nvidia", gpus(2, Driver="nvidia")),
    ("--gpus=driver=nvidia", gpus(1, Driver="nvidia")),
    ('--gpus=all,"capabilities=a,b","options=c=d,e"', gpus(-1, None, "a b gpu", Options={"c": "d", "e": ""})),
    ("--group-add=audio --group-add=1000", host(GroupAdd=["audio", "1000"])),
    ("--memory=512m -m 2g", host(Memory=2 << 30)),
    ("--memory=1.5g", host(Memory=3 << 29)),
    ("--memory=1.1GB", host(Memory=1181116006)),
    ("--memory=64MiB", host(Memory=64 << 20)),
    ("--memory=6291456", host(Memory=6291456)),
    ("--memory=6291456b", host(Memory=6291456)),
    ("--memory-reservation=64m", host(MemoryReservation=64 << 20)),
    ("--memory-swap=-1", host(MemorySwap=-1)),
    ("--memory-swap=1p", host(MemorySwap=1 << 50)),
    ("--memory-swappiness=10", host(MemorySwappiness=10)),
    ("--mount=target=/b", mounted()),
    ("--mount=source=v,dst=/b,volume-nocopy", mounted(Source="v", VolumeOptions={"NoCopy": True})),
    ("--mount=type=bind,src=/a,destination=/b,ro=false", mounted(Type="bind", Source="/a", ReadOnly=False)),
    (
        "--mount=type=bind,src=./a/../c,dst=/b,readonly,bind-propagation=rslave,bind-nonrecursive=true,consistency=cached",
        mounted(
            Type="bind",
            Source=f"{HERE}/c",
            ReadOnly=True,
            Consistency="cached",
            BindOptions={"Propagation": "rslave", "NonRecursive": True},
        ),
    ),
    ('--mount=type=bind,"src=/a,b",dst=/b', mounted(Type="bind", Source="/a,b")),
    (
        "--mount=type=tmpfs,dst=/b,tmpfs-size=1g,tmpfs-mode=1770",
        mounted(Type="tmpfs", TmpfsOptions={"SizeBytes": 1 << 30, "Mode": 0o1770}),
    ),
    (
        "--mount=dst=/b --mount=dst=/c",
        host(Mounts=[{"Type": "volume", "Target": "/b"}, {"Type": "volume", "Target": "/c"}]),
    ),
    ("--no-healthcheck", {"Healthcheck": {"Test": ["NONE"]}}),
    ("--no-healthcheck --no-healthcheck=false", {"Healthcheck": None}),
    ("--oom-score-adj=-500", host(OomScoreAdj=-500)),
    ("--pids-limit=-1", host(PidsLimit=-1)),
    ("--read-only", host(ReadonlyRootfs=True)),
    ("--read-only=t", host(ReadonlyRootfs=True)),
    ("--read-only=false", host(ReadonlyRootfs=False)),
    ("--shm-size=64k", host(ShmSize=64 << 10)),
    ("--storage-opt=size=1g --storage-opt=a=b=c", host(StorageOpt={"size": "1g", "a": "b=c"})),
    ("--tmpfs=/x:rw,size=1m --tmpfs=/y", host(Tmpfs={"/x": "rw,size=1m", "/y": ""})),
    (
        "--ulimit=nofile=1 --ulimit=cpu=1:2 --ulimit=nofile=3:-1",
        host(Ulimits=[{"Name": "cpu", "Soft": 1, "Hard": 2}, {"Name": "nofile", "Soft": 3, "Hard": -1}]),
    ),
    ("--user=a:b -u 1000", {"User": "1000"}),
    ("--volume=/a:/b:ro -v name:/c", host(Binds=["/a:/b:ro", "name:/c"])),
    ("--volume=./a:/b -v .:/c:z", host(Binds=[f"{HERE}/a:/b", f"{HERE}:/c:z"])),
    ("--volume=/a -v /b", {"Volumes": {"/a": {}, "/b": {}}}),
    ("--workdir=/a -w /b", {"WorkingDir": "/b"}),
    (
        "--add-host=a:1.1.1.1 --add-host=b=::1 --add-host=c:[::1] --add-host=d=host-gateway",
        host(ExtraHosts=["a:1.1.1.1", "b:::1", "c:::1", "d:host-gateway"]),
    ),
    ("--dns=1.1.1.1 --dns=0:0::1", host(Dns=["1.1.1.1", "::1"])),
    ("--dns-opt=ndots:1 --dns-option=use-vc", host(DnsOptions=["ndots:1", "use-vc"])),
    ("--dns-option=use-vc", host(DnsOptions=["use-vc"])),
    ("--dns-search=a.example. --dns-search=.", host(DnsSearch=["a.example", "."])),
    ("--domainname=example.org", {"Domainname": "example.org"}),
    ("--expose=80 --expose=90-91/UDP", {"ExposedPorts": {"80/tcp": {}, "90/udp": {}, "91/udp": {}}}),
    ("--hostname=box", {"Hostname": "box"}),
    (
        "--ip=10.0.0.9 --ip6=fd00::9",
        end(IPAMConfig={"IPv4Address": "10.0.0.9", "IPv6Address": "fd00::9"}),
    ),
    ("--ip6=fd00::9", end(IPAMConfig={"IPv6Address": "fd00::9"})),
    (
        "--link-local-ip=169.254.0.1 --link-local-ip=fe80::1",
        end(IPAMConfig={"LinkLocalIPs": ["169.254.0.1", "fe80::1"]}),
    ),
    ("--mac-address=92:d0:c6:0a:29:33", {"MacAddress": "92:d0:c6:0a:29:33", **end(MacAddress="92:d0:c6:0a:29:33")}),
    ("--net-alias=a --network-alias=b", end(Aliases=["a", "b"])),
    ("--network-alias=b", end(Aliases=["b"])),
    ("--publish=80", ports({"80/tcp": [("", "")]})),
    ("--publish=8080:80 -p 0:80", ports({"80/tcp": [("", "8080"), ("", "0")]})),
    ("--publish=127.0.0.1:8080:80/udp", ports({"80/udp": [("127.0.0.1", "8080")]})),
    ("--publish=127.0.0.1::80/sctp", ports({"80/sctp": [("127.0.0.1", "")]})),
    ("--publish=[::1]:80:80", ports({"80/tcp": [("::1", "80")]})),
    ("--publish=::1:80:80", ports({"80/tcp": [("::1", "80")]})),
    ("--publish=8000-8001:80-81", ports({"80/tcp": [("", "8000")], "81/tcp": [("", "8001")]})),
    ("--publish=8000-8001:80", ports({"80/tcp": [("", "8000-8001")]})),
    ("--publish=80-81", ports({"80/tcp": [("", "")], "81/tcp": [("", "")]})),
    ("--publish-all", host(PublishAllPorts=True)),
    ("--sysctl=net.a=1 --sysctl=net.b=", host(Sysctls={"net.a": "1", "net.b": ""})),
    ("--init", {}),
    ("--interactive", {}),
]
"""Options and the fields that they become; each option of the table at least once. Docker's command line makes the same fields."""


@each("args, fields", FIELDS)
def test_an_option_becomes_these_fields(args: str, fields: dict[str, Any]) -> None:
    read = read_docker_args(args.split(), "my.net")
    home = OPTIONS[args[2:].split()[0].partition("=")[0]][0]
    assert read == DockerArgs(agent=fields if home == AGENT else {}, gate=fields if home == GATE else {})


def test_each_option_of_the_table_has_a_case() -> None:
    assert {args[2:].split()[0].partition("=")[0] for args, _ in FIELDS} | {"platform"} == OPTIONS.keys()


HUGE = "9" * 5000
WRONG = {
    "blkio-weight": ["5", "1001", "-1", "x"],
    "cap-drop": ["", "a b"],
    "cpu-shares": ["", "1.5", "0x10", "010", "1_0", "1e3", "+1", "١", HUGE],
    "cpus": ["", ".", "-1", "1e-3", "3/2", "0.1234567890", "inf", "nan", "٢", HUGE],
    "device-read-bps": ["/dev/a", "a:1", "/dev/a:", "/dev/a:-1", "/dev/a:1x"],
    "device-read-iops": ["/dev/a:1m", "/dev/a", ":1"],
    "gpus": ["", "\n", "x", "a=b", "1,2", "count=1,count=2", "count=1.5", '"', '"device=0', 'options="'],
    "group-add": [""],
    "ip": ["::1", "1.2.3", "1.2.3.4.5", "01.2.3.4", ""],
    "ip6": ["1.2.3.4", "fe80::1%eth0", ":"],
    "dns": ["x", "", "[::1]", "fe80::1%a"],
    "add-host": ["", "a", "a:", ":1.1.1.1", "a:x", "a:b=1.1.1.1", "a:[::1"],
    "dns-search": ["", "1.2", "a_b", "-a", "a..b", "a b"],
    "expose": ["", "x", "70000", "90-80", "80/icmp", "80:80", "٨٠", HUGE],
    "publish": [
        "",
        ":",
        "80:",
        "x:80",
        "1-2:1-3",
        "1-2:1-1-1",
        "x:1:1",
        "1:2:3:4",
        "[::1:80:80",
        "127.0.0.1:80",
        "1:70000",
        HUGE,
    ],
    "mac-address": ["", "zz", "92:d0:c6:0a:29"],
    "memory": [
        "",
        " ",
        ".",
        "-1",
        "1x",
        "1ib",
        "1e999",
        "inf",
        "nan",
        "9223372036854775808",
        "9p9",
        "5\u212a",
        "１g",
        HUGE,
    ],
    "memory-swap": ["-2", "x"],
    "memory-swappiness": ["-2", "101", "x"],
    "mount": [
        "",
        "type=bind",
        "dst=b",
        "dst",
        "dst=",
        "type=image,dst=/b",
        "foo=1,dst=/b",
        "SRC=/a,dst=/b",
        '"',
        "dst=/b,ro=yes",
    ],
    "platform": [""],
    "read-only": ["yes", "", "2"],
    "no-healthcheck": ["x"],
    "interactive": ["x"],
    "storage-opt": ["", "size", "=1"],
    "sysctl": ["", "net.a", "net.=1"],
    "tmpfs": ["", "x", ":/x"],
    "ulimit": [
        "",
        "nofile",
        "nofile=",
        "foo=1",
        "nofile=2:1",
        "nofile=1:2:3",
        "nofile=-1:5",
        "nofile=x",
        f"nofile={HUGE}",
    ],
    "user": ["a\0b", "\udc80"],
    "volume": ["", ":", "a", "a:b", "/a:", ":/a", "/a:ro", "/a:/b:", "/a:/b:ro:x"],
    "workdir": ["", "a"],
}


@each("name, value", [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_value_is_an_error_that_names_the_option_and_shows_the_value(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"^docker_args: --{name}\b.* is not ") as caught:
        read_docker_args([f"--{name}={value}"], "bridge")
    assert repr(value)[1:41] in str(caught.value) or name in ("mount", "gpus")
    assert len(str(caught.value)) < 300


def test_each_kind_of_value_has_a_wrong_value() -> None:
    tried = {OPTIONS[name][2].form for name in WRONG}
    assert {kind.form for _, _, kind in OPTIONS.values()} <= tried


def test_the_error_of_a_mount_names_the_part_that_is_wrong() -> None:
    with pytest.raises(ConfigError, match=r"^docker_args: --mount tmpfs-size 'x' is not a size"):
        read_docker_args(["--mount=type=tmpfs,dst=/b,tmpfs-size=x"], "sealed")


@each("key", ["bind-nonrecursive", "volume-nocopy", "tmpfs-mode=1770"])
def test_a_mount_takes_the_keys_of_its_own_type_only(key: str) -> None:
    kind = {"bind": "volume", "volume": "tmpfs", "tmpfs": "bind"}[key.partition("-")[0]]
    with pytest.raises(ConfigError, match="keys of its type"):
        read_docker_args([f"--mount={key},type={kind},source=/a,target=/b"], "sealed")


@each("key", ["volume-driver=local", "volume-opt=device=/", "volume-label=a=b", "volume-opt"])
def test_driver_options_of_a_volume_are_refused_because_they_can_mount_any_path(key: str) -> None:
    with pytest.raises(ConfigError, match=r"--mount volume-[a-z]+ .* not allowed: .*docker volume create"):
        read_docker_args([f"--mount=type=volume,target=/b,{key}"], "sealed")


@given(st.sampled_from(sorted(OPTIONS)), st.text())
def test_any_text_gives_fields_or_an_error_that_names_the_option(name: str, text: str) -> None:
    said = f"docker_args: --{name}"
    try:
        read_docker_args([f"--{name}={text}"], "bridge")
    except ConfigError as exc:
        said = str(exc)
    assert said.startswith(f"docker_args: --{name}")


def test_fields_are_merged_into_a_body_and_do_not_change_with_it() -> None:
    body = {"User": "a", "HostConfig": {"Binds": ["/x:/x"], "Memory": 1, "Sysctls": {"net.a": "1"}}}
    more = read_docker_args(["-u", "b", "-v", "/a:/b", "-m", "2", "--tmpfs=/t"], "sealed").agent
    merge(body, more)
    tmpfs = {"/t": ""}
    expected = {"Binds": ["/x:/x", "/a:/b"], "Memory": 2, "Sysctls": {"net.a": "1"}, "Tmpfs": tmpfs}
    assert body == {"User": "b", "HostConfig": expected}
    merge(body, {"HostConfig": {"Tmpfs": {"/u": ""}}})
    assert more["HostConfig"] == {"Binds": ["/a:/b"], "Memory": 2, "Tmpfs": {"/t": ""}}


@each("mode", ["rx", "ro,rw", "z,Z", "ro,", ",ro", "RO", "ro,ro", "shared,slave", "nocopy,x"])
def test_the_refusal_of_an_unknown_mode_lists_modes_that_docker_has(mode: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^the mount's mode '.*' is not one that Docker has: use ro or rw, with z or Z"
    ):
        read_docker_args([f"--volume=/a:/b:{mode}"], "sealed")


@each("mode", ["ro", "rw", "z", "Z", "rw,z", "ro,Z", "Z,ro", "rshared", "cached", "nocopy"])
def test_every_mode_that_docker_has_is_allowed(mode: str) -> None:
    assert read_docker_args([f"--volume=/a:/b:{mode}"], "sealed").agent == host(Binds=[f"/a:/b:{mode}"])


@each("source", ["a/b", "a b", "-x", "a/../x", "$HOME/x"])
def test_the_error_of_a_source_that_is_neither_path_nor_volume_shows_how_to_write_it(source: str) -> None:
    with pytest.raises(ConfigError, match=r"is neither a path nor the name of a volume: write './"):
        read_docker_args([f"--volume={source}:/b"], "sealed")


@each("source", ["a", "a/b", ""])
def test_a_bind_mount_needs_a_path(source: str) -> None:
    with pytest.raises(ConfigError, match=r"is no path: a bind mount needs one$"):
        read_docker_args(
            [f"--mount=type=bind,src={source},dst=/b"] if source else ["--mount=type=bind,dst=/b"], "sealed"
        )


@each("form", ["--volume={}:/b", "--mount=type=bind,src={},dst=/b"])
def test_a_tilde_is_the_home_folder(form: str) -> None:
    read = read_docker_args([form.format("~/x")], "sealed").agent["HostConfig"]
    assert str(Path.home() / "x") in str(read)
