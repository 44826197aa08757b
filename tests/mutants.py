"""The small changes that `mutation.py` makes to a file: signs, comparisons, constants, bounds, conditions."""

import ast
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitXor: ast.BitAnd,
}
_COMPARISONS = {  # the boundary moved, then the opposite
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OTHER_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "sin": "cos", "cos": "sin"}


class Mutant(NamedTuple):
    """One change: its number in the file, its line there, and itself as text, which stays when lines move."""

    number: int
    line: int
    text: str  # in FUNCTION: before -> after


def mutants(path: Path) -> list[Mutant]:
    """All mutants of a file, in its order; equal texts are told apart by #2, #3."""
    found: list[Mutant] = []
    seen: dict[str, int] = {}
    for number, (scope, parent, _, node, after) in enumerate(_changes(ast.parse(path.read_text(encoding="utf-8")))):
        text = f"{scope}: {_around(parent, node)} -> {_around(parent, node, after)}"
        seen[text] = seen.get(text, 0) + 1
        found.append(Mutant(number, node.lineno, text if seen[text] == 1 else f"{text} #{seen[text]}"))
    return found


def source_of(path: Path, mutant: Mutant) -> ast.Module:
    """The file's tree with the mutant's change."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    _, parent, (field, index), _, after = list(_changes(tree))[mutant.number]
    if index is None:
        setattr(parent, field, after)
    else:
        getattr(parent, field)[index] = after
    return ast.fix_missing_locations(tree)


Place = tuple[str, int | None]  # a field of the parent, and where in it


def _changes(tree: ast.Module) -> Iterator[tuple[str, ast.AST, Place, Any, Any]]:
    """(function, parent, place, node, what takes its place), depth first; `tree` itself is left as it is."""
    yield from _inside(tree, "module")


def _inside(parent: ast.AST, scope: str) -> Iterator[tuple[str, ast.AST, Place, Any, Any]]:
    for field, value in ast.iter_fields(parent):
        if field in ("annotation", "returns", "decorator_list", "type_comment"):
            continue
        for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(node, ast.AST) or _is_left_alone(node):
                continue
            name = node.name if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else scope
            for after in _replacements(node, parent, field):
                yield name, parent, (field, index), node, ast.copy_location(after, node)
            yield from _inside(node, name)


def _is_left_alone(node: ast.AST) -> bool:
    """Messages, docstrings and type aliases: their words are no results."""
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    is_alias = isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript) and node.col_offset == 0
    return is_text or is_alias or isinstance(node, (ast.Raise, ast.AnnAssign, ast.Import, ast.ImportFrom))


def _replacements(node: ast.AST, parent: ast.AST, field: str) -> Iterator[ast.AST]:
    if isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in _ARITHMETIC:
        yield _with(node, op=_ARITHMETIC[type(node.op)]())
    elif isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            for other in _COMPARISONS[type(operator)]:
                yield _with(node, ops=[*node.ops[:place], other(), *node.ops[place + 1 :]])
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.BoolOp):
        yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.Constant) and type(node.value) in (bool, int, float):
        yield ast.Constant(_other_value(node.value))
    elif isinstance(node, ast.Name) and node.id in _OTHER_NAMES and field == "func":
        yield ast.Name(_OTHER_NAMES[node.id], ast.Load())
    elif isinstance(node, ast.Attribute) and node.attr in _OTHER_NAMES and field == "func":
        yield _with(node, attr=_OTHER_NAMES[node.attr])
    if _is_bound(node, parent, field):
        yield ast.BinOp(node, ast.Add(), ast.Constant(1))
    if field == "test" and not isinstance(node, (ast.Compare, ast.UnaryOp)):
        yield ast.UnaryOp(ast.Not(), node)


def _is_bound(node: ast.AST, parent: ast.AST, field: str) -> bool:
    """The computed end of a slice or range."""
    is_slice = isinstance(parent, ast.Slice) and field in ("lower", "upper")
    is_range = isinstance(parent, ast.Call) and isinstance(parent.func, ast.Name) and parent.func.id == "range"
    return (is_slice or (is_range and field == "args")) and not isinstance(node, (ast.Constant, ast.Starred))


def _other_value(value: bool | int | float) -> bool | int | float:
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else value * 1.1 or 0.1


def _with(node: Any, **fields: Any) -> Any:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _around(parent: ast.AST, node: Any, after: Any = None) -> str:
    """The node, or what replaces it, with its parent's text where it says too little alone."""
    is_clear = not isinstance(node, (ast.Constant, ast.Name, ast.Attribute))
    if is_clear or isinstance(parent, (ast.stmt, ast.arguments)):
        return " ".join(ast.unparse(after or node).split())
    changed = copy.copy(parent)
    for field, value in ast.iter_fields(parent):
        if value is node:
            setattr(changed, field, after or node)
        elif isinstance(value, list):
            setattr(changed, field, [after or node if item is node else item for item in value])
    try:
        return " ".join(ast.unparse(changed).split())
    except Exception:
        return " ".join(ast.unparse(after or node).split())
