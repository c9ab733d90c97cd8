"""The engine's sentences, as engine 20.10.24 with CLI 28.2.2 and Podman 4.3.1 printed them."""

from __future__ import annotations

from agent_preflight.docker.failure import Failure, classify, explain
from tests.cases import each

ID = "f6d1daac604076eb6fe4794aa7cdb70d32fe4412dbe74c206afecc503b832a68"
CAPTURED = [
    (f"Error: No such object: {ID}", Failure.GONE),
    ("Error response from daemon: No such container: nosuch", Failure.GONE),
    ("Error response from daemon: Cannot kill container: nosuch: No such container: nosuch", Failure.GONE),
    ("Error response from daemon: no such image: nosuch: No such image: nosuch:latest", Failure.GONE),
    ("Error response from daemon: No such image: nosuchimage:latest", Failure.GONE),
    (
        f"Error response from daemon: Cannot kill container: {ID}: Container {ID} is not running",
        Failure.NOT_RUNNING,
    ),
    ("Cannot connect to the Docker daemon at unix:///nonexist. Is the docker daemon running?", Failure.UNREACHABLE),
    (
        (
            f'Error response from daemon: Conflict. The container name "/apx" is already in use by container "{ID}". '
            "You have to remove (or rename) that container to be able to reuse that name."
        ),
        Failure.NAME_TAKEN,
    ),
    ("Error response from daemon: container rootfs is marked read-only", Failure.READ_ONLY),
    ("Error response from daemon: mounted volume is marked read-only", Failure.READ_ONLY),
    (f'destination "{ID}:/workspace/output" must be a directory', Failure.NOT_A_DIRECTORY),
    (
        (
            "Error response from daemon: failed to create shim task: OCI runtime create failed: runc create failed: "
            'unable to start container process: exec: "nosuchcmd": executable file not found in $PATH: unknown'
        ),
        Failure.CANNOT_EXECUTE,
    ),
    (
        f"Error response from daemon: cannot join network of a non running container: {ID}",
        Failure.OTHER,
    ),
    (
        "Error response from daemon: network nosuchnet not found\nError: failed to start containers: 8bd3c0",
        Failure.OTHER,
    ),
    (f"Error: inspecting object: no such container {ID}", Failure.GONE),
    ('Error: no container with name or ID "c" found: no such container', Failure.GONE),
    ("Error: inspecting object: agent:1: image not known", Failure.GONE),
    ("Error: unable to find network with name or ID n: network not found", Failure.GONE),
    (
        f"Error: can only kill running containers. {ID} is in state exited: container state improper",
        Failure.NOT_RUNNING,
    ),
    ("Error: destination must be a directory when copying from stdin", Failure.NOT_A_DIRECTORY),
    (f'Error: creating container storage: the container name "c" is already in use by {ID}.', Failure.OTHER),
    ("", Failure.OTHER),
]


@each("stderr, failure", CAPTURED)
def test_a_sentence_of_the_engine_has_one_meaning(stderr: str, failure: Failure) -> None:
    assert classify(stderr) is failure


def test_an_engine_that_does_not_answer_never_means_that_a_container_is_gone() -> None:
    text = "Cannot connect to the Docker daemon at unix:///run/No such container. Is the docker daemon running?"
    assert classify(text) is Failure.UNREACHABLE


def test_a_person_reads_the_engines_own_sentence_and_not_its_echo() -> None:
    text = "Error response from daemon: network nosuchnet not found\nError: failed to start containers: 8bd3c0"
    assert (
        explain("starting", Failure.OTHER, text) == "starting: Error response from daemon: network nosuchnet not found"
    )


@each("failure", [Failure.NO_COMMAND, Failure.UNREACHABLE, Failure.TIMEOUT])
def test_a_missing_engine_is_explained_with_what_to_do(failure: Failure) -> None:
    assert "docker" in explain("creating", failure, "").lower()
    assert explain("creating", failure, "").startswith("creating: ")


def test_silence_is_explained_too() -> None:
    assert explain("creating", Failure.OTHER, "\n") == "creating: Docker gave no reason"
