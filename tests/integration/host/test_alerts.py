"""The alert rules of `evergreen metrics --alerts`, checked and run by Prometheus' own tool."""

import json
import re
import shutil
import subprocess

import pytest
import yaml

from evergreen_host.monitor import metrics
from tools.paths import DOCS

PROMTOOL = shutil.which("promtool")
PIPELINE = '{instance="db", job="evergreen", pipeline="docs"}'
HOST = '{instance="db", job="evergreen"}'
# What the metrics are, minute by minute, and the only alert of that.
FIRES = {
    "EvergreenDatabaseDown": {f"evergreen_up{HOST}": "0x120"},
    "EvergreenPipelineBroken": {'evergreen_state{pipeline="docs", state="broken"}': "1x120"},
    "EvergreenLate": {'evergreen_state{pipeline="docs", state="late"}': "1x120"},
    "EvergreenNoWorker": {f"evergreen_workers{HOST}": "0x120", f"evergreen_pending{PIPELINE}": "3x120"},
    "EvergreenModelChanged": {'evergreen_state{pipeline="docs", state="model changed"}': "1x120"},
    "EvergreenBudgetSpent": {'evergreen_budget_spent{pipeline="docs", budget="daily_cost"}': "1x120"},
    "EvergreenSlotGrowing": {f"evergreen_slot_lag_bytes{HOST}": "2000000000+1000000x120"},
    "EvergreenDeadLetters": {f"evergreen_failed{PIPELINE}": "0x90 1x30"},
    "EvergreenBatchOverdue": {'evergreen_batch_overdue{endpoint="cheap"}': "2x120"},
}
QUIET = {
    f"evergreen_up{HOST}": "1x120",
    'evergreen_state{pipeline="docs", state="active"}': "1x120",
    'evergreen_state{pipeline="docs", state="late"}': "0x120",
    'evergreen_state{pipeline="paused", state="paused"}': "1x120",
    f"evergreen_workers{HOST}": "0x120",
    f"evergreen_pending{PIPELINE}": "0x120",
    'evergreen_pending{instance="other", job="evergreen", pipeline="docs"}': "5x120",
    'evergreen_budget_spent{pipeline="docs", budget="daily_cost"}': "0x120",
    f"evergreen_slot_lag_bytes{HOST}": "5000000000-10000000x120",
    f"evergreen_failed{PIPELINE}": "7x120",
    'evergreen_batch_overdue{endpoint="cheap"}': "0x120",
}


def rules():
    return [rule for group in yaml.safe_load(metrics.alerts())["groups"] for rule in group["rules"]]


@pytest.fixture
def promtool(tmp_path):
    if PROMTOOL is None:
        raise FileNotFoundError("promtool is not installed: make test-packages")
    (tmp_path / "rules.yaml").write_text(metrics.alerts())

    def run(*arguments):
        return subprocess.run([PROMTOOL, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


def test_promtool_accepts_them(promtool):
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", "rules.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{len(FIRES)} rules found" in done.stdout


def test_each_fires_when_it_should_and_no_other(promtool, tmp_path):
    cases = [
        {"input_series": [{"series": name, "values": value} for name, value in QUIET.items()], "alert_rule_test": []}
    ]
    cases += [{"input_series": [{"series": n, "values": v} for n, v in series.items()], "fires": name}
              for name, series in FIRES.items()]  # fmt: skip
    for case in cases:
        case["interval"] = "1m"
        fires = case.pop("fires", None)
        expression = 'count by (alertname) (ALERTS{alertstate="firing"})'
        samples = [{"labels": f'{{alertname="{fires}"}}', "value": 1}] if fires else []
        case["promql_expr_test"] = [{"expr": expression, "eval_time": "100m", "exp_samples": samples}]
    (tmp_path / "tests.yaml").write_text(json.dumps({"rule_files": ["rules.yaml"], "tests": cases}))
    done = promtool("test", "rules", "tests.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_is_tested_and_tells_what_to_do():
    assert [rule["alert"] for rule in rules()] == list(FIRES)
    assert all(rule["annotations"].keys() == {"summary", "description"} for rule in rules())


def test_they_ask_for_metrics_that_there_are():
    asked = {name for rule in rules() for name in re.findall(r"evergreen_\w+", rule["expr"])}
    assert asked <= set(re.findall(r"`(evergreen_\w+)`", (DOCS / "reference" / "metrics.md").read_text()))
