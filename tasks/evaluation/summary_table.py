"""An evaluation's figures as lines for a terminal."""

from schemas.jobs import Estimate, EvaluationSummary

HEAD = ("metric", "generated", "95 %", "real", "clips", "better")


def summary_lines(summary: EvaluationSummary) -> list[str]:
    """A table of the metrics, then what was not compared and what was not measured, each with its reason."""
    rows = [
        HEAD,
        *(
            (figure.name, _value(figure.generated), interval(figure.generated), _value(figure.real), _clips(figure.generated), figure.better)
            for figure in summary.metrics
        ),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"{summary.compared} of {summary.pairs} pairs were compared; the rows are in {summary.out}."]
    lines += [f"gate {summary.gate.status}: {summary.gate.sentence}"]
    lines += [f"{each.status}: {each.name}: {each.detail}" for each in summary.not_compared]
    lines += [f"left out, as it has no partner: {name}" for name in summary.unpaired]
    lines += [f"not measured: {name}: {why}" for name, why in summary.absent.items()]
    return lines


def _value(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    return f"{estimate.value:.4g}{' (exact)' if estimate.exact else ''}"


def interval(estimate: Estimate | None) -> str:
    """Both ends; nothing where there is no interval."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    return f"{estimate.low:.4g} to {estimate.high:.4g}"


def _clips(estimate: Estimate | None) -> str:
    return str(estimate.clips) if estimate else "0"
