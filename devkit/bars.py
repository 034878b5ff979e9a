"""Progress bars for a run: one for each long stage, in the order they start."""

from __future__ import annotations

import sys

from tqdm import tqdm

from .client import Progress

_SECONDS_BETWEEN_LINES = 10.0  # in a pipe every refresh is a line


class StageBars:
    """Shows the progress of some nodes of a run; give it to Client.run as on_progress.

    stages: {node id: (what to call it, how many steps it takes or None)}. A context manager, so that no bar
    is left open by an error.
    """

    def __init__(self, stages: dict[str, tuple[str, int | None]]) -> None:
        self._stages = stages
        self._bars: dict[str, tqdm] = {}
        self._width = max((len(label) for label, _ in stages.values()), default=0)

    def __enter__(self) -> StageBars:
        return self

    def __exit__(self, *exception: object) -> None:
        for bar in self._bars.values():
            bar.close()

    def __call__(self, progress: Progress) -> None:
        """Handle one report of the run."""
        if progress.node not in self._stages:
            return
        bar = self._bar(progress.node)
        if progress.state == "progress":
            bar.total = progress.maximum
            bar.update(progress.value - bar.n)
        elif progress.state == "finished":
            if bar.total:
                bar.update(bar.total - bar.n)
            bar.close()

    def _bar(self, node: str) -> tqdm:
        if node not in self._bars:
            label, steps = self._stages[node]
            self._bars[node] = tqdm(
                desc=label.ljust(self._width),
                total=steps,
                unit="step",
                file=sys.stdout,
                dynamic_ncols=True,
                mininterval=0.1 if sys.stdout.isatty() else _SECONDS_BETWEEN_LINES,
            )
        return self._bars[node]
