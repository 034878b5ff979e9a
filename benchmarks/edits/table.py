"""From results to tables: per row, overall and per kind, with the spread over the cases."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .cases import KINDS
from .rows import ROWS


@dataclass(frozen=True)
class Column:
    """One measure in a table. factor: what the raw value is shown times."""

    key: str
    title: str
    factor: float = 1.0
    digits: int = 1


COLUMNS = (
    Column("edit_success", "edit %", 100, 0),
    Column("source_kept", "kept %", 100, 0),
    Column("motion_median", "motion px"),
    Column("motion_p90", "p90 px"),
    Column("frame_consistency", "consistency", digits=2),
    Column("background_psnr", "bg PSNR"),
    Column("warping_error", "warp x1000", 1000),
    Column("reconstruction_psnr", "recon PSNR"),
    Column("clip_frame_consistency", "CLIP frame", digits=2),
    Column("clip_text_alignment", "CLIP text", digits=2),
)


def summary(results: Sequence[dict]) -> dict:
    """{row: {"all" or kind: {measure: {"mean", "std", "cases"}, ...}, "costs", "against full"}}, ready for JSON.

    mean and std are over cases. Motion errors are pooled: motion_median and motion_p90 are over the frames of all
    cases, their std over the cases' own. "against full" is the mean difference to the full method on the same
    cases and its standard error.
    """
    rows = [name for name in ROWS if any(result["row"] == name for result in results)]
    table = {}
    for row in rows:
        of_row = [result for result in results if result["row"] == row]
        groups = {"all": of_row} | {kind: [r for r in of_row if r["kind"] == kind] for kind in KINDS}
        table[row] = {name: _measures(group) for name, group in groups.items() if group}
        table[row]["costs"] = _costs(of_row)
        if "full" in rows and row != "full":
            table[row]["against full"] = _differences(of_row, [r for r in results if r["row"] == "full"])
    return table


def terminal(table: dict) -> str:
    """The tables as text for a terminal."""
    parts = []
    for group in ("all", *KINDS):
        lines = _lines(table, group)
        if len(lines) > 1:
            parts.append(("all edits" if group == "all" else f"{group} edits") + "\n" + _aligned(lines))
    parts.append("cost per stage (mean seconds; largest peak memory)\n" + _aligned(_cost_lines(table)))
    return "\n\n".join([*parts, "\n".join(remarks(table))])


def markdown(table: dict, command: str) -> str:
    """The tables for a README, with the ``command`` that makes them."""
    parts = [f"Made by `{command}`; mean ± standard deviation over the cases."]
    parts.append(_marked(_lines(table, "all")))
    first = next(iter(table))
    kinds = [kind for kind in KINDS if kind in table[first]]
    titles = _lines({first: table[first]}, "all")[0]
    by_kind = [["kind", *titles[1:]]]
    by_kind += [[kind, *_cells(table[first][kind], _columns({first: table[first]}))] for kind in kinds]
    parts += [f"By kind of edit, {ROWS[first].title}:", _marked(by_kind), "Cost per stage:"]
    parts.append(_marked(_cost_lines(table)))
    parts.append("\n".join(f"- {line}" for line in remarks(table)))
    return "\n\n".join(parts) + "\n"


def remarks(table: dict) -> list[str]:
    """Whether the method meets its targets, and whether each ablation loses what the paper says it should."""
    if "full" not in table:
        return []
    full = _means(table, "full")
    lines = [
        _target("edit success", 100 * full["edit_success"], 90, "%", at_least=True),
        _target("motion error (median)", full["motion_median"], 4, "px", at_least=False),
    ]
    if "source_kept" in full:
        lines.insert(1, _target("source kept", 100 * full["source_kept"], 90, "%", at_least=True))
    if "source" in table:
        gap = abs(full["frame_consistency"] - _means(table, "source")["frame_consistency"])
        lines.append(_target("consistency away from the sources'", gap, 1, "points", at_least=False))
    for row, key, word, sign in _EXPECTED:
        difference = table.get(row, {}).get("against full", {}).get(key)
        if difference is not None:
            lines.append(
                f"{ROWS[row].title}: {word}: {_verdict(difference, sign)} ({_shift(difference, key)})"
            )
    return lines


# What the paper says that each ablation loses: the measure, and whether it should rise or fall.
_EXPECTED = (
    ("untuned", "frame_consistency", "frames agree less", -1),
    ("untuned", "motion_median", "motion is worse", 1),
    ("per-frame-attention", "frame_consistency", "frames agree less", -1),
    ("no-temporal", "warping_error", "it flickers more", 1),
    ("random-noise", "motion_median", "motion is worse", 1),
    ("shared-noise", "motion_median", "motion is worse", 1),
    ("image", "frame_consistency", "frames agree less", -1),
    ("image", "motion_median", "motion is worse", 1),
    ("source", "edit_success", "nothing is edited", -1),
    ("controlnet", "motion_median", "motion is better", -1),
)


def _verdict(difference: dict, sign: int) -> str:
    """Clearly: more than twice the standard error of the mean difference over the same cases."""
    shift = sign * difference["mean"]
    if shift <= 0:
        return "NO"
    if difference["cases"] < 2:
        return "yes, in the only case"
    return "yes, clearly" if shift > 2 * difference["error"] else "yes, but within the spread"


def _shift(difference: dict, key: str) -> str:
    column = next(column for column in COLUMNS if column.key == key)
    sign = "+" if difference["mean"] >= 0 else ""
    return (
        f"{column.title} {sign}{_number(difference['mean'], column)} ± {_number(difference['error'], column)}"
    )


def _differences(results: Sequence[dict], full: Sequence[dict]) -> dict:
    theirs, ours = ({_identity(result): _values(result) for result in group} for group in (results, full))
    differences = {}
    for column in COLUMNS:
        pairs = [
            (theirs[case].get(column.key), ours[case].get(column.key)) for case in theirs if case in ours
        ]
        found = [their - our for their, our in pairs if their is not None and our is not None]
        if found:
            error = statistics.stdev(found) / len(found) ** 0.5 if len(found) > 1 else 0.0
            differences[column.key] = {"mean": statistics.mean(found), "error": error, "cases": len(found)}
    return differences


def _identity(result: dict) -> tuple:
    return result["source"], result["prompt"], result["seed"]


def _values(result: dict) -> dict:
    """A result's measures, with its own motion median and 90th percentile."""
    errors = sorted(result["motion_errors"])
    return {**result, "motion_median": _quantile(errors, 0.5), "motion_p90": _quantile(errors, 0.9)}


