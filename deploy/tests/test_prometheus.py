"""Recording rules and alerts: they are valid, fire when they should, name metrics that exist, and are in the runbook."""

import re
import unittest

from deploy.tests import promql
from deploy.tests.containerfile import ROOT
from deploy.tests.tools import DEPLOY, load_yaml, run

FOLDER = DEPLOY / "prometheus"
UNIT_TESTS = FOLDER / "tests/alerts.yaml"


def rules(file):
    return [rule for group in load_yaml(FOLDER / file)["groups"] for rule in group["rules"]]


class Rules(unittest.TestCase):
    def setUp(self):
        self.recorded = {rule["record"] for rule in rules("rules.yaml")}
        self.alerts = {rule["alert"]: rule for rule in rules("alerts.yaml")}

    def test_rules_are_valid(self):
        run("promtool", "check", "rules", "--lint-fatal", FOLDER / "rules.yaml", FOLDER / "alerts.yaml")

    def test_alerts_fire_as_their_unit_tests_say(self):
        run("promtool", "test", "rules", UNIT_TESTS)

    def test_every_alert_has_a_unit_test_that_fires_it_and_one_that_does_not(self):
        fired, quiet = set(), set()
        for group in load_yaml(UNIT_TESTS)["tests"]:
            for case in group["alert_rule_test"]:
                (fired if case.get("exp_alerts") else quiet).add(case["alertname"])
        self.assertEqual((fired, quiet), (set(self.alerts), set(self.alerts)))

    def test_every_alert_has_a_section_in_the_runbook_and_no_section_is_left_over(self):
        sections = re.findall(r"^## (Keygate\w+)$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)
        self.assertEqual(sections, list(self.alerts))
        for name, alert in self.alerts.items():
            self.assertEqual(alert["annotations"]["runbook_url"], f"docs/runbook.md#{name.lower()}")

    def test_rules_name_only_metrics_that_exist(self):
        known = promql.exported() | self.recorded | {"up"}
        for rule in [*rules("rules.yaml"), *self.alerts.values()]:
            self.assertEqual(promql.metrics(rule["expr"]) - known, set(), rule)


class Names(unittest.TestCase):
    def test_metrics_of_an_expression_are_found(self):
        text = 'sum by (route, le) (rate(a_bucket{x="b{c"}[5m])) / on (route) rule:d:rate5m > 0.5 and e offset 5m or vector(0)'
        self.assertEqual(promql.metrics(text), {"a_bucket", "rule:d:rate5m", "e"})

    def test_metrics_of_the_sources_are_found(self):
        self.assertLessEqual({"keygate_gateway_requests_total", "keygate_feed_propagation_seconds_bucket"}, promql.exported())
        self.assertNotIn("keygate_no_such_metric", promql.exported())
