"""The dashboard: its queries are valid and name only metrics that exist."""

import json
import re
import tempfile
import unittest

from deploy.tests import promql
from deploy.tests.tools import DEPLOY, load_json, run

DASHBOARD = DEPLOY / "grafana/keygate.json"
# What Grafana puts in the place of its variables.
VARIABLES = {"$__rate_interval": "5m", "$instance": ".*", "$route": ".*", "$upstream": ".*"}


def queries():
    """The queries of the dashboard by the title of their panel, with variables replaced."""
    found = []
    for panel in load_json(DASHBOARD)["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"]
            for variable, value in VARIABLES.items():
                query = query.replace(variable, value)
            found.append((panel["title"], query))
    return found


class Dashboard(unittest.TestCase):
    def test_queries_name_only_metrics_that_exist(self):
        known = promql.exported()
        for title, query in queries():
            self.assertNotEqual(promql.metrics(query), set(), title)
            self.assertEqual(promql.metrics(query) - known, set(), title)

    def test_variables_name_only_metrics_that_exist(self):
        texts = [variable.get("definition", "") for variable in load_json(DASHBOARD)["templating"]["list"]]
        names = {match[1] for text in texts if (match := re.match(r"label_values\((\w+),", text))}
        self.assertEqual(len(names), 3)
        self.assertLessEqual(names, promql.exported())

    def test_queries_are_valid(self):
        rules = [{"record": f"query:{number}", "expr": query} for number, (_, query) in enumerate(queries())]
        self.assertNotIn("$", json.dumps(rules))
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            # JSON is YAML.
            json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, file)
            file.flush()
            run("promtool", "check", "rules", "--lint-fatal", file.name)

    def test_panels_do_not_overlap_and_say_what_they_show(self):
        panels = load_json(DASHBOARD)["panels"]
        cells = [(x, y) for panel in panels for x, y in area(panel["gridPos"])]
        self.assertEqual(len(cells), len(set(cells)))
        self.assertEqual([panel["title"] for panel in panels if panel["type"] != "row" and not panel["description"]], [])


def area(position):
    columns = range(position["x"], position["x"] + position["w"])
    return [(x, y) for x in columns for y in range(position["y"], position["y"] + position["h"])]

