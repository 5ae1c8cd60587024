"""Which columns of its inputs each column of a query's result depends on, from the text and the inputs' columns.

    SELECT carrier, avg(dep_delay) AS mean FROM lake.flights WHERE month = 1 GROUP BY carrier

    carrier <- flights.carrier      mean <- flights.dep_delay      every column <- flights.month, flights.carrier (the rows)

Whatever is not understood gives None, and then everything depends on everything: a dependant is never left out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope

from jupyter_mlp.core.queries import Query, TableUse
from jupyter_mlp.core.references import Ref
from jupyter_mlp.core.sql_scopes import cte_of

logging.getLogger("sqlglot").setLevel(logging.CRITICAL)

Source = tuple[str, str]  # (table as written in the query, column), both in lower case
_CLAUSES = ("where", "group", "windows", "having", "qualify", "order", "sort", "cluster", "distribute", "distinct", "limit", "offset")
_STRANGE = (exp.Pivot, exp.Command, exp.MatchRecognize)


class _Unknown(Exception):
    """The query is beyond what is understood here."""


@dataclass(frozen=True)
class Lineage:
    """What the result of a query depends on.

    Attributes:
        columns: per column of the result, in lower case, the input columns that its values are made from.
        rows: input columns that decide which rows there are, or how they are grouped: every column depends on them.
    """

    columns: Mapping[str, frozenset[Source]]
    rows: frozenset[Source]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {"columns": {name: _listed(sources) for name, sources in self.columns.items()}, "rows": _listed(self.rows)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Lineage:
        """Read what `to_dict` wrote."""
        columns = {name: frozenset((table, column) for table, column in found) for name, found in value["columns"].items()}
        return cls(columns, frozenset((table, column) for table, column in value["rows"]))

    def renamed(self, names: Mapping[str, Sequence[str]]) -> Lineage:
        """Return it with other names for the tables, such as exact references; one name may stand for several."""

        def each(sources: Iterable[Source]) -> frozenset[Source]:
            return frozenset((new, column) for table, column in sources for new in names.get(table, (table,)))

        return Lineage({name: each(sources) for name, sources in self.columns.items()}, each(self.rows))

    def affected(self, table: str, columns: set[str] | None) -> set[str]:
        """Return the columns of the result that change when some columns of a table do; None stands for all of them."""

        def hit(sources: Iterable[Source]) -> bool:
            return any(name == table and (columns is None or column in columns) for name, column in sources)

        if hit(self.rows) or (columns is None and not any(name == table for found in self.columns.values() for name, _ in found)):
            return set(self.columns)
        return {name for name, sources in self.columns.items() if hit(sources)}


def of(sql: str, inputs: Mapping[str, Sequence[str]]) -> Lineage | None:
    """Return what the result of a query depends on; None where that cannot be told.

    Args:
        inputs: columns of every table and dataset that the query reads, by the name it has in the text, in lower case.
    """
    try:
        tree = parse_one(sql, dialect="spark")
        if tree.find(*_STRANGE) or any(node.recursive for node in tree.find_all(exp.With)):
            return None
        for hint in list(tree.find_all(exp.Hint)):
            hint.pop()  # the tables in it are aliases
        names = _renamed(tree, inputs)
        schema: dict[str, object] = {new: dict.fromkeys((column.lower() for column in inputs[old]), "string") for new, old in names.items()}
        tree = qualify(tree, dialect="spark", schema=schema, validate_qualify_columns=False, quote_identifiers=False, identify=False)
        scope = build_scope(tree)
        if scope is None:
            return None
        found = _Resolver(names).of(scope)
    except (SqlglotError, _Unknown, RecursionError, KeyError, AttributeError, TypeError, ValueError):
        return None  # a text beyond sqlglot or beyond us
    return Lineage({name: frozenset(sources) for name, sources in found.by_name.items()}, frozenset(found.rows))


@dataclass
class _Found:
    """What the result of one scope depends on; two columns may have one name."""

    columns: list[tuple[str, set[Source]]]
    rows: set[Source]

    @property
    def by_name(self) -> dict[str, set[Source]]:
        found: dict[str, set[Source]] = {}
        for name, sources in self.columns:
            found.setdefault(name, set()).update(sources)
        return found

    @property
    def everything(self) -> set[Source]:
        return self.rows.union(*(sources for _, sources in self.columns))


class _Resolver:
    """Follows columns through the scopes of one query."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        self._known: dict[int, _Found] = {}

    def of(self, scope: Scope) -> _Found:
        """Return what the result of a scope depends on."""
        if id(scope) not in self._known:
            node = scope.expression
            self._known[id(scope)] = self._of_set(scope) if isinstance(node, exp.SetOperation) else self._of_select(scope)
        return self._known[id(scope)]

    def _of_set(self, scope: Scope) -> _Found:
        left, right = (self.of(part) for part in scope.set_operation_scopes)
        if len(left.columns) != len(right.columns) or scope.expression.args.get("by_name"):
            raise _Unknown
        pairs = zip(left.columns, right.columns, strict=True)
        columns = [(name, sources | others) for (name, sources), (_, others) in pairs]
        rows = left.rows | right.rows
        node = scope.expression
        same_rows = not isinstance(node, exp.Union) or node.args.get("distinct") is not False  # which are equal decides which stay
        if same_rows or any(node.args.get(name) for name in ("order", "sort", "cluster", "limit")):
            rows = rows.union(*(sources for _, sources in columns))
        return _Found(columns, rows)

    def _of_select(self, scope: Scope) -> _Found:
        node = scope.expression
        if not isinstance(node, exp.Select):
            raise _Unknown
        rows = self._clauses(scope)
        for source in scope.sources.values():
            if isinstance(source, Scope) and not _is_lateral(source) and _is_read(scope, source):
                rows |= self.of(source).rows
        for join in node.args.get("joins") or ():
            rows |= self._in(join.args.get("on"), scope)
            if join.args.get("using") or join.args.get("method"):
                raise _Unknown  # qualify spells USING out; what is left is beyond us
            if isinstance(join.this, exp.Lateral) and join.this.find(exp.Query):
                raise _Unknown
        for lateral in node.args.get("laterals") or ():
            rows |= self._in(lateral, scope)
        columns: list[tuple[str, set[Source]]] = []
        for projection in node.expressions:
            if isinstance(projection, exp.Star) or projection.find(exp.Star) is projection or projection.is_star:
                raise _Unknown
            columns.append((projection.alias_or_name.lower(), self._in(projection, scope)))
        group = node.args.get("group")
        if node.args.get("distinct") or (group is not None and group.args.get("all")):
            rows = rows.union(*(sources for _, sources in columns))
        return _Found(columns, rows)

    def _clauses(self, scope: Scope) -> set[Source]:
        found: set[Source] = set()
        for name in _CLAUSES:
            clause = scope.expression.args.get(name)
            for part in clause if isinstance(clause, list) else [clause]:
                found |= self._in(part, scope) if isinstance(part, exp.Expr) else set()
        return found

    def _in(self, node: exp.Expr | None, scope: Scope) -> set[Source]:
        """Everything that an expression depends on, sub-queries in it as a whole."""
        if node is None:
            return set()
        if isinstance(node, exp.Distinct) and not node.find(exp.Column):
            return set()
        found: set[Source] = set()
        inner = {id(one.expression): one for one in scope.subquery_scopes}
        waiting: list[Any] = [node]
        while waiting:
            part = waiting.pop()
            if id(part) in inner:
                found |= self.of(inner[id(part)]).everything
            elif isinstance(part, exp.Column):
                found |= self._column(part, scope)
            elif isinstance(part, exp.Query) and not isinstance(part, exp.Subquery):
                raise _Unknown
            else:
                waiting += list(part.iter_expressions())
        return found

    def _column(self, column: exp.Column, scope: Scope) -> set[Source]:
        table, name = column.table.lower(), column.name.lower()
        if isinstance(column.this, exp.Star):
            raise _Unknown
        looked: Scope | None = scope
        while looked is not None:
            source = looked.sources.get(table)
            if isinstance(source, exp.Table):
                if source.name.lower() not in self._names:
                    raise _Unknown
                return {(self._names[source.name.lower()], name)}
            if isinstance(source, Scope):
                if _is_lateral(source):
                    return self._in(source.expression, looked)
                inside = self.of(source).by_name
                if name not in inside:
                    raise _Unknown
                return set(inside[name])
            looked = looked.parent
        raise _Unknown


