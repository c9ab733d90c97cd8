"""What of an engine's message a person is shown: the words of real engines."""

from agent_preflight.engine.cause import cause_of
from tests.support.cases import each

RUNC = "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: "
NEWER = "failed to create task for container: " + RUNC
INSTALL = "Correct the agent's command, or install it in the image"


@each(
    "message, cause",
    [
        (
            f'{RUNC}exec: "nope": executable file not found in $PATH: unknown',
            f'exec: "nope": executable file not found in $PATH. {INSTALL}',
        ),
        (
            f'{NEWER}error during container init: exec: "nope": executable file not found in $PATH: unknown',
            f'exec: "nope": executable file not found in $PATH. {INSTALL}',
        ),
        (
            f'{RUNC}exec: "/no": stat /no: no such file or directory: unknown',
            f'exec: "/no": stat /no: no such file or directory. {INSTALL}',
        ),
        (
            f'{RUNC}exec: "/etc": permission denied: unknown',
            'exec: "/etc": permission denied. It must be a program that may be executed (chmod +x in the image)',
        ),
        (
            (
                f"{RUNC}error during container init: error setting rlimits for ready process: error setting rlimit type 7: "
                "operation not permitted: unknown"
            ),
            "error setting rlimits for ready process: error setting rlimit type 7: operation not permitted",
        ),
        (
            (
                f'{RUNC}error during container init: error mounting "/a" to rootfs at "/etc": not a directory: unknown: Are you '
                "trying to mount a directory onto a file (or vice-versa)?"
            ),
            (
                'error mounting "/a" to rootfs at "/etc": not a directory: Are you trying to mount a directory onto a file (or '
                "vice-versa)?"
            ),
        ),
        (
            (
                "driver failed programming external connectivity on endpoint ap-x (7dbc166d99): Bind for 0.0.0.0:99 failed: port "
                "is already allocated"
            ),
            "Bind for 0.0.0.0:99 failed: port is already allocated",
        ),
        (
            "docker: Error response from daemon: network nonet not found\n\nRun 'docker run --help' for more information\n",
            "network nonet not found",
        ),
        (
            "docker: invalid reference format: repository name (X) must be lowercase.\nSee 'docker create --help'.",
            "invalid reference format: repository name (X) must be lowercase.",
        ),
        ("no space left\nError response from daemon: no such image: x", "no space left no such image: x"),
        ("\x1b[31mit is\n\n   \x1b]0;title\x07Monday\x1b[0m", "it is Monday"),
        ("the error is unknown: ask", "the error is unknown: ask"),
        ("See 'docker create --help'.", "See 'docker create --help'."),
        ("exec /bin/x: exec format error", "exec /bin/x: exec format error. The image is for another platform"),
        ("", ""),
    ],
)
def test_the_cause_is_what_stands_below_all_that_names_the_engines_parts(message: str, cause: str) -> None:
    assert cause_of(message) == cause
