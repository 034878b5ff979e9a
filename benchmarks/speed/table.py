"""What was measured, as tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from .targets import TARGETS, TARGETS_FOR


def tables(report: dict) -> str:
    """All tables of a report."""
    parts = [_stages(report), _memory(report), _presets(report), _codec(report), _growth(report)]
    return "\n\n".join(part for part in parts if part)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def _stages(report: dict) -> str:
    if "stages" not in report:
        return ""
    targets = TARGETS if report["size"] == TARGETS_FOR else {}
    header = ["host", "stage", "seconds", "in P", "at most", "official", "GFLOP/s", "of a matrix product"]
    rows = []
    for row in report["stages"]:
        most, official, *_ = targets.get(row["stage"], (None, None))
        rows.append(
            [
                row["host"],
                row["stage"],
                f"{row['seconds']:.3g}",
                f"{row['in_p']:.2f}",
                _or_dash(most, "{:.1f}"),
                _or_dash(official, "{:.1f}"),
                f"{row['flops_per_second'] / 1e9:.0f}",
                f"{100 * row['of_matrix_product']:.0f} %",
            ]
        )
    rate = report["matrix_product_flops_per_second"] / 1e9
    return f"{markdown(header, rows)}\n\nA matrix product in the same run: {rate:.0f} GFLOP/s."


def _memory(report: dict) -> str:
    if "memory" not in report:
        return ""
    targets = TARGETS if report["size"] == TARGETS_FOR else {}
    header = ["host", "stage", "peak MB", "libraries alone", "at most", "official"]
    rows = []
    for row in report["memory"]:
        *_, most, official = targets.get(row["stage"], (None, None))
        rows.append(
            [
                row["host"],
                row["stage"],
                f"{row['peak_mb']:.0f}",
                f"{row['libraries_mb']:.0f}",
                _or_dash(most, "{}"),
                _or_dash(official, "{}"),
            ]
        )
    return markdown(header, rows)


def _codec(report: dict) -> str:
    if "codec" not in report:
        return ""
    rows = [
        [row["stage"], f"{row['seconds']:.3g}", f"{row['in_p']:.2f}", f"{row['tensors_mb']:.0f}"]
        for row in report["codec"]
    ]
    return markdown(["autoencoder", "seconds a frame", "in P", "tensors, MB at most"], rows)


def _presets(report: dict) -> str:
    rows = [
        [
            str(row["frames"]),
            row["preset"],
            row["gradient_checkpointing"],
            str(row["query_rank"] or "full"),
            str(row["frames_per_step"] or "all"),
            f"{row['estimate_mb']:.0f}",
            _or_dash(row.get("peak_mb"), "{:.0f}"),
            _or_dash(row.get("seconds"), "{:.3g}"),
        ]
        for row in report.get("presets", [])
    ]
    header = [
        "frames",
        "memory",
        "checkpointing",
        "query rank",
        "frames per step",
        "estimate, MB",
        "measured, MB",
        "seconds a step",
    ]
    return markdown(header, rows) if rows else ""


def _growth(report: dict) -> str:
    rows = [
        [
            str(row["frames"]),
            f"{row['latent_side']}x{row['latent_side']}",
            f"{row['plain']:.3g}",
            f"{row['inflated']:.3g}",
            f"{row['in_p']:.2f}",
            f"{1000 * row['overhead_per_frame']:.1f}",
            f"{1000 * row['temporal_per_frame']:.1f}",
        ]
        for row in report.get("growth_frames", []) + report.get("growth_sides", [])
    ]
    header = [
        "frames",
        "latents",
        "plain, s",
        "inflated, s",
        "in P",
        "attention and norms, ms a frame",
        "temporal layers, ms a frame",
    ]
    steps = [
        [
            str(row["steps"]),
            f"{row['seconds']:.3g}",
            f"{row['in_p']:.2f}",
            f"{row['in_p'] / row['steps']:.2f}",
        ]
        for row in report.get("growth_steps", [])
    ]
    parts = [markdown(header, rows)] if rows else []
    parts += [markdown(["steps of inversion", "seconds", "in P", "in P a step"], steps)] if steps else []
    return "\n\n".join(parts)


def _or_dash(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)
