"""The fault table: what becomes of runs at work when something is killed, lost or taken away under them.

    python -m tests.chaos [--only NAME…] [--json FILE] [--folder FOLDER]

Real Airflow, Ray, S3 server and jobs on this machine; each fault meets a run that ingests and one that dubs, at work at once. Prints
a Markdown table. Exit code 1 when a row is not as promised: a run that did not end well, or anything lost, doubled or alive twice.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from tests.chaos.case import play
from tests.chaos.rows import Row, Undisturbed, markdown, row_of
from tests.chaos.scenarios import SCENARIOS, Scenario, undisturbed
from tests.chaos.stage import Stage, services, stage
from tests.chaos.work import Material, Size, kept

WHOLE_LIMIT_S = 1740.0
"""No scenario begins later than a scenario's limit before that: the whole stays under 30 minutes."""
SCENARIO_LIMIT_S = 330.0


def main() -> int:
    """Exit code 0 when every row is as promised."""
    options = _options()
    began_s = time.monotonic()
    with services.ended_by_signals(), _folder(options.folder) as folder, stage(folder) as ready:
        print(f"Airflow on {ready.database}; everything of it is in {folder}; up after {time.monotonic() - began_s:.0f} s", file=sys.stderr, flush=True)
        usual, rows = _rows(ready, [scenario for scenario in SCENARIOS if scenario.name in (options.only or [scenario.name])], began_s)
    print(f"Airflow on {ready.database}, {time.monotonic() - began_s:.0f} s in all. {markdown(rows, usual)}")
    if options.json:
        options.json.write_text(json.dumps({"undisturbed_s": usual.seconds, "rows": [asdict(row) for row in rows]}, indent=2))
    return 0 if all(row.is_as_promised for row in rows) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=[scenario.name for scenario in SCENARIOS], help="these scenarios alone")
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--folder", type=Path, help="where the components keep their logs (default: a folder that is removed)")
    return parser.parse_args()


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="dubmill-chaos-") as made:
        yield Path(made)


def _rows(ready: Stage, scenarios: list[Scenario], began_s: float) -> tuple[Undisturbed, list[Row]]:
    """The undisturbed run, and a row for each scenario. The first run of all only warms up what is started once."""
    material = Material(ready, Size())
    play(ready, material, "warm-up", undisturbed, SCENARIO_LIMIT_S)
    first = play(ready, material, "undisturbed", undisturbed, SCENARIO_LIMIT_S)
    usual = Undisturbed(kept(first.work), {run.dag_id: first.ended_s[run.run_id] for run in first.runs if run.run_id in first.ended_s})
    rows = [row_of(first, "none", Undisturbed(material.expected, usual.seconds))]
    for scenario in scenarios:
        left_s = WHOLE_LIMIT_S - (time.monotonic() - began_s)
        case = play(ready, material, scenario.name, scenario.act, min(SCENARIO_LIMIT_S, left_s), scenario.workers)
        rows.append(row_of(case, scenario.title, usual))
        print(f"{scenario.name}: {rows[-1]}", file=sys.stderr, flush=True)
    return usual, rows


if __name__ == "__main__":
    sys.exit(main())
