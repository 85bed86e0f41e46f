"""The rule that no key, subject or channel is spelled out but by its one constructor.

Used by `check_house.py`. It knows two signs of a name that is spelled by hand, however its text is
put together: a literal that begins like one of ours, and a tenant beside a separator.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator


# The only modules that may spell a cache key, a shared limit's key, a subject or a channel out.
BUILDERS = {
    "motadata/core/cache/_key.py",
    "motadata/core/resilience/_key.py",
    "motadata/core/messaging/_subject.py",
    "motadata/core/database/_topics.py",
    "motadata/api/key_format.py",  # a secret that names its tenant, not a place in a store
}
# Their keys are material for tests: texts that would be keys if they were not keys' parts.
EXEMPT = ("motadata/core/testing/isolation/",)

PREFIX = re.compile(
    r"(cache(-[a-z]+)?:|limit(-[a-z]+)?:|breaker:|retry-budget:|sdk\.[a-z_]+\.|(listen|notify) )",
    re.IGNORECASE,
)
TENANT = re.compile(r"(^|_)tenant(s|_id)?$|^TenantId$", re.IGNORECASE)
SEPARATORS = ":./>*{}|@=-"
COMPLAINT = "spells a key, a subject or a channel by hand; use its one constructor"


def hand_built(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and complaint for each name that a module spells out by hand."""
    if module in BUILDERS or module.startswith(EXEMPT):
        return
    prose = {id(node) for node in _documentation(tree)}
    for node in ast.walk(tree):
        if id(node) not in prose and (_begins_like_ours(node) or _holds_a_tenant(node)):
            yield node.lineno, COMPLAINT  # type: ignore[attr-defined]  # an expression has one


def _begins_like_ours(node: ast.AST) -> bool:
    """Tell whether a literal, whole or the start of an f-string, begins like a name of ours."""
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and PREFIX.match(node.value) is not None
    )


def _holds_a_tenant(node: ast.AST) -> bool:
    """Tell whether text is put together with a tenant beside a separator."""
    if isinstance(node, ast.JoinedStr):
        return _in_f_string(node)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        sides = ((node.left, node.right), (node.right, node.left))
        return any(_names_tenant(one) and _touches(other) for one, other in sides)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        return _fills(node.left, [node.right])
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        text = node.func.value
        if node.func.attr == "format":
            return _fills(text, [*node.args, *(keyword.value for keyword in node.keywords)])
        if node.func.attr == "join" and isinstance(text, ast.Constant):
            return text.value in tuple(SEPARATORS) and any(map(_mentions_tenant, node.args))
    return False


def _in_f_string(node: ast.JoinedStr) -> bool:
    for position, part in enumerate(node.values):
        if not isinstance(part, ast.FormattedValue) or part.conversion != -1:
            continue  # `!r` is for people
        before = _text(node.values[position - 1]) if position else ""
        after = _text(node.values[position + 1]) if position + 1 < len(node.values) else ""
        beside = before[-1:] + after[:1]
        is_joined = (
            any(sign in SEPARATORS for sign in beside) and " " not in before[-2:] + after[:2]
        )
        if _names_tenant(part.value) and is_joined:
            return True
    return False


def _fills(text: ast.expr, arguments: list[ast.expr]) -> bool:
    template = _text(text)
    is_compact = " " not in template and any(sign in template for sign in SEPARATORS)
    return is_compact and any(map(_mentions_tenant, arguments))


def _touches(node: ast.expr) -> bool:
    """Tell whether a literal at the seam of a `+` is, or ends in, a separator."""
    if isinstance(node, ast.BinOp):
        return _touches(node.right)
    text = _text(node)
    return bool(text) and " " not in text and (text[0] in SEPARATORS or text[-1] in SEPARATORS)


def _names_tenant(node: ast.expr) -> bool:
    """Tell whether an expression is a tenant: a name, an attribute, or either in `str(…)`."""
    if isinstance(node, ast.Name):
        return TENANT.search(node.id) is not None
    if isinstance(node, ast.Attribute):
        return TENANT.search(node.attr) is not None
    if isinstance(node, ast.Call) and len(node.args) == 1:
        return _names_tenant(node.func) or _names_tenant(node.args[0])
    return isinstance(node, ast.Call) and _names_tenant(node.func)


def _mentions_tenant(node: ast.expr) -> bool:
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return any(map(_mentions_tenant, node.elts))
    return _names_tenant(node)


def _text(node: ast.expr) -> str:
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return node.value if is_text else ""  # type: ignore[attr-defined]  # checked in the line above


def _documentation(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the literals that are statements of their own: docstrings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            yield node.value
