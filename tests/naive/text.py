"""Writes trees as CEL text and definitions as YAML: with as few brackets as CEL allows, so that precedence is tested."""

import json
import re

# Precedence of CEL, loosest first.
CONDITIONAL, OR, AND, RELATION, SUM, PRODUCT, UNARY, MEMBER = range(8)
LEVELS = {"+": SUM, "-": SUM, "*": PRODUCT, "/": PRODUCT, "%": PRODUCT}
WORD = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
RESERVED = {
    "as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop",
    "namespace", "null", "package", "return", "true", "var", "void", "while",
}  # fmt: skip


def cel(tree, level=CONDITIONAL):
    """The text of a tree as an operand at `level`: in brackets where it binds looser."""
    text, own = render(tree)
    return f"({text})" if own < level else text


def render(tree):
    """The text of a tree and its precedence."""
    kind, *parts = tree
    if kind == "lit":
        text = literal(parts[0])
        return text, UNARY if text.startswith("-") else MEMBER
    if kind == "var":
        return parts[0], MEMBER
    if kind in ("field", "opt_field", "has"):
        path = f"{cel(parts[0], MEMBER)}.{'?' if kind == 'opt_field' else ''}{name(parts[1])}"
        return f"has({path})" if kind == "has" else path, MEMBER
    if kind in ("index", "opt_index"):
        return f"{cel(parts[0], MEMBER)}[{'?' if kind == 'opt_index' else ''}{cel(parts[1])}]", MEMBER
    if kind == "or_value":
        return f"{cel(parts[0], MEMBER)}.orValue({cel(parts[1])})", MEMBER
    if kind == "has_value":
        return f"{cel(parts[0], MEMBER)}.hasValue()", MEMBER
    if kind == "not":
        return f"!{cel(parts[0], MEMBER)}", UNARY
    if kind == "neg":
        return f"-{cel(parts[0], MEMBER)}", UNARY
    if kind in ("and", "or"):
        level = AND if kind == "and" else OR
        sign = "&&" if kind == "and" else "||"
        return f"{cel(parts[0], level)} {sign} {cel(parts[1], level + 1)}", level
    if kind == "cond":
        return f"{cel(parts[0], OR)} ? {cel(parts[1], OR)} : {cel(parts[2])}", CONDITIONAL
    if kind == "bin":
        level = LEVELS.get(parts[0], RELATION)
        return f"{cel(parts[1], level)} {parts[0]} {cel(parts[2], level + 1)}", level
    return render_compound(kind, parts), MEMBER


def render_compound(kind, parts):
    if kind == "list":
        return f"[{', '.join(map(cel, parts[0]))}]"
    if kind == "map":
        return "{" + ", ".join(f"{quoted(key)}: {cel(value)}" for key, value in parts[0]) + "}"
    if kind == "call":
        return f"{parts[0]}({', '.join(map(cel, parts[1]))})"
    if kind == "method":
        receiver, *rest = parts[1]
        return f"{cel(receiver, MEMBER)}.{parts[0]}({', '.join(map(cel, rest))})"
    if kind == "fold":
        fold, operand, variable, only, body = parts
        arguments = [variable] + ([cel(only)] if only is not None else []) + [cel(body)]
        return f"{cel(operand, MEMBER)}.{fold}({', '.join(arguments)})"
    if kind == "lookup":
        return f"lookup({quoted(parts[0])}, {cel(parts[1])})"
    raise AssertionError(f"no text for {kind}")


def literal(value):
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(value)
    return repr(value)


def name(field):
    return field if WORD.match(field) and field not in RESERVED else f"`{field}`"


def quoted(text):
    """A CEL text; JSON's escapes are CEL's, but for the slash."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


# ---- YAML -----------------------------------------------------------------------------------------------------------

PLAIN = re.compile(r"^[A-Za-z_][A-Za-z0-9_.]*$")
NOT_PLAIN = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}


def scalar(value, rng):
    """A scalar as YAML: plain, single-quoted or double-quoted."""
    if not isinstance(value, str):
        return json.dumps(value)
    if PLAIN.match(value) and value.lower() not in NOT_PLAIN and rng.random() < 0.7:
        return value
    printable = value.isprintable()
    if printable and rng.random() < 0.5:
        return "'" + value.replace("'", "''") + "'"
    return json.dumps(value, ensure_ascii=False)


def yaml(value, rng, indent=0):
    """Lines of a YAML block for a dict, list or scalar."""
    pad = "  " * indent
    if isinstance(value, dict) and value:
        lines = []
        for key, part in value.items():
            lines += entry(f"{pad}{scalar(key, rng)}:", part, rng, indent)
        return lines
    if isinstance(value, list) and value:
        lines = []
        for part in value:
            block = yaml(part, rng, indent + 1)
            lines.append(f"{pad}- {block[0].lstrip()}")
            lines += block[1:]
        return lines
    return [pad + flow(value, rng)]


def entry(head, value, rng, indent):
    if isinstance(value, (dict, list)) and value and rng.random() < 0.85:
        return [head, *yaml(value, rng, indent + 1)]
    return [f"{head} {flow(value, rng)}"]


def flow(value, rng):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key, ensure_ascii=False)}: {flow(part, rng)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(part, rng) for part in value) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else scalar(value, rng)
