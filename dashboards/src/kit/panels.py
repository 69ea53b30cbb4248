"""The kinds of panels that boards have: a number, a graph, a heatmap, a table. Each says what it shows and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import TypeAlias

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmaps
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from dashboards.src.kit.colours import MUTED
from dashboards.src.kit.links import ROWS, RUNBOOK, of_more, of_runbooks, runbooks

SOURCE = shapes.DataSourceRef(type_val="prometheus", uid="${datasource}")
PER_SECOND = "suffix:/s"
NONE = "none"
"""The name of a series that says that nothing of the kind has happened."""

_WIDTHS = {"severity": 85, "alertname": 250}
"""Of columns whose words are known, in pixels."""

_AT_LEAST = {"short": 1.0, PER_SECOND: 0.01, "s": 0.01}
"""How far an axis reaches if all is 0, by unit: not to 100."""


Panel: TypeAlias = stat.Panel | timeseries.Panel | heatmap.Panel | table.Panel
Steps: TypeAlias = Sequence[tuple[float, str]]
"""Thresholds: from this value on, this colour."""
Series: TypeAlias = tuple[str, str]
"""A query, and the name of what it yields, in which `{{label}}` stands for the value of a label."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """How the values of a panel are drawn."""

    unit: str = "short"
    width: int = 8
    """Of 24."""
    height: int = 8
    base: str = "green"
    """The colour below all steps."""
    steps: Steps = ()
    words: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """What to show instead of a value, and in which colour."""
    colours: Mapping[str, str] = field(default_factory=dict)
    """Of series, by their name."""
    dashed: Sequence[str] = ()
    """How the names of series begin that are no measurement: what is promised, what is allowed."""
    stacked: bool = False
    listed: bool = False
    """Whether the names of series stand beside the graph, one a line, since they are many."""
    greatest: float | None = None
    decimals: int | None = None
    board: str = ""
    """The board that tells more, to which a number leads."""
    empty: str = "-"
    """What to say if there is nothing."""


def number(title: str, description: str, *queries: Series, look: Look, alerts: Sequence[str] = ()) -> stat.Panel:
    """Return a panel with the value that each query has now. It asks once: how it came there is for graphs."""
    panel = stat.Panel().reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    panel.graph_mode(shapes.BigValueGraphMode.NONE)
    panel.color_mode(shapes.BigValueColorMode.VALUE).justify_mode(shapes.BigValueJustifyMode.CENTER)
    panel.text_mode(shapes.BigValueTextMode.VALUE_AND_NAME if len(queries) > 1 else shapes.BigValueTextMode.VALUE)
    panel.color_scheme(_colour(models.FieldColorModeId.THRESHOLDS)).no_value(look.empty)
    if look.board:
        panel.data_links([of_more(look.board)])
    _describe(panel, title, description, look, alerts)
    for name, query in zip(ascii_uppercase, queries, strict=False):
        panel.with_target(_target(name, query).instant())
    return panel


def graph(title: str, description: str, *queries: Series, look: Look, alerts: Sequence[str] = ()) -> timeseries.Panel:
    """Return a graph over time. Durations of tasks get their exemplars, which lead to traces."""
    panel = timeseries.Panel().line_width(1).show_points(shapes.VisibilityMode.NEVER).span_nulls(60_000)
    panel.fill_opacity(40 if look.stacked else 8).min(0).no_value(look.empty)
    panel.color_scheme(_colour(models.FieldColorModeId.PALETTE_CLASSIC))
    panel.stacking(
        common.StackingConfig().mode(shapes.StackingMode.NORMAL if look.stacked else shapes.StackingMode.NONE)
    )
    panel.legend(_legend(look))
    panel.tooltip(common.VizTooltipOptions().mode(shapes.TooltipDisplayMode.MULTI).sort(shapes.SortOrder.DESCENDING))
    if look.greatest is not None:
        panel.max(look.greatest)
    elif look.unit in _AT_LEAST:
        panel.axis_soft_max(_AT_LEAST[look.unit])
    if look.steps:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(shapes.GraphThresholdsStyleMode.DASHED))
    for name, colour in {NONE: MUTED, **look.colours}.items():
        panel.override_by_name(name, [_fixed(colour)])
    for name in look.dashed:
        panel.override_by_regexp(f"/^{name}/", _DASHED)
    _describe(panel, title, description, look, alerts)
    for name, query in zip(ascii_uppercase, queries, strict=False):
        panel.with_target(_target(name, query).range().exemplar(_has_exemplars(query)))
    return panel


def heat(title: str, description: str, buckets: str, *, look: Look, alerts: Sequence[str] = ()) -> heatmap.Panel:
    """Return a heatmap of the buckets of a histogram: how many, of which value, when; with exemplars."""
    panel = heatmap.Panel().calculate(calculate=False).show_y_histogram().exemplars_color("rgba(255,255,255,0.8)")
    panel.cell_gap(1).show_legend().filter_values(heatmap.FilterValueRange().le(1e-9))
    panel.rows_frame(heatmap.RowsHeatmapOptions().layout(shapes.HeatmapCellLayout.AUTO))
    panel.y_axis(heatmap.YAxisConfig().unit(look.unit).axis_placement(shapes.AxisPlacement.LEFT))
    panel.color(
        heatmap.HeatmapColorOptions()
        .mode(heatmaps.HeatmapColorMode.SCHEME)
        .scheme("Oranges")
        .scale(heatmaps.HeatmapColorScale.EXPONENTIAL)
        .exponent(0.5)
        .steps(64)
    )
    _describe(panel, title, description, look, alerts)
    query = (buckets, "{{le}}")
    panel.with_target(_target("A", query).range().format(PromQueryFormat.HEATMAP).exemplar(_has_exemplars(query)))
    return panel


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table: one query, whose labels say to which row each value belongs."""

    name: str
    """Empty if the value says nothing, but that there is such a row."""
    query: str
    unit: str = "short"
    steps: Steps = ()
    words: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    decimals: int | None = None


