"""What a name means where it stands in a parsed query: a CTE, a column of one of the tables there, or neither."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from jupyter_mlp.core.queries import CERTAIN


def cte_of(table: exp.Table, name: str) -> exp.CTE | None:
    """Return the CTE that a one-part name means where it stands."""
    node: exp.Expr | None = table
    inside: exp.CTE | None = None
    while node is not None:
        if isinstance(node, exp.CTE):
            inside = node
        holder = node.args.get("with_") or node.args.get("with")
        if isinstance(holder, exp.With):
            for cte in holder.expressions:
                if cte is inside and not holder.recursive:
                    break  # a CTE sees the ones before it, not itself
                if cte.alias.lower() == name.lower():
                    return cte if isinstance(cte, exp.CTE) else None
                if cte is inside:
                    break
        node = node.parent
    return None


def givers(node: exp.Expr, name: str) -> frozenset[int]:
    """Return where the tables stand (character offsets) that make the unqualified `name` a column if they have such a column.

    An outer query's tables are none: Spark takes a function of that name first.
    """
    select = node.find_ancestor(exp.Select)
    if select is None:
        return frozenset()
    order = node.find_ancestor(exp.Order, exp.Sort, exp.Select)
    if order is not select and order is not None and order.parent is select and name in _spelt(select):
        return frozenset((CERTAIN,))
    return frozenset(place for source in _sources(select) for place in _of_source(source, name))


def _sources(select: exp.Select) -> Iterator[exp.Expr]:
    first = select.args.get("from_") or select.args.get("from")
    if first is not None:
        yield first.this
        yield from (join.this for join in first.this.args.get("joins") or ())
    yield from (join.this for join in select.args.get("joins") or ())
    yield from select.args.get("laterals") or ()


def _of_source(source: exp.Expr, name: str) -> frozenset[int]:
    alias = source.args.get("alias")
    named = [column.name.lower() for column in alias.columns] if isinstance(alias, exp.TableAlias) else []
    if named:
        return frozenset((CERTAIN,)) if name in named else frozenset()
    if source.args.get("pivots"):
        return frozenset()
    if isinstance(source, exp.Subquery):
        return _of_query(source.this, name)
    if not isinstance(source, exp.Table) or not isinstance(source.this, exp.Identifier):
        return frozenset()
    cte = None if source.args.get("db") else cte_of(source, source.name)
    if cte is None:
        return frozenset(part.meta["start"] for part in source.parts[:1] if "start" in part.meta)
    columns = [column.name.lower() for column in cte.args["alias"].columns]
    if columns:
        return frozenset((CERTAIN,)) if name in columns else frozenset()
    return _of_query(cte.this, name)


def _of_query(query: exp.Expr, name: str) -> frozenset[int]:
    """The same for the columns that a query gives; a union's are its first part's."""
    while isinstance(query, exp.SetOperation | exp.Subquery):
        query = query.this
    if not isinstance(query, exp.Select):
        return frozenset()
    if name in _spelt(query):
        return frozenset((CERTAIN,))
    return frozenset(place for one in query.expressions for place in _of_star(one, query, name))


def _of_star(one: exp.Expr, select: exp.Select, name: str) -> frozenset[int]:
    """The same for `*` and `t.*`; one that leaves columns out may leave this one out."""
    star = one.this if isinstance(one, exp.Column) else one
    if not isinstance(star, exp.Star) or any(star.args.values()):
        return frozenset()
    table = one.args.get("table") if isinstance(one, exp.Column) else None
    sources = [source for source in _sources(select) if table is None or source.alias_or_name.lower() == table.name.lower()]
    return frozenset(place for source in sources for place in _of_source(source, name))


def _spelt(select: exp.Select) -> set[str]:
    return {one.alias_or_name.lower() for one in select.expressions if not one.is_star}