def _is_lateral(scope: Scope) -> bool:
    return isinstance(scope.expression, exp.Lateral | exp.UDTF) and not isinstance(scope.expression, exp.Subquery)


def _is_read(scope: Scope, cte: Scope) -> bool:
    return any(source is cte for _, source in scope.selected_sources.values())


def _renamed(tree: exp.Expr, inputs: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Give every table that is read a name of one part, and return {new: as written}; names of CTEs stay."""
    new_of: dict[str, str] = {}
    for table in list(tree.find_all(exp.Table)):
        parts = [part for part in table.parts if isinstance(part, exp.Identifier)]
        if not parts or len(parts) != len(table.parts):
            raise _Unknown  # a table function, IDENTIFIER(), a file
        name = ".".join(part.name for part in parts).lower()
        if len(parts) == 1 and cte_of(table, name) is not None:
            continue
        if name not in inputs:
            raise _Unknown
        new = new_of.setdefault(name, f"mlp_input_{len(new_of)}")
        if not table.alias:
            table.set("alias", exp.TableAlias(this=exp.to_identifier(parts[-1].name)))
        table.set("this", exp.to_identifier(new))
        table.set("db", None)
        table.set("catalog", None)
        table.set("version", None)
        table.set("when", None)
    for column in tree.find_all(exp.Column):
        column.set("db", None)
        column.set("catalog", None)
    return {new: name for name, new in new_of.items()}


def _listed(sources: Iterable[Source]) -> list[list[str]]:
    return sorted(list(source) for source in sources)


def recorded(query: Query, inputs: Mapping[TableUse, Ref], columns: Callable[[Ref], Sequence[str]]) -> dict[str, Any] | None:
    """Return what a record says of a query's columns: exact references instead of names; None where it is unknown.

    Args:
        inputs: the exact reference behind every place in the text where something is read.
        columns: gives the columns of a version.
    """
    names: dict[str, list[Ref]] = {}
    for use, ref in inputs.items():
        names.setdefault(use.name, []).append(ref)
    if not query.understood or any(use.name not in names for use in query.tables):
        return None
    found = of(query.text, {name: list(dict.fromkeys(c for ref in refs for c in columns(ref))) for name, refs in names.items()})
    return found.renamed({name: [str(ref) for ref in refs] for name, refs in names.items()}).to_dict() if found is not None else None