def listing(
    title: str, description: str, *columns: Column, keys: Sequence[str], look: Look, alerts: Sequence[str] = ()
) -> table.Panel:
    """Return a table with a row for each value of the labels `keys`, greatest of the first column first."""
    panel = table.Panel().cell_height(shapes.TableCellHeight.SM).no_value(look.empty)
    first = columns[0].name or keys[0]
    panel.sort_by([common.TableSortByFieldState().display_name(first).desc(desc=bool(columns[0].name))])
    panel.color_scheme(_colour(models.FieldColorModeId.THRESHOLDS))
    _describe(panel, title, description, look, alerts)
    for name, column in zip(ascii_uppercase, columns, strict=False):
        panel.with_target(_target(name, (column.query, "")).instant().format(PromQueryFormat.TABLE))
        panel.override_by_name(column.name, list(_of_column(column)))
    for key in keys:
        panel.override_by_name(key, list(_of_key(key)))
    panel.with_transformation(models.DataTransformerConfig("merge", options={}))
    panel.with_transformation(models.DataTransformerConfig("organize", options=_organized(columns, keys)))
    return panel


def _organized(columns: Sequence[Column], keys: Sequence[str]) -> dict[str, object]:
    """Name and order the fields that a merge of queries yields; one query alone has no letter."""
    letters = [f"Value #{letter}" for letter in ascii_uppercase[: len(columns)]] if len(columns) > 1 else ["Value"]
    names = dict(zip(letters, (column.name for column in columns), strict=True))
    return {
        "excludeByName": {"Time": True} | {letter: True for letter, name in names.items() if not name},
        "renameByName": names,
        "indexByName": {name: place for place, name in enumerate([*keys, *names])},
    }


def _describe(panel: Panel, title: str, description: str, look: Look, alerts: Sequence[str]) -> None:
    panel.title(title).description(description).datasource(SOURCE).unit(look.unit)
    panel.span(look.width).height(look.height).thresholds(_thresholds(look.steps, look.base))
    if look.words:
        panel.mappings([_mapping(look.words)])
    if look.decimals is not None:
        panel.decimals(look.decimals)
    if alerts:
        panel.links(of_runbooks(alerts))


def _target(name: str, query: Series) -> prometheus.Dataquery:
    expression, legend = query
    return prometheus.Dataquery().ref_id(name).expr(expression).legend_format(legend).datasource(SOURCE)


def _has_exemplars(query: Series) -> bool:
    return "celery_task_runtime_seconds_bucket" in query[0]


def _legend(look: Look) -> common.VizLegendOptions:
    place = shapes.LegendPlacement.RIGHT if look.listed else shapes.LegendPlacement.BOTTOM
    return (
        common.VizLegendOptions()
        .show_legend(show_legend=True)
        .display_mode(shapes.LegendDisplayMode.LIST)
        .placement(place)
        .calcs([])
    )


def _colour(mode: models.FieldColorModeId) -> dashboard.FieldColor:
    return dashboard.FieldColor().mode(mode)


def _fixed(colour: str) -> models.DynamicConfigValue:
    return models.DynamicConfigValue("color", {"mode": models.FieldColorModeId.FIXED, "fixedColor": colour})


def _thresholds(steps: Steps, base: str) -> dashboard.ThresholdsConfig:
    first = models.Threshold(value=None, color=base)
    others = [models.Threshold(value=value, color=colour) for value, colour in steps]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps([first, *others])


def _mapping(words: Mapping[str, tuple[str, str]]) -> models.ValueMap:
    results = {
        value: models.ValueMappingResult(text=text, color=colour, index=index)
        for index, (value, (text, colour)) in enumerate(words.items())
    }
    return models.ValueMap(results)


def _of_key(key: str) -> Iterator[models.DynamicConfigValue]:
    if key in _WIDTHS:
        yield models.DynamicConfigValue("custom.width", _WIDTHS[key])
    if key in ROWS:
        yield models.DynamicConfigValue("links", ROWS[key])
    if key == RUNBOOK:
        yield models.DynamicConfigValue(
            "mappings", [_mapping({alert: (where, "text") for alert, where in runbooks().items()})]
        )


def _of_column(column: Column) -> Iterator[models.DynamicConfigValue]:
    yield models.DynamicConfigValue("unit", column.unit)
    yield models.DynamicConfigValue("custom.width", max(95, 30 + 8 * len(column.name)))  # pixels
    if column.decimals is not None:
        yield models.DynamicConfigValue("decimals", column.decimals)
    if column.words:
        yield models.DynamicConfigValue("mappings", [_mapping(column.words)])
    if column.steps or column.words:
        yield models.DynamicConfigValue("thresholds", _thresholds(column.steps, "text").build())
        yield models.DynamicConfigValue("custom.cellOptions", {"type": shapes.TableCellDisplayMode.COLOR_TEXT})


_DASHED = [
    models.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 6]}),
    models.DynamicConfigValue("custom.fillOpacity", 0),
    models.DynamicConfigValue("custom.stacking", {"mode": shapes.StackingMode.NONE}),
    _fixed(MUTED),
]
