"""Definitions as the model holds them, their YAML, and what they make of events."""

import json
from dataclasses import dataclass, field

from evaluate import evaluate
from model import KEY_PARTS_MAX, TEXT_BYTES_MAX, EvaluationError, arithmetic, is_int, is_number, is_text, normalized, number_text
from text import cel, yaml

PUT, MERGE, ADD, DELETE = "put", "merge", "add", "delete"


class Unset:
    """The literal `$unset`: merge removes the field."""


UNSET = Unset()


@dataclass
class Template:
    """A text in a value: literal texts and trees. One tree alone keeps its type."""

    parts: list

    def text(self):
        out = []
        for at, part in enumerate(self.parts):
            if not isinstance(part, str):
                out.append("${" + cel(part) + "}")
            elif part.endswith("$") and at + 1 < len(self.parts):
                # A dollar before `${` would make it a literal.
                out.append(part[:-1].replace("${", "$${") + "${'$'}")
            else:
                out.append(part.replace("${", "$${"))
        return "".join(out)


@dataclass
class Step:
    """One step of an event type. `key` is a tree or a list of trees; `value` fields, or a Template of one tree that
    gives a map; `let` pairs of name and tree, in order."""

    action: str
    collection: str
    key: object = None
    value: object = field(default_factory=dict)
    when: tuple = None
    for_each: tuple = None
    let: list = field(default_factory=list)

    def plain(self, rng):
        """As YAML will have it; the order of the entries says nothing."""
        key = [cel(part) for part in self.key] if isinstance(self.key, list) else cel(self.key)
        entries = [(self.action, self.collection), ("key", key)]
        if self.for_each is not None:
            entries.append(("for_each", cel(self.for_each)))
        if self.let:
            entries.append(("let", {name: cel(tree) for name, tree in self.let}))
        if self.when is not None:
            entries.append(("when", cel(self.when)))
        if self.action != DELETE:
            entries.append(("value", plain_value(self.value)))
        rng.shuffle(entries)
        return dict(entries)


@dataclass
class Definition:
    """One projection version: collections by name, steps by event type."""

    name: str
    version: int
    collections: dict
    events: dict

    def yaml(self, rng):
        events = {kind: [step.plain(rng) for step in steps] for kind, steps in self.events.items()}
        plain = {"projection": self.name, "version": self.version, "collections": self.collections, "events": events}
        return "\n".join(yaml(plain, rng)) + "\n"


def plain_value(value):
    if value is UNSET:
        return "$unset"
    if isinstance(value, Template):
        return value.text()
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, dict):
        return {key: plain_value(part) for key, part in value.items()}
    if isinstance(value, list):
        return [plain_value(part) for part in value]
    return value


# ---- what events do -------------------------------------------------------------------------------------------------


def key_of(value):
    """The parts of a key: texts, integers, booleans."""
    parts = value if isinstance(value, list) else [value]
    if not 1 <= len(parts) <= KEY_PARTS_MAX:
        raise EvaluationError("a key of too few or many parts")
    parts = [normalized(part) for part in parts]
    if not all(is_text(part) or is_int(part) or isinstance(part, bool) for part in parts):
        raise EvaluationError("a key of something else than texts, integers, booleans")
    # True == 1 in Python, so the type is part of the key.
    return tuple((type(part).__name__, part) for part in parts)


class Projection:
    """The documents of a definition: {collection: {key: document}}."""

    def __init__(self, definition):
        self.definition = definition
        self.documents = {name: {} for name in definition.collections}

    def apply(self, event):
        """All of the event's steps, or an EvaluationError and nothing."""
        written = {}
        for step in self.definition.events.get(event["type"], []):
            self.run(step, {"event": event, "data": event["data"]}, written)
        for (collection, key), document in written.items():
            if document is None:
                self.documents[collection].pop(key, None)
            else:
                self.documents[collection][key] = document

    def run(self, step, scope, written):
        def read(collection, key):
            if (collection, key) in written:
                return written[collection, key]
            return self.documents[collection].get(key)

        def lookup(collection, value):
            return read(collection, key_of(value))

        if step.for_each is None:
            Run(step, scope, read, lookup, written).apply()
            return
        items = evaluate(step.for_each, scope, lookup)
        if not isinstance(items, list):
            raise EvaluationError("for_each of something else than a list")
        for item in items:
            Run(step, {**scope, "item": item}, read, lookup, written).apply()


