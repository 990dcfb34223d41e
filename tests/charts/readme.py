"""Writes the tables of values into the READMEs of the charts, out of the comments of values.yaml.

A comment that begins with `# --` describes the key below it, and only such keys have a row. `check` tells which READMEs are
out of date; run as a program this writes them. Does not know what the values mean.
"""

import json
import pathlib
import re
import sys

import yaml

CHARTS = pathlib.Path(__file__).parents[2] / "charts"
BEGIN, END = "<!-- values: begin -->", "<!-- values: end -->"
KEY = re.compile(r"^( *)([A-Za-z][A-Za-z0-9]*):")


def described(path):
    """(key, description, default) of every described key, in the order of the file."""
    values = yaml.safe_load(path.read_text())
    rows, above, comment = [], [], None
    for line in path.read_text().splitlines():
        if line.strip().startswith("# -- "):
            comment = line.strip()[5:]
        elif found := KEY.match(line):
            depth = len(found[1]) // 2
            above = above[:depth] + [found[2]]
            if comment:
                default = values
                for name in above:
                    default = default[name]
                rows.append((".".join(above), comment, default))
            comment = None
    return rows


def table(path, prefix=""):
    """The rows of one values.yaml as Markdown."""
    lines = ["| value | default | |", "| --- | --- | --- |"]
    for key, text, default in described(path):
        shown = "`" + json.dumps(default).replace("|", "\\|") + "`"
        lines.append(f"| `{prefix}{key}` | {shown} | {text} |")
    return "\n".join(lines)


def wanted(chart):
    """The README of a chart as it should be."""
    text = (CHARTS / chart / "README.md").read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    own = [] if chart == "outrigger-lib" else [table(CHARTS / chart / "values.yaml")]
    tables = "\n\nOf the node:\n\n".join([*own, table(CHARTS / "outrigger-lib" / "values.yaml", "outrigger.")])
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


def check():
    """The READMEs that are not as they should be."""
    names = ["outrigger", "outrigger-lib"]
    return [name for name in names if (CHARTS / name / "README.md").read_text() != wanted(name)]


if __name__ == "__main__":
    for stale in check():
        (CHARTS / stale / "README.md").write_text(wanted(stale))
        print(f"wrote charts/{stale}/README.md", file=sys.stderr)
