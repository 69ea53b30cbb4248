"""Which series a PromQL expression asks for, and which labels its result can have, by the catalogue.

Labels are an upper bound: what an expression may yield, for all that is declared. Grouping by, matching on or selecting
a label that no operand can have is an `UnknownLabelError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import promql_parser as promql

from celery_observe.compat import PEERS, Compat
from celery_observe.fact import Cause, Departure, Ending, Exit, Outcome
from celery_observe.metrics import CATALOGUE, Family, Kind

Labels = frozenset[str]

TARGET: Labels = frozenset({"cluster", "job", "instance", "pod", "broker"})
"""What Prometheus adds: `cluster` if its configuration says so, `pod` by discovery; `broker` is ours, of several."""

# Of Prometheus itself, and of prometheus-client's collector of the process.
NOT_OURS = dict.fromkeys(("up", "process_start_time_seconds", "process_cpu_seconds_total"), TARGET - {"broker"})

VALUES: dict[str, Labels] = {
    "outcome": frozenset(Outcome) | frozenset(Ending),
    "cause": frozenset(Cause),
    "kind": frozenset(Exit) | frozenset(Departure),
}
"""The values of labels that have few, to find those that are misspelt."""

_KEEPS_SERIES = {"topk", "bottomk"}
_WRITES_LABEL = {"label_join", "label_replace"}
_SET_OPERATORS = {"and", "or", "unless"}


class UnknownSeriesError(Exception):
    """Neither a family of the catalogue nor a recording rule has this name."""


class UnknownLabelError(Exception):
    """No series that is asked here can have this label, or this value of it."""


def catalogue() -> dict[str, Labels]:
    """The names of all series of all families, with their labels; those too that `--compat` adds to them."""
    families = Compat(PEERS).extend(CATALOGUE)[: len(CATALOGUE)]
    return NOT_OURS | {name: labels for family in families for name, labels in _series_of(family)}


def _series_of(family: Family) -> Iterator[tuple[str, Labels]]:
    labels = TARGET | set(family.labels)
    if "task" in family.labels and family.on is not None and "worker" in family.on.__struct_fields__:
        labels |= {"worker"}  # with worker_label
    if family.kind is not Kind.HISTOGRAM:
        yield family.name, labels
        return
    yield f"{family.name}_bucket", labels | {"le"}
    yield f"{family.name}_count", labels
    yield f"{family.name}_sum", labels


def labels_of(expression: str, series: Mapping[str, Labels]) -> Labels:
    """The labels that the result of an expression over `series` can have.

    Raises:
        UnknownSeriesError: it asks for something else.
        UnknownLabelError: it names a label, or a value, that cannot be.
    """
    return _Reader(series).labels(promql.parse(expression))


class _Reader:
    def __init__(self, series: Mapping[str, Labels]) -> None:
        self._series = series

    def labels(self, node: promql.Expr | None) -> Labels:
        labels: Labels = frozenset()
        match node:
            case promql.VectorSelector():
                labels = self._selected(node)
            case promql.MatrixSelector():
                labels = self._selected(node.vector_selector)
            case promql.AggregateExpr():
                labels = self._aggregated(node)
            case promql.BinaryExpr():
                labels = self._combined(node)
            case promql.Call():
                labels = labels.union(*(self.labels(argument) for argument in node.args), _added(node))
            case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
                labels = self.labels(node.expr)
        return labels

    def _selected(self, node: promql.VectorSelector) -> Labels:
        labels = self._series.get(node.name or "")
        if labels is None:
            raise UnknownSeriesError(node.name)
        for matcher in node.matchers.matchers:
            _demand({matcher.name}, labels, node)
            if matcher.name in VALUES:
                _demand(set(matcher.value.split("|")), VALUES[matcher.name], node)
        return labels

    def _aggregated(self, node: promql.AggregateExpr) -> Labels:
        inner = self.labels(node.expr)
        named = set(node.modifier.labels) if node.modifier else set()
        _demand(named, inner, node)
        if str(node.op) in _KEEPS_SERIES:
            return inner
        written = {node.param.val} if isinstance(node.param, promql.StringLiteral) else set()  # by count_values
        if node.modifier and node.modifier.type == promql.AggModifierType.Without:
            return inner - named | written
        return frozenset(named | written)

    def _combined(self, node: promql.BinaryExpr) -> Labels:
        left, right = self.labels(node.lhs), self.labels(node.rhs)
        if node.modifier is None or node.modifier.matching is None:
            return left | right
        matching = node.modifier.matching
        _demand(set(matching.labels), left | right, node)
        if str(node.op) in _SET_OPERATORS:
            return left | right if str(node.op) == "or" else left
        return _matched(node.modifier, left, right)


def _added(node: promql.Call) -> Labels:
    """The label that a function writes: the second argument of those that write one."""
    target = node.args[1] if node.func.name in _WRITES_LABEL else None
    return frozenset({target.val}) if isinstance(target, promql.StringLiteral) else frozenset()


def _matched(modifier: promql.BinModifier, left: Labels, right: Labels) -> Labels:
    """The labels of an arithmetic or comparison of two vectors: those of the many side, or those matched."""
    taken = frozenset(modifier.group_labels or ())
    if modifier.card == promql.VectorMatchCardinality.ManyToOne:
        return left | taken
    if modifier.card == promql.VectorMatchCardinality.OneToMany:
        return right | taken
    named = frozenset(modifier.matching.labels) if modifier.matching else frozenset()
    includes = modifier.matching is not None and modifier.matching.type == promql.LabelModifierType.Include
    return named if includes else left - named


def _demand(named: set[str], known: Labels, node: promql.Expr) -> None:
    if unknown := named - known:
        message = f"{', '.join(sorted(unknown))} in {node.prettify()}"
        raise UnknownLabelError(message)
