"""The expressions of the dashboard and of the rules, and a Prometheus that executes them."""

import json
import math
import re
import urllib.parse

from stage import MONITORING, fetch

VARIABLES = {
    "$__rate_interval": "15s", "$quantile": "0.99", "$job": "clarion", "$namespace": ".*", "$pod": ".*", "$instance": ".*",
    "$channel_namespace": ".*",
}
# A comparison at the end of an operand, without which it has a value whether somebody is alerted or not.
LIMIT = re.compile(r"\s*(==|<|>)\s*[^=<>]+$")


class Prometheus:
    """Asks a live server."""

    def __init__(self, address):
        self.address = address

    def ask(self, path, **parameters):
        """What the server answers. An error is raised as it tells it."""
        query = urllib.parse.urlencode(parameters, doseq=True)
        _, text = fetch(f"{self.address}/api/v1/{path}?{query}")
        answer = json.loads(text)
        if answer["status"] != "success":
            raise AssertionError(answer["error"])
        return answer["data"]

    def samples(self, expression, start, end):
        """The series of an expression over the whole time, without what is no number: labels and points."""
        series = self.ask("query_range", query=expression, start=start, end=end, step=1)["result"]
        numbers = [(one["metric"], [(at, float(value)) for at, value in one["values"]]) for one in series]
        finite = [(labels, [point for point in points if math.isfinite(point[1])]) for labels, points in numbers]
        return [(labels, points) for labels, points in finite if points]

    def scrapes(self, instance):
        """How often a node has answered."""
        result = self.ask("query", query=f'sum_over_time(up{{instance="{instance}"}}[1h])')["result"]
        return int(result[0]["value"][1]) if result else 0


def substituted(expression):
    """With a value for each variable."""
    for name in sorted(VARIABLES, key=len, reverse=True):
        expression = expression.replace(name, VARIABLES[name])
    return expression


def read_dashboard():
    """The dashboard as it is committed."""
    return json.loads((MONITORING / "dashboard.json").read_text())


def panels():
    """Each panel with its row, those of collapsed rows too."""
    row = ""
    for panel in read_dashboard()["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
        for inner in panel["panels"] if panel["type"] == "row" else [panel]:
            yield row, inner


def dashboard_expressions():
    """Where each stands, and the expression."""
    for row, panel in panels():
        for target in panel["targets"]:
            yield f"{row} / {panel['title']} / {target['refId']}", target["expr"]
    for annotation in read_dashboard()["annotations"]["list"]:
        yield f"annotation / {annotation['name']}", annotation["expr"]


def variable_queries():
    """The name of each variable that is asked of Prometheus, the series that it looks at, and the label."""
    for variable in read_dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            series, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"]).groups()
            yield variable["name"], series, label


def operands(expression):
    """The parts of an alert, each without its limit: silent alerts have no value, these do."""
    parts = re.split(r"\b(?:and|or|unless)\b(?:\s+on\s*\(\w+\))?", expression)
    for part in parts:
        text = LIMIT.sub("", part.strip().removesuffix(")").strip() if part.count(")") > part.count("(") else part.strip())
        yield text.removeprefix("(").strip() if text.count("(") > text.count(")") else text
