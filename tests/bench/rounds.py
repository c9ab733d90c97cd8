"""The rounds: in each, every experiment asks the subjects the same, one right after the other.

A round gives one ratio; a row shows the median of the rounds. The first round warms up and is thrown away.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.load import Load
from tests.bench.rows import Samples
from tests.bench.subjects import Kind, Running, Upstream, posted_pusd

Sample = Mapping[str, float]
"""Figures of one experiment on one subject."""


@dataclass(slots=True)
class Bench:
    """What experiments work with; a subject that several share is started by the first of them.

    Attributes:
        upstream: The constant upstream.
        seconds: How long one load runs.
        folder: An empty folder, for everything.
        stack: Ends what was started.
        image: An image with python3 for trials; empty: without them.
        billed_pusd: What the shared proxy of ours must have posted.
    """

    upstream: Upstream
    seconds: float
    folder: Path
    stack: ExitStack
    image: str = ""
    billed_pusd: int = 0
    _shared: dict[str, Running] = field(default_factory=dict)
    _folders: int = 0

    def shared(self, kind: Kind) -> Running:
        """Return the subject of this kind that serves from the first experiment to the last.

        Raises:
            SubjectError: It did not start.
        """
        if kind.name not in self._shared:
            serving = kind.serving(self.new_folder(), self.upstream)
            self._shared[kind.name] = self.stack.enter_context(serving)
            gc.freeze()
        return self._shared[kind.name]

    async def counted(self, subject: Running, loading: Awaitable[Load]) -> Load:
        """Load a subject; if it is the shared proxy of ours, it must have posted what the upstream billed meanwhile."""
        _, before_pusd = self.upstream.bill()
        seen = await loading
        if subject is self._shared.get("ours"):
            self.billed_pusd += self.upstream.bill()[1] - before_pusd
        return seen

    def wrong_bill(self) -> str | None:
        """Return how the ledger of ours differs from the upstream's bill; None if it does not, or ours took no part."""
        if (ours := self._shared.get("ours")) is None:
            return None
        found_pusd = posted_pusd(ours)
        if found_pusd == self.billed_pusd:
            return None
        return f"ours posted {found_pusd} pico-dollars of {self.billed_pusd} that the upstream billed: it did not do its work"

    def new_folder(self) -> Path:
        """Return a new folder."""
        self._folders += 1
        folder = self.folder / str(self._folders)
        folder.mkdir()
        return folder


@dataclass(frozen=True, slots=True)
class Experiment:
    """One experiment.

    Attributes:
        figures: The names of the figures that it gives.
        subjects: Names of the kinds of subjects that it asks.
        run: Asks one of them.
        rounds_max: It takes part in at most so many kept rounds; 1: in the first, without warming up.
    """

    figures: tuple[str, ...]
    subjects: tuple[str, ...]
    run: Callable[[Bench, Kind], Awaitable[Sample]]
    rounds_max: int = 1000


async def measure(
    bench: Bench,
    kinds: Sequence[Kind],
    experiments: Sequence[Experiment],
    figures: Collection[str],
    rounds: int,
    say: Callable[[str], None],
) -> Samples:
    """Return figures, by subject and round.

    Args:
        bench: What the experiments work with.
        kinds: The subjects there are, in the order in which they are asked.
        experiments: What is asked; those that give none of the figures are left out.
        figures: What is wanted.
        rounds: Kept rounds; one more is thrown away.
        say: Called with what is being done.
    """
    wanted = set(figures)
    chosen = [experiment for experiment in experiments if not wanted.isdisjoint(experiment.figures)]
    samples: Samples = {}
    gc.disable()  # a collection of ours would show in what we measure
    try:
        for number in range(rounds + 1):
            for experiment in chosen:
                if number > experiment.rounds_max or (number == 0 and experiment.rounds_max == 1):
                    continue
                say(f"round {number} of {rounds}: {', '.join(experiment.figures)}")
                for kind in kinds:
                    if kind.name in experiment.subjects:
                        gc.collect()
                        found = await experiment.run(bench, kind)
                        if number:
                            for figure, value in found.items():
                                samples.setdefault((kind.name, figure), []).append(value)
    finally:
        gc.enable()
    return samples
