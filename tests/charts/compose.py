"""The compose file, as far as it can be judged without Docker: names, places and confinement.

Does not know Docker's whole schema; where the compose plugin is at hand, it judges too.
"""

import pathlib
import subprocess

import yaml

FILE = pathlib.Path(__file__).parents[2] / "examples/compose/compose.yaml"
KEYS = {
    "image", "build", "read_only", "cap_drop", "security_opt", "stop_grace_period", "restart", "depends_on",
    "command", "working_dir", "environment", "volumes", "profiles",
}  # fmt: skip


def problems_of(name, service, compose):
    """What is wrong with one service."""
    unknown = set(service) - KEYS
    if unknown:
        yield f"{name}: {sorted(unknown)} is not judged here; add it with a rule"
    for other in service.get("depends_on", []):
        if other not in compose["services"]:
            yield f"{name}: depends on {other}, which is no service"
    if service["image"].startswith("outrigger:"):
        if service.get("read_only") is not True or service.get("cap_drop") != ["ALL"]:
            yield f"{name}: not confined"
        if not (FILE.parent / service["build"] / "Dockerfile").exists():
            yield f"{name}: no Dockerfile at {service['build']}"
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if not source.startswith("."):
            if source not in compose["volumes"]:
                yield f"{name}: there is no volume {source}"
        elif source != "./trust" and not (FILE.parent / source).exists():  # `run` makes the file of trusted keys
            yield f"{name}: {source} leads nowhere"


def check():
    """(name, problem) of every check."""
    compose = yaml.safe_load(FILE.read_text())
    for name, service in compose["services"].items():
        yield f"compose service {name}", "; ".join(problems_of(name, service, compose))
    command = ["docker", "compose", "--file", str(FILE), "config", "--quiet"]
    try:
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, timeout=30, check=False)
    except OSError:
        return
    if plugin.returncode == 0:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        yield "docker compose config", "" if done.returncode == 0 else done.stderr
