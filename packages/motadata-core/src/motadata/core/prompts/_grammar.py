"""What a template may say: a small part of Jinja's language, in which nothing can be called.

Without calls, assignments, macros and multiplication no expression grows faster than its own text:
what remains is bounded by the sizes of template and variables, and metered on top.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from motadata.core.errors import PromptTemplateError
from motadata.core.prompts._filters import EACH, WEIGHED, metered_filters


if TYPE_CHECKING:
    from jinja2 import nodes
    from jinja2.sandbox import SandboxedEnvironment

_NODES: Final = frozenset(
    (
        *("Template", "Output", "TemplateData", "Name", "Const", "List", "Tuple", "Getattr"),
        *("Getitem", "If", "For", "CondExpr", "Filter", "Keyword", "Test", "Compare", "Operand"),
        *("And", "Or", "Not", "Neg", "Add", "Sub"),
    )
)
_SAYS: Final = {
    "Assign": "set",
    "AssignBlock": "set",
    "Call": "a call",
    "Concat": "the operator ~",
    "Mul": "the operator *",
    "Div": "the operator /",
    "FloorDiv": "the operator //",
    "Mod": "the operator %",
    "Pow": "the operator **",
    "Slice": "a slice",
}
TESTS: Final = frozenset(
    (
        *("boolean", "defined", "even", "false", "mapping", "none", "number", "odd", "sequence"),
        *("string", "true", "undefined"),
    )
)
_RESERVED: Final = frozenset(("self", "super", "caller", "varargs", "kwargs", "context"))
_MAX_NODES: Final = 5_000
_MAX_LOOPS: Final = 3
_MAX_NUMBER: Final = 10**12


def parse(environment: SandboxedEnvironment, text: str) -> nodes.Template:
    """Return the syntax tree of a template that says nothing forbidden, its loops metered.

    Raises:
        PromptTemplateError: It is malformed, or says what templates may not; with the line.
    """
    from jinja2 import TemplateSyntaxError

    try:
        tree = environment.parse(text)
    except TemplateSyntaxError as error:
        message = f"Line {error.lineno} of the template is malformed."
        raise PromptTemplateError(message, remedy="Correct its syntax.") from error
    except (RecursionError, ValueError, OverflowError, MemoryError) as error:
        message = f"The template cannot be parsed ({type(error).__name__})."
        raise PromptTemplateError(message, remedy="Write it simpler.") from error
    _check(tree)
    return tree


def variables_of(tree: nodes.Template) -> frozenset[str]:
    """Return the names that a template takes from outside."""
    from jinja2.meta import find_undeclared_variables

    return frozenset(find_undeclared_variables(tree))


def meter(tree: nodes.Template) -> None:
    """Send each loop and each comparison of a tree through the filters that count them."""
    from jinja2 import nodes

    for loop in list(tree.find_all(nodes.For)):
        loop.iter = _filtered(loop.iter, EACH)
    for comparison in list(tree.find_all(nodes.Compare)):
        comparison.expr = _filtered(comparison.expr, WEIGHED)
        for operand in comparison.ops:
            operand.expr = _filtered(operand.expr, WEIGHED)


def _filtered(expression: nodes.Node, name: str) -> nodes.Expr:
    from jinja2 import nodes

    assert isinstance(expression, nodes.Expr)
    assert expression.environment is not None
    filtered = nodes.Filter(expression, name, [], [], None, None, lineno=expression.lineno)
    filtered.set_environment(expression.environment)
    return filtered


def _check(tree: nodes.Template) -> None:
    from jinja2 import nodes

    filters = metered_filters().keys() - {EACH, WEIGHED} | {"default"}
    pending: list[tuple[nodes.Node, int]] = [(tree, 0)]
    count = 0
    while pending:
        node, loops = pending.pop()
        count += 1
        if count > _MAX_NODES:
            message = f"The template has more than {_MAX_NODES} parts."
            raise PromptTemplateError(message, remedy="Split it.")
        if isinstance(node, nodes.For):
            loops += 1
        complaint = _complaint(node, filters, loops)
        if complaint:
            message = f"Line {node.lineno} of the template uses {complaint}."
            raise PromptTemplateError(
                message, remedy="Compute it beforehand and pass it as a variable."
            )
        pending += [(child, loops) for child in node.iter_child_nodes()]


def _complaint(node: nodes.Node, filters: frozenset[str] | set[str], loops: int) -> str | None:
    """Return what is forbidden about one node, or None."""
    from jinja2 import nodes

    kind = type(node).__name__
    found: str | None = None
    if kind not in _NODES:
        found = _SAYS.get(kind, f"{kind.lower()!r}") + ", which templates may not"
    elif isinstance(node, nodes.Filter) and node.name not in filters:
        found = f"the unknown filter {node.name!r}"
    elif isinstance(node, nodes.Filter) and (node.node is None or node.dyn_args):
        found = f"the filter {node.name!r} without a value"
    elif isinstance(node, nodes.Filter) and node.dyn_kwargs:
        found = f"unpacked options of the filter {node.name!r}"
    elif isinstance(node, nodes.Test) and node.name not in TESTS:
        found = f"the unknown test {node.name!r}"
    elif isinstance(node, nodes.Name) and (node.name in _RESERVED or node.name.startswith("_")):
        found = f"the reserved name {node.name!r}"
    elif isinstance(node, nodes.For) and node.recursive:
        found = "a recursive loop"
    elif loops > _MAX_LOOPS:
        found = f"loops nested deeper than {_MAX_LOOPS}"
    elif isinstance(node, nodes.Const) and _is_large(node.value):
        found = f"a number beyond {_MAX_NUMBER:.0e}"
    return found


def _is_large(value: object) -> bool:
    return isinstance(value, int | float) and not abs(value) <= _MAX_NUMBER
