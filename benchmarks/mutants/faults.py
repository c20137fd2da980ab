"""Single faults of a Python file: every one a piece of its text and what to write in its place."""

import ast
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

OPERATORS: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
COMPARISONS: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.GtE), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip
FUNCTIONS = {
    "mean": "sum", "sum": "mean", "max": "min", "min": "max", "maximum": "minimum", "minimum": "maximum", "argmax": "argmin",
    "argmin": "argmax", "any": "all", "all": "any", "std": "var", "var": "std", "floor": "ceil", "ceil": "floor", "zeros": "ones",
    "ones": "zeros", "zeros_like": "ones_like", "new_zeros": "new_ones", "left": "right", "cumsum": "cumprod",
    "sin": "cos", "cos": "sin", "expm1": "exp", "log1p": "log", "posinf": "neginf", "nanmean": "nansum", "median": "mean",
}  # fmt: skip
BUILT_IN = {"max", "min", "any", "all"}
DROPPED = {"sqrt", "square", "abs", "exp", "log", "clip", "clamp", "transpose", "swapaxes", "permute", "sort", "cumsum", "diff"}
KEYWORDS = {
    "ddof", "correction", "axis", "dim", "keepdims", "keepdim", "minlength", "weights", "min", "max", "kind", "side", "initial", "rtol",
    "atol", "beta", "value", "upper", "dim1", "dim2", "axis1", "axis2", "n", "where", "prepend", "key", "reverse", "k",
}  # fmt: skip
AXES = {"axis", "dim", "axis1", "axis2", "dim1", "dim2"}
SKIPPED = (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom)  # messages are no numbers


@dataclass(frozen=True)
class Fault:
    """start, end: offsets in the text. statement: first line, line: last, of what it is in. where: the function."""

    start: int
    end: int
    statement: int
    line: int
    where: str
    before: str
    after: str


def faults_of(text: str) -> list[Fault]:
    """All faults of a file, in the order of its text, no two of them alike."""
    lines = [0]
    for line in text.encode().splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    encoded, found = text.encode(), {}
    for node, parent, statement, where in _walk(ast.parse(text)):
        start, end = lines[node.lineno - 1] + node.col_offset, lines[node.end_lineno - 1] + node.end_col_offset
        for changed in _changes(node, parent):
            before, after = encoded[start:end].decode(), ast.unparse(changed)
            if ast.unparse(node) != after:
                after = after if isinstance(node, (ast.Constant, ast.keyword, ast.AugAssign, ast.Return)) else f"({after})"
                fault = Fault(start, end, statement, node.end_lineno, where, before, after)
                found[start, end, after] = fault
    return sorted(found.values(), key=lambda fault: (fault.start, fault.end, fault.after))


def planted(text: str, fault: Fault) -> str:
    encoded = text.encode()
    return (encoded[: fault.start] + fault.after.encode() + encoded[fault.end :]).decode()


def _walk(tree: ast.Module) -> Iterator[tuple[ast.AST, ast.AST, int, str]]:
    """Nodes whose faults count, with the node above, the line of the statement and the name of the function."""
    waiting: list[tuple[ast.AST, ast.AST, int, str]] = [(child, tree, child.lineno, "") for child in tree.body]
    while waiting:
        node, parent, statement, where = waiting.pop()
        if isinstance(node, SKIPPED) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            continue
        if isinstance(node, ast.stmt):
            statement = node.lineno
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            where = f"{where}.{node.name}".lstrip(".")
        if hasattr(node, "lineno"):
            yield node, parent, statement, where
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "bases", "type_params", "msg"):
                continue
            waiting += [
                (one, node, statement, where) for one in (value if isinstance(value, list) else [value]) if isinstance(one, ast.AST)
            ]


def _changes(node: ast.AST, parent: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Constant):
        yield from (ast.Constant(value) for value in _constants(node.value, parent))
    elif isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)) and type(node.op) in OPERATORS and not _of_text(node):
        yield _with(node, op=OPERATORS[type(node.op)]())
    elif isinstance(node, ast.Compare):
        for k, op in enumerate(node.ops):
            for other in COMPARISONS[type(op)]:
                yield _with(node, ops=[*node.ops[:k], other(), *node.ops[k + 1 :]])
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not, ast.Invert)):
        if not isinstance(node.operand, ast.Constant):
            yield node.operand
    elif isinstance(node, (ast.If, ast.IfExp)) and not isinstance(node.test, (ast.Compare, ast.BoolOp)):
        if isinstance(node, ast.IfExp):
            yield _with(node, test=ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.Attribute) and node.attr in ("T", "mT"):
        yield node.value
    elif isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple) and len(node.value.elts) == 2:
        yield _with(node, value=ast.Tuple(node.value.elts[::-1], ast.Load()))
    elif isinstance(node, ast.Call):
        yield from _calls(node)


def _constants(value: object, parent: ast.AST) -> list[object]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(parent, ast.keyword) and parent.arg in AXES and isinstance(value, int):
        return [0 if value else 1]
    if isinstance(value, int):
        return [value + 1] if value < 1 else [value + 1, value - 1]
    if isinstance(value, float):
        return [value * 2, value / 2] if value else [1.0]
    return [FUNCTIONS[value]] if isinstance(value, str) and value in FUNCTIONS else []


def _calls(node: ast.Call) -> Iterator[ast.AST]:
    """Another function of the same kind, none at all, or one without a keyword argument."""
    attribute = node.func if isinstance(node.func, ast.Attribute) else None
    name = attribute.attr if attribute else node.func.id if isinstance(node.func, ast.Name) else ""
    if name in FUNCTIONS and (attribute or name in BUILT_IN):
        other = FUNCTIONS[name]
        yield _with(node, func=_with(attribute, attr=other) if attribute else ast.Name(other, ast.Load()))
    if name in DROPPED and attribute:
        library = isinstance(attribute.value, ast.Name) and attribute.value.id in ("np", "torch", "math")
        if library and node.args:
            yield node.args[0]
        elif not library:
            yield attribute.value
    for k, keyword in enumerate(node.keywords):
        if keyword.arg in KEYWORDS and attribute:
            yield _with(node, keywords=[*node.keywords[:k], *node.keywords[k + 1 :]])


def _of_text(node: ast.AST) -> bool:
    """Whether the operands are texts, lists or tuples: their sums are no arithmetic."""
    sides = [node.value] if isinstance(node, ast.AugAssign) else node.values if isinstance(node, ast.BoolOp) else [node.left, node.right]
    return not isinstance(node, ast.BoolOp) and any(
        isinstance(side, (ast.JoinedStr, ast.List, ast.Tuple, ast.ListComp, ast.Dict, ast.Set))
        or (isinstance(side, ast.Constant) and isinstance(side.value, str))
        for side in sides
    )


def _with(node: ast.AST, **changes: object) -> ast.AST:
    copy = deepcopy(node)
    for name, value in changes.items():
        setattr(copy, name, value)
    return ast.fix_missing_locations(copy)
