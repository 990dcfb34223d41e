"""Parses every PromQL expression of the alerts and dashboards; prints what does not parse and how many do.

Usage: check.py ALERTS.yaml DASHBOARD.json...  Exit code 1 if any expression is wrong.
"""

import json
import re
import sys

import promql_parser

# What Grafana puts in before Prometheus sees an expression.
VARIABLES = {"$__rate_interval": "5m", "$namespace": "a", "$node": "b"}


def of_alerts(path):
    """Expressions of a file of rules, which writes each as one JSON text."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            found = re.match(r'\s+expr: (".*")$', line)
            if found:
                yield json.loads(found[1])


def of_dashboard(path):
    """Expressions of all panels."""
    with open(path, encoding="utf-8") as file:
        board = json.load(file)
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            yield expression


def main(paths):
    """Checks all files."""
    good, bad = 0, 0
    for path in paths:
        for expression in (of_dashboard if path.endswith(".json") else of_alerts)(path):
            try:
                promql_parser.parse(expression)
                good += 1
            except ValueError as error:
                bad += 1
                print(f"{path}: {expression}: {error}")
    try:
        promql_parser.parse("sum(rate(a[5m])")
        sys.exit("the parser takes what is no PromQL")
    except ValueError:
        pass
    print(f"{good} expressions parse, {bad} do not")
    return 1 if bad or good < 60 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
