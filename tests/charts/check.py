"""The charts under Helm 3 and Helm 4: lint, renders, schemas of Kubernetes, refused values, READMEs; and what stands beside
them: the example chart, the Dockerfile, the compose file.

Prints a line for each failure and `N passed, N failed` last. Renders are held against tests/fixtures/charts, written by
TEST_ACCEPT_GOLDEN=1. Works in a copy, so that a run leaves nothing in the tree. Does not know a cluster: what the API server
does beyond its schemas is not seen here, and the running pod is tests/it/kubernetes.rs.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import kubernetes_validate
import yaml

import compose
import readme
import refused

ROOT = pathlib.Path(__file__).parents[2]
GOLDEN = ROOT / "tests/fixtures/charts"
HELMS = ["helm", "helm3"]
VERSIONS = ["1.29", "1.33", kubernetes_validate.latest_version()]
EXAMPLES = ["flights"]
# Folders of files that the chart hands on as they are; they are no part of golden renders.
HANDED_ON = ["alerts", "dashboards"]

failures, passed = [], 0


def judge(name, problem):
    """Counts one check; no problem is an empty text."""
    global passed
    if problem:
        failures.append(f"{name}: {problem}")
    else:
        passed += 1


def run(*command, cwd=None):
    """(whether it succeeded, standard output, both outputs)"""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode == 0, done.stdout, done.stdout + done.stderr


class Strict(yaml.SafeLoader):
    """Refuses a key that stands twice, which the API server would drop or refuse."""


def construct_mapping(loader, node, deep=False):
    """A map without repeated keys."""
    keys = [key.value for key, _ in node.value]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.YAMLError(f"{sorted(twice)} twice, at line {node.start_mark.line + 1}")
    return yaml.SafeLoader.construct_mapping(loader, node, deep)


Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, construct_mapping)


def objects_of(rendered):
    """The objects of a render."""
    return [one for one in yaml.load_all(rendered, Loader=Strict) if one]


def problems_of(rendered):
    """What is wrong with the objects of a render, by the schemas of every version and by rules of our own."""
    try:
        objects = objects_of(rendered)
    except yaml.YAMLError as error:
        return [f"expected YAML: {error}"]
    problems, names = [], set()
    for one in objects:
        name = (one["kind"], one["metadata"]["name"])
        if name in names:
            problems.append(f"{name} stands twice")
        names.add(name)
        if len(one["metadata"]["name"]) > 63:
            problems.append(f"{name}: a name of more than 63 characters")
        if one["apiVersion"].startswith("monitoring.coreos.com/"):
            continue  # custom resources: no schema comes with Kubernetes
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(one, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                problems.append(f"{version} {name}: {error.message} at {'.'.join(map(str, error.path))}")
        problems += [f"{name}: {problem}" for problem in rules_of(one)]
    return problems


def pod_of(one):
    """The pod's template in an object, if there is one."""
    spec = one.get("spec", {})
    if one["kind"] == "Pod":
        return spec
    if one["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return spec.get("template", {}).get("spec")


def rules_of(one):
    """What every pod of the charts keeps to, and no schema says."""
    pod = pod_of(one)
    if pod is None:
        return
    if pod.get("automountServiceAccountToken") is not False or pod.get("enableServiceLinks") is not False:
        yield "a token of the service account, or service links"
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    for container in pod.get("initContainers", []) + pod["containers"]:
        name = container["name"]
        names = [env["name"] for env in container.get("env", [])]
        if len(names) != len(set(names)):
            yield f"{name}: one name of environment twice"
        for mount in container.get("volumeMounts", []):
            if "subPath" in mount:
                yield f"{name}: {mount['name']} is mounted by subPath, which never changes"
            if mount["name"] not in volumes:
                yield f"{name}: there is no volume {mount['name']}"
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if isinstance(container.get(probe, {}).get("httpGet", {}).get("port", 0), str):
                yield f"{name}: {probe} names its port; named ports of sidecars did not resolve before 1.32"
        context = container.get("securityContext", {})
        if "/outrigger" in container["image"] and not (
            context.get("runAsNonRoot")
            and context.get("readOnlyRootFilesystem")
            and context.get("allowPrivilegeEscalation") is False
            and context.get("capabilities") == {"drop": ["ALL"]}
            and context.get("seccompProfile") == {"type": "RuntimeDefault"}
        ):
            yield f"{name}: not as confined as it should be"


def check_golden(file, rendered):
    """Holds a render against the one that was accepted."""
    path = GOLDEN / file
    if os.environ.get("TEST_ACCEPT_GOLDEN") == "1":
        path.write_text(rendered)
    expected = path.read_text() if path.exists() else ""
    if rendered == expected:
        return ""
    first = next(
        (at for at, (a, b) in enumerate(zip(rendered.splitlines(), expected.splitlines()), 1) if a != b),
        min(len(rendered.splitlines()), len(expected.splitlines())) + 1,
    )
    return f"differs from {path.relative_to(ROOT)} from line {first} on; if that is meant, TEST_ACCEPT_GOLDEN=1"


def check_chart(work, chart, name, values):
    """Lint and render of one chart with one file of values, under both Helms; the render of Helm 4, checked."""
    renders, results = {}, []
    arguments = ["-f", values] if values else []
    for helm in HELMS:
        good, _, said = run(helm, "lint", "--strict", chart, *arguments, cwd=work)
        results.append((f"{helm} lint {name}", "" if good else said))
        good, out, said = run(helm, "template", "flights", chart, "--namespace", "air", *arguments, cwd=work)
        results.append((f"{helm} template {name}", "" if good else said))
        renders[helm] = out if good else ""
    same = renders["helm"] == renders["helm3"]
    results.append((f"{name}: both Helms render the same", "" if same else "they do not"))
    results.append((f"{name}: objects", "; ".join(problems_of(renders["helm"]))))
    results.append((f"{name}: golden", check_golden(f"{name}.yaml", renders["helm"])))
    if values:
        dry = ["install", "flights", chart, "--namespace", "air", "--dry-run=client", *arguments]
        _, out, said = run("helm", *dry, cwd=work)
        notes = out.partition("\nNOTES:\n")[2]
        results.append((f"{name}: notes", check_golden(f"{name}.notes.txt", notes) if notes else said))
    return results


def check_refused(work, helm, case):
    """A bad value is refused, and the message names it."""
    base, setting, names = case
    values = f"outrigger/ci/{base}-values.yaml"
    good, _, said = run(helm, "template", "flights", "outrigger", "-f", values, *setting, cwd=work)
    missing = [name for name in names if name not in said.replace("/", ".")]
    problem = "it was rendered" if good else f"{missing} is not in: {said}" if missing else ""
    return f"{helm} refuses {base} {' '.join(setting)}", problem


def check_rolls(work):
    """What restarts the pod: settings, image, keys. Definitions do not."""

    def pod(*setting):
        values = ["-f", "outrigger/ci/mesh-values.yaml", *setting]
        _, out, said = run("helm", "template", "flights", "outrigger", *values, cwd=work)
        sets = [one for one in objects_of(out) if one["kind"] == "StatefulSet"]
        return sets[0]["spec"]["template"] if sets else said

    before = pod()
    definition = r"outrigger.projections.files.b-v2\.yaml=projection: b"
    for setting, rolls in [
        (definition, False),
        (r"outrigger.exports.files.departures-v2\.yaml=export: departures", False),
        ("outrigger.persistence.size=20Gi", False),
        ("outrigger.limits.memory=128MiB", True),
        ("outrigger.image.tag=0.2.0", True),
        ("outrigger.mesh.keySecret=flights-mesh-key-2", True),
        ("outrigger.keysRevision=2", True),
    ]:
        differs = pod("--set-string", setting) != before
        yield f"{setting} {'restarts' if rolls else 'leaves'} the pod", "" if differs == rolls else "it does not"


def check_files(work):
    """Alerts and dashboards are files that the chart hands on as they are, braces and all."""
    folders = [work / "outrigger" / name for name in HANDED_ON]
    for folder in folders:
        folder.mkdir()
        for file in (ROOT / "charts/outrigger" / folder.name).glob("*"):
            shutil.copy(file, folder)
    rule = {"alert": "Check", "expr": "up == 0", "annotations": {"summary": "{{ $labels.node }} is {{ $value }}"}}
    board = '{\n  "title": "Check",\n  "legend": "{{ node }}"\n}\n'
    (folders[0] / "check.yaml").write_text(yaml.safe_dump({"groups": [{"name": "check", "rules": [rule]}]}))
    (folders[1] / "check.json").write_text(board)
    _, out, said = run("helm", "template", "flights", "outrigger", "-f", "outrigger/ci/full-values.yaml", cwd=work)
    objects = objects_of(out)
    groups = [one["spec"]["groups"] for one in objects if one["kind"] == "PrometheusRule"]
    found = [rule in group["rules"] for group in (groups[0] if groups else [])]
    yield "alerts are handed on", "" if any(found) else f"the rule is not there: {said}"
    boards = [one.get("data", {}).get("outrigger-check.json") for one in objects if one["kind"] == "ConfigMap"]
    yield "dashboards are handed on", "" if board in boards else "the dashboard is not there, or not the same"
    yield "objects with alerts and dashboards", "; ".join(problems_of(out))


def check_keys(chart):
    """values.yaml and its schema name the same keys, so that the README has all there are."""
    schema = json.loads((ROOT / "charts" / chart / "values.schema.json").read_text())
    values = yaml.safe_load((ROOT / "charts" / chart / "values.yaml").read_text())

    def walk(at, schema_at, values_at):
        if "$ref" in schema_at:
            schema_at = schema["$defs"][schema_at["$ref"].rsplit("/", 1)[1]]
        known = schema_at.get("properties")
        if not isinstance(values_at, dict) or known is None or not values_at:
            return
        free = {"global", "outrigger"} if not at else set()
        for key in (set(known) ^ set(values_at)) - free:
            yield f"{at}{key}"
        for key in set(known) & set(values_at):
            yield from walk(f"{at}{key}.", known[key], values_at[key])

    return ", ".join(walk("", schema, values))


def check_versions():
    """One version in all places."""
    cargo = re.search(r'^version = "(.*)"$', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    places = {"charts/outrigger-lib/templates/_names.tpl": rf'"tag" "{cargo}"'}
    for chart in ("outrigger", "outrigger-lib"):
        places[f"charts/{chart}/Chart.yaml"] = rf'appVersion: "{cargo}"'
    return ", ".join(file for file, text in places.items() if text not in (ROOT / file).read_text())


def check_settings(work):
    """Every key of settings that the chart renders is one of docs/configuration.md."""
    known = set(re.findall(r"^\| `([a-z_.]+)` \|", (ROOT / "docs/configuration.md").read_text(), re.M))
    _, out, _ = run("helm", "template", "flights", "outrigger", "-f", "outrigger/ci/full-values.yaml", cwd=work)
    config = next(one for one in objects_of(out) if one["metadata"]["name"] == "flights-outrigger-config")

    def leaves(at, tree):
        if isinstance(tree, dict):
            for key, value in tree.items():
                yield from leaves(f"{at}.{key}".lstrip("."), value)
        else:
            yield at

    rendered = set(leaves("", yaml.safe_load(config["data"]["outrigger.yaml"])))
    return ", ".join(sorted(rendered - known))


def main():
    """All checks."""
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder) / "charts"
        ignore = shutil.ignore_patterns("*.tgz", "Chart.lock", *HANDED_ON)
        shutil.copytree(ROOT / "charts", work, ignore=ignore)
        shutil.copytree(ROOT / "examples/kubernetes", work.parent / "examples/kubernetes", ignore=ignore)
        examples = [work.parent / "examples/kubernetes" / name for name in EXAMPLES]
        for chart in [work / "outrigger", *examples]:
            good, _, said = run("helm", "dependency", "build", str(chart))
            judge(f"dependencies of {chart.name}", "" if good else said)
        values = sorted((work / "outrigger/ci").glob("*-values.yaml"))
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            charts = [
                pool.submit(check_chart, work, "outrigger", file.stem.removesuffix("-values"), str(file))
                for file in values
            ]
            charts += [pool.submit(check_chart, work, str(one), f"example-{one.name}", None) for one in examples]
            bad = [pool.submit(check_refused, work, helm, case) for helm in HELMS for case in refused.CASES]
            for chart in charts:
                for result in chart.result():
                    judge(*result)
            for one in bad:
                judge(*one.result())
        for result in check_rolls(work):
            judge(*result)
        for result in check_files(work):
            judge(*result)
        judge("keys of settings in docs/configuration.md", check_settings(work))
    for chart in ("outrigger", "outrigger-lib"):
        judge(f"keys of {chart} in values.yaml and schema", check_keys(chart))
    judge("READMEs", f"out of date, run tests/charts/readme.py: {stale}" if (stale := readme.check()) else "")
    judge("versions", check_versions())
    restore = (ROOT / "examples/kubernetes/restore.yaml").read_text()
    judge("examples/kubernetes/restore.yaml", "; ".join(problems_of(restore)))
    good, _, said = run("hadolint", str(ROOT / "Dockerfile"))
    judge("hadolint Dockerfile", "" if good else said)
    for result in compose.check():
        judge(*result)
    for failure in failures:
        print(f"FAILED {failure}")
    print(f"{passed} passed, {len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
