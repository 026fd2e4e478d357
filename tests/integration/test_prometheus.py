"""promtool on the files of drc: rules, configuration and metrics."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest

from drc.errors import DrcError
from drc.sandbox.fetch import Say, cached, loader, unpack_debian
from drc.web.metrics import SiteCollector, registry
from tests.unit.web.test_app import snapshot

CONF = Path(__file__).parents[2] / "conf"
STREAM = 'pair="shop", origin="a", target="b"'
RUNS = f'drc_stream_state{{{STREAM}, state="running"}}'
CANARY = f"drc_stream_canary_landed_timestamp_seconds{{{STREAM}}}"
# Series of ten minutes, a sample each 30 s, and the alerts at the end.
CASES: list[tuple[dict[str, str], set[str]]] = [
    ({'up{job="drc", instance="x"}': "1x20"}, set()),
    ({'up{job="drc", instance="x"}': "0x20"}, {"DrcDown"}),
    ({f"drc_stream_failed{{{STREAM}}}": "1x20"}, {"DrcStopped"}),
    ({'drc_publisher_failed{pair="shop", site="a"}': "1x20"}, {"DrcStopped"}),
    # An operator stopped the stream: nothing at first, a warning after an hour.
    (
        {
            f'drc_stream_state{{{STREAM}, state="stopped"}}': "1x20",
            f"drc_stream_failed{{{STREAM}}}": "0x20",
            f"drc_stream_queue_transactions{{{STREAM}}}": "5x20",
            f"drc_stream_progress_timestamp_seconds{{{STREAM}}}": "60x20",
        },
        set(),
    ),
    (
        {
            f'drc_stream_state{{{STREAM}, state="paused"}}': "1x140",
            f"drc_stream_failed{{{STREAM}}}": "0x140",
        },
        {"DrcHeld"},
    ),
    (
        {
            f'drc_stream_state{{{STREAM}, state="stopped"}}': "1x140",
            f"drc_stream_failed{{{STREAM}}}": "1x140",
        },
        {"DrcStopped"},
    ),
    ({f'drc_stream_state{{{STREAM}, state="connecting"}}': "1x20"}, {"DrcDisconnected"}),
    ({f'drc_stream_blocked{{{STREAM}, what="lock"}}': "1x20"}, {"DrcBlocked"}),
    ({f'drc_stream_blocked{{{STREAM}, what="paused"}}': "1x20"}, set()),
    ({f"drc_stream_behind_seconds{{{STREAM}}}": "0+30x20"}, {"DrcBehind"}),
    ({f"drc_stream_behind_seconds{{{STREAM}}}": "30x20"}, set()),
    ({CANARY: "100x20", RUNS: "1x20"}, {"DrcCanaryMissing"}),
    ({CANARY: "0+30x20", RUNS: "1x20"}, set()),
    ({CANARY: "100x20", RUNS: "0x20"}, set()),
    ({f"drc_stream_canaries_bounced_total{{{STREAM}}}": "0 0 1x18"}, {"DrcCanaryCameBack"}),
    ({'drc_watcher_transactions_forgotten{pair="shop", site="a"}': "0 5x20"}, {"DrcIndexForgets"}),
    (
        {
            f"drc_stream_queue_transactions{{{STREAM}}}": "5x20",
            f"drc_stream_progress_timestamp_seconds{{{STREAM}}}": "60x20",
            RUNS: "1x20",
        },
        {"DrcStalled"},
    ),
    ({f"drc_stream_sessions_total{{{STREAM}}}": "0+1x20"}, {"DrcFlapping"}),
]


def _fetch(into: Path, say: Say) -> None:
    unpack_debian("trixie", ("prometheus",), into, say)


@pytest.fixture(scope="module")
def promtool() -> list[str]:
    """Return the command of promtool: this machine's, or Debian's from the cache."""
    if own := os.environ.get("PROMTOOL") or shutil.which("promtool"):
        return [own]
    try:
        root = cached("prometheus", _fetch, print)
    except DrcError as error:
        pytest.skip(f"no promtool here: {error}; name one by PROMTOOL")
    return [*loader(root), f"{root}/usr/bin/promtool"]


def run(promtool: list[str], *args: str, given: bytes = b"") -> str:
    done = subprocess.run([*promtool, *args], input=given, capture_output=True, check=False)
    text = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, text
    return text


def test_it_takes_rules_and_configuration(promtool: list[str]) -> None:
    assert "rules found" in run(promtool, "check", "rules", str(CONF / "alerts.yml"))
    # Only the containers know the place of the token.
    run(promtool, "check", "config", "--syntax-only", str(CONF / "prometheus.yml"))


def test_it_finds_nothing_to_say_of_the_metrics(promtool: list[str]) -> None:
    text = generate_latest(registry(SiteCollector("shop", "b", snapshot)))
    assert run(promtool, "check", "metrics", given=text) == ""


def test_each_rule_is_raised_by_what_it_is_for(promtool: list[str], tmp_path: Path) -> None:
    rules = yaml.safe_load((CONF / "alerts.yml").read_text())
    names = [rule["alert"] for group in rules["groups"] for rule in group["rules"]]
    tests = [
        {
            "interval": "30s",
            "name": f"{number}",
            "input_series": [{"series": k, "values": v} for k, v in series.items()],
            "promql_expr_test": [
                {
                    "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                    "eval_time": "69m" if "x140" in str(series) else "9m",
                    "exp_samples": [
                        {"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(raised)
                    ],
                }
            ],
        }
        for number, (series, raised) in enumerate(CASES)
    ]
    file = tmp_path / "test.yml"
    file.write_text(
        yaml.safe_dump(
            {
                "rule_files": [str(CONF / "alerts.yml")],
                "evaluation_interval": "30s",
                "tests": tests,
            }
        )
    )
    run(promtool, "test", "rules", str(file))
    assert set(names) - set[str]().union(*(raised for _, raised in CASES)) == {"DrcLag"}