def _measures(results: Sequence[dict]) -> dict:
    own = [_values(result) for result in results]
    measures = {}
    for column in COLUMNS:
        found = [values[column.key] for values in own if values.get(column.key) is not None]
        if found:
            measures[column.key] = _spread(found)
    pooled = sorted(error for result in results for error in result["motion_errors"])
    measures["motion_median"]["mean"] = _quantile(pooled, 0.5)
    measures["motion_p90"]["mean"] = _quantile(pooled, 0.9)
    return measures


def _costs(results: Sequence[dict]) -> dict:
    stages = dict.fromkeys(stage for result in results for stage in result["costs"])
    costs = {}
    for stage in stages:
        found = [result["costs"][stage] for result in results if stage in result["costs"]]
        peaks = [cost["peak_mb"] for cost in found if cost["peak_mb"] is not None]
        costs[stage] = {
            "seconds": round(statistics.mean(cost["seconds"] for cost in found), 2),
            "peak_mb": max(peaks, default=None),
        }
    return costs


def _spread(values: Sequence[float]) -> dict:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.mean(values), "std": deviation, "cases": len(values)}


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Linear interpolation between the neighbours, as numpy's default."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def _means(table: dict, row: str) -> dict[str, float]:
    return {key: measure["mean"] for key, measure in table[row]["all"].items()}


def _target(name: str, value: float, bound: float, unit: str, at_least: bool) -> str:
    met = value >= bound if at_least else value <= bound
    relation = "at least" if at_least else "at most"
    return f"target: {name} {relation} {bound} {unit}: {value:.1f}, {'met' if met else 'NOT met'}"


def _columns(table: dict) -> list[Column]:
    """The columns that any row has a value for."""
    return [column for column in COLUMNS if any(column.key in row["all"] for row in table.values())]


def _lines(table: dict, group: str) -> list[list[str]]:
    columns = _columns(table)
    lines = [["row", *(column.title for column in columns)]]
    for row, groups in table.items():
        if group in groups:
            lines.append([ROWS[row].title, *_cells(groups[group], columns)])
    return lines


def _cells(measures: dict, columns: Sequence[Column]) -> list[str]:
    cells = []
    for column in columns:
        measure = measures.get(column.key)
        if measure is None:
            cells.append("-")
        else:
            cells.append(f"{_number(measure['mean'], column)} ± {_number(measure['std'], column)}")
    return cells


def _number(value: float | None, column: Column) -> str:
    return "-" if value is None else f"{value * column.factor:.{column.digits}f}"


def _cost_lines(table: dict) -> list[list[str]]:
    stages = list(dict.fromkeys(stage for groups in table.values() for stage in groups["costs"]))
    lines = [["row", *stages]]
    for row, groups in table.items():
        if groups["costs"]:
            lines.append([ROWS[row].title, *(_cost(groups["costs"].get(stage)) for stage in stages)])
    return lines


def _cost(cost: dict | None) -> str:
    if cost is None:
        return "-"
    memory = "" if cost["peak_mb"] is None else f", {cost['peak_mb']} MB"
    return f"{cost['seconds']:.1f} s{memory}"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[index]) for line in lines) for index in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    )


def _marked(lines: Sequence[Sequence[str]]) -> str:
    head = ["| " + " | ".join(lines[0]) + " |", "|---" + "|---:" * (len(lines[0]) - 1) + "|"]
    return "\n".join(head + ["| " + " | ".join(line) + " |" for line in lines[1:]])
