"""`python -m tests.torture --calls N --seed S [--profile lawful|lawless] [--kills K]`: run, print, and exit by the verdict. With
`--bound measured` the proxy estimates tokens, and upstream counts realistically instead of as densely as it can.

`python -m tests.torture --soak SECONDS --faults id|no-id --key own|foreign [--callers C] [--others C]`: the same for callers who
make no pause, with a proxy that nobody kills; see `soak`.

Exit code 0: nothing over, nothing lost, nothing open, every assumption tied to its cause. 4: upstream broke its word, the
excess lies within the printed bound, and each endpoint that billed above a reservation is quarantined. 1: anything else.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path

import uvloop

from tests.torture.driver import IN_FLIGHT, Options, Report, torture
from tests.torture.soak import Soak, soak

CALLS_PER_KILL = 500
PUSD_PER_USD = 10**12


def main() -> int:
    """Run as asked; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--calls", type=int, default=5000, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument("--kills", type=int, metavar="K", help=f"one every {CALLS_PER_KILL} calls unless given")
    parser.add_argument("--profile", choices=("lawful", "lawless"), default="lawful")
    parser.add_argument("--rate", type=float, default=0.1, help="the share of calls that suffer a fault")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="call for so long, and kill nothing")
    parser.add_argument("--callers", type=int, default=IN_FLIGHT, metavar="C", help="parallel calls")
    parser.add_argument(
        "--faults", choices=("id", "no-id"), default="id", help="of a soak: is a struck call's id known?"
    )
    parser.add_argument(
        "--key", choices=("own", "foreign"), default="own", help="of a soak: a sub-key for each account?"
    )
    parser.add_argument(
        "--others", type=int, default=0, metavar="C", help="of a soak: callers beside the proxy on that key"
    )
    parser.add_argument(
        "--bound",
        choices=("measured", "proven"),
        default="proven",
        help="the proxy's; by the proven one upstream counts as densely as it can",
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep ledger and logs in this new directory")
    given = parser.parse_args()
    if given.others and given.key == "own":
        parser.error("nobody else uses a sub-key: --others needs --key foreign")
    kills = given.calls // CALLS_PER_KILL if given.kills is None else given.kills
    options = Options(given.calls, given.seed, kills, given.profile, given.rate, given.callers, given.bound)
    asked: Soak | None = None
    if given.soak is not None:
        asked = Soak(given.soak, given.seed, given.faults, given.key, given.callers, given.others, given.rate)
        options = asked.options
    with contextlib.ExitStack() as stack:
        if given.keep is None:
            given.keep = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="torture-")))
        else:
            given.keep.mkdir(parents=True)
        folder = given.keep.absolute()
        report = uvloop.run(torture(options, folder) if asked is None else soak(asked, folder))
    show(options, report)
    return exit_code(options, report)


def exit_code(options: Options, report: Report) -> int:
    """The verdict as a number; see the module."""
    if report.exit_code or report.outcomes["hung"]:
        return 1
    if report.verdict.is_lawful:
        return 0
    return 4 if options.profile == "lawless" and report.verdict.is_bounded else 1


def show(options: Options, report: Report) -> None:
    """Print what came out."""
    verdict = report.verdict
    restarts = sorted(report.restart_s)
    print(
        f"{options.profile}, {options.bound}, seed {options.seed}: "
        f"{report.calls} calls on {report.accounts} accounts in {report.took_s:.0f} s "
        f"({report.calls / max(report.took_s, 0.001):.0f}/s), {report.kills} kills, restart {restarts[len(restarts) // 2]:.2f} s"
    )
    print("  " + ", ".join(f"{count} {name}" for name, count in report.outcomes.most_common()))
    print("  faults: " + ", ".join(f"{name} {count}" for name, count in sorted(report.strikes.items())))
    print("  killed: " + ", ".join(f"{name} {count}" for name, count in sorted(report.kills_by_step.items())))
    for name, amount_pusd in (
        ("bill", verdict.spend_pusd),
        ("ledger", verdict.posted_pusd),
        ("overshoot", verdict.overshoot_pusd),
        ("bound", verdict.bound_pusd),
        ("drift", verdict.drift_pusd),
        ("untold", verdict.untold_pusd),
        ("assumed", verdict.assumed_pusd),
        ("overrun", verdict.overrun_pusd),
        ("of it", verdict.exposed_pusd),
        ("pending", verdict.pending_pusd),
    ):
        print(f"  {name:<10} ${amount_pusd // PUSD_PER_USD}.{amount_pusd % PUSD_PER_USD:012}")
    print(
        f"  {verdict.unknown_count} unknown calls, {verdict.assumed_count} assumed, {len(verdict.untied)} of them without a cause; "
        f"{report.quarantined} quarantined; nothing pending {report.settled_s:.0f} s after the last call"
    )
    for problem in (*verdict.untied[:10], *verdict.problems[:20]):
        print(f"  ! {problem}")


if __name__ == "__main__":
    sys.exit(main())
