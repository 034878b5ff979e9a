"""What was measured, as tables in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

Columns = Mapping[str, Callable[[dict], str]]
"""Heading: the cell of a row of the report."""

# stage: (most in P, the official implementation's in P, most peak memory in MB, the official implementation's)
TARGETS = {
    "tuning, checkpointing none": (4.2, 13.0, 2600, 3960),
    "tuning, checkpointing all": (5.5, 14.0, 1500, 2400),
    "inversion": (1.4, 5.0, None, 1560),
    "guided sampling": (2.8, 9.5, 1600, 2600),
}
"""What the stages may take at most, and what the official implementation takes, for the size `TARGETS_FOR`.

P is one forward pass of the plain image model over the same frames as a batch, in the same run. The official code
codes the clip and the text again in every tuning step, which is another 23 P there and not counted here."""

TARGETS_FOR = "cpu"


def tables(report: dict) -> str:
    """All tables of a report."""
    targets = TARGETS if report["size"] == TARGETS_FOR else {}

    def target(column: int) -> Callable[[dict], str]:
        return lambda row: _text(targets.get(row["stage"], (None,) * 4)[column])

    stages = {
        "host": _of("host"),
        "stage": _of("stage"),
        **_TIMES,
        "at most": target(0),
        "official": target(1),
    }
    memory = {"host": _of("host"), "stage": _of("stage"), "peak MB": _of("peak_mb", ".0f")}
    memory |= {"libraries alone": _of("libraries_mb", ".0f"), "at most": target(2), "official": target(3)}
    parts = [
        _table(report, stages | _ARITHMETIC, "stages"),
        _table(report, memory, "memory"),
        _table(report, _PRESETS, "presets"),
        _table(report, _CODEC, "codec"),
        _table(report, _GROWTH, "growth_frames", "growth_sides"),
        _table(report, _STEPS, "growth_steps"),
    ]
    if "stages" in report:
        rate = report["matrix_product_flops_per_second"] / 1e9
        parts.insert(1, f"A matrix product in the same run: {rate:.0f} GFLOP/s.")
    return "\n\n".join(part for part in parts if part)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def _table(report: dict, columns: Columns, *parts: str) -> str:
    rows = [[cell(row) for cell in columns.values()] for part in parts for row in report.get(part, [])]
    return markdown(list(columns), rows) if rows else ""


def _text(value: object, form: str = "") -> str:
    return "" if value is None else format(value, form)


def _of(name: str, form: str = "", factor: float = 1, none: str = "") -> Callable[[dict], str]:
    """The cell with the value ``name`` times ``factor``; ``none`` stands for 0."""

    def cell(row: dict) -> str:
        value = row.get(name)
        if none and not value:
            return none
        return _text(value if factor == 1 or value is None else factor * value, form)

    return cell


_TIMES = {"seconds": _of("seconds", ".3g"), "in P": _of("in_p", ".2f")}
_ARITHMETIC = {
    "GFLOP/s": _of("flops_per_second", ".0f", 1e-9),
    "of a matrix product": _of("of_matrix_product", ".0%"),
}
_CODEC = {
    "autoencoder": _of("stage"),
    "seconds a frame": _of("seconds", ".3g"),
    "in P": _of("in_p", ".2f"),
    "tensors, MB at most": _of("tensors_mb", ".0f"),
}
_PRESETS = {
    "frames": _of("frames"),
    "memory": _of("preset"),
    "checkpointing": _of("gradient_checkpointing"),
    "query rank": _of("query_rank", none="full"),
    "frames per step": _of("frames_per_step", none="all"),
    "estimate, MB": _of("estimate_mb", ".0f"),
    "measured, MB": _of("peak_mb", ".0f"),
    "seconds a step": _of("seconds", ".3g"),
}
_GROWTH = {
    "frames": _of("frames"),
    "latents": lambda row: "{latent_side}x{latent_side}".format(**row),
    "plain, s": _of("plain", ".3g"),
    "inflated, s": _of("inflated", ".3g"),
    "in P": _of("in_p", ".2f"),
    "attention and norms, ms a frame": _of("overhead_per_frame", ".1f", 1000),
    "temporal layers, ms a frame": _of("temporal_per_frame", ".1f", 1000),
}
_STEPS = {
    "steps of inversion": _of("steps"),
    **_TIMES,
    "in P a step": lambda row: f"{row['in_p'] / row['steps']:.2f}",
}