class Run:
    """One run of a step: for one item, where it has `for_each`.

    `when` comes before the key, unless it needs `doc`, which needs the key. A name of `let` is evaluated before the
    first part (`when`, key, value) that needs it, directly or through other names, and not at all if none does.
    """

    def __init__(self, step, scope, read, lookup, written):
        self.step, self.names, self.read, self.lookup, self.written = step, dict(scope), read, lookup, written
        self.key = None

    def apply(self):
        step = self.step
        if step.when is not None and "doc" not in self.needs(step.when):
            if not self.holds():
                return
        self.key = key_of(self.part(step.key))
        if step.when is not None and "doc" in self.needs(step.when):
            if not self.holds():
                return
        self.prepare(step.value)
        document = self.read(step.collection, self.key)
        value = lambda tree: evaluate(tree, self.names, self.lookup)
        result = changed(step, document, value)
        # Some bytes around the bound nobody knows; cases that come near it are rare, and never exactly there.
        if result is not None and len(json.dumps(result, ensure_ascii=False, separators=(",", ":")).encode()) > TEXT_BYTES_MAX:
            raise EvaluationError("a document too large")
        self.written[step.collection, self.key] = result

    def holds(self):
        truth = self.part(self.step.when)
        if not isinstance(truth, bool):
            raise EvaluationError("when of something else than a boolean")
        return truth

    def part(self, tree):
        self.prepare(tree)
        if isinstance(tree, list):
            return [evaluate(each, self.names, self.lookup) for each in tree]
        return evaluate(tree, self.names, self.lookup)

    def prepare(self, part):
        """Evaluates what the part needs and is not there yet: `doc`, names of `let`."""
        needs = self.needs(part)
        if "doc" in needs and "doc" not in self.names:
            self.names["doc"] = self.read(self.step.collection, self.key)
        for name, tree in self.step.let:
            if name in needs and name not in self.names:
                self.names[name] = evaluate(tree, self.names, self.lookup)

    def needs(self, part):
        """The names that a part uses, through names of `let` too."""
        found = set()
        collect_names(part, found)
        for name, tree in reversed(self.step.let):
            if name in found:
                collect_names(tree, found)
        return found


def collect_names(part, found):
    """All names of variables in a tree, or in anything made of trees."""
    if isinstance(part, Template):
        part = part.parts
    if isinstance(part, dict):
        part = list(part.values())
    if isinstance(part, tuple) and len(part) == 2 and part[0] == "var":
        found.add(part[1])
    elif isinstance(part, (tuple, list)):
        for inner in part:
            collect_names(inner, found)


def changed(step, document, value):
    """The document after a step; None where it is deleted."""
    if step.action == DELETE:
        return None
    if isinstance(step.value, Template):
        fields = fill(step.value, value)
        if not isinstance(fields, dict):
            raise EvaluationError("a value that is no map of fields")
    else:
        fields = {name: UNSET if part is UNSET else fill(part, value) for name, part in step.value.items()}
    if step.action == PUT:
        return normalized(fields)
    result = dict(document or {})
    for name, part in fields.items():
        if step.action == ADD:
            old = result.get(name, 0)
            if not is_number(old) or not is_number(part):
                raise EvaluationError("add of something else than numbers")
            result[name] = arithmetic("+", old, part)
        elif part is UNSET:
            result.pop(name, None)
        else:
            result[name] = part
    return normalized(result)


def fill(part, value):
    """A value of the definition with its trees evaluated."""
    if isinstance(part, Template):
        if len(part.parts) == 1 and not isinstance(part.parts[0], str):
            return normalized(value(part.parts[0]))
        return "".join(piece if isinstance(piece, str) else template_text(value(piece)) for piece in part.parts)
    if isinstance(part, dict):
        return {name: fill(inner, value) for name, inner in part.items()}
    if isinstance(part, list):
        return [fill(inner, value) for inner in part]
    return part


def template_text(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if is_number(value):
        return number_text(value)
    if is_text(value):
        return value
    raise EvaluationError("a text made of something else than texts, numbers, booleans")
