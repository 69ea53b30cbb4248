"""What all boards have in common: variables, links, annotations, and how panels are laid out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models

from dashboards.src.kit.links import TAG, of_board
from dashboards.src.kit.panels import SOURCE, Panel
from dashboards.src.kit.queries import of

Rows = Mapping[str, Sequence[Panel]]
"""The panels below each heading; those below the empty one come first."""

_ALL = models.VariableOption(selected=True, text="All", value="$__all")


def board(
    name: str,
    description: str,
    rows: Rows,
    *,
    folded: Collection[str] = (),
    variables: Sequence[dashboard.QueryVariable] = (),
    alerts: str = "",
) -> dashboard.Dashboard:
    """Return the board `celery-<name>`.

    Args:
        name: the last part of its uid, and its title.
        description: what it answers.
        rows: its panels.
        folded: headings of panels that are not for everybody, and asked for only when somebody opens them.
        variables: those that it has beside those of all boards.
        alerts: which alerts are marked on its graphs, as matchers; all unless they are given.
    """
    made = dashboard.Dashboard(f"Celery / {name.capitalize()}").uid(f"celery-{name}").description(description)
    made.tags([TAG]).timezone("browser").tooltip(models.DashboardCursorSync.CROSSHAIR).editable()
    made.time("now-1h", "now").refresh("30s").links(of_board())
    made.variables([*_sources(), *_targets(), *variables, *_addresses()])
    made.annotation(
        _Firing(of("ALERTS", f'alertname=~"Celery.+", alertstate="firing"{", " if alerts else ""}{alerts}'))
    )
    for heading, panels in rows.items():
        row = dashboard.Row(heading)
        if heading in folded:
            row.collapsed(collapsed=True)
            for panel in panels:
                row.with_panel(panel)
        if heading:
            made.with_row(row)
        if heading not in folded:
            for panel in panels:
                made.with_panel(panel)
    return made


def finished(made: dashboard.Dashboard) -> models.Dashboard:
    """Return a board with the ids of its panels, which have to be there for annotations and links to panels."""
    built = made.build()
    for number, panel in enumerate(_flat(built.panels or ()), start=1):
        panel.id_val = number
    return built


def _flat(panels: Iterable[models.Panel | models.RowPanel]) -> Iterator[models.Panel | models.RowPanel]:
    for panel in panels:
        yield panel
        if isinstance(panel, models.RowPanel):
            yield from panel.panels


def choice(name: str, query: str, *, several: bool = True) -> dashboard.QueryVariable:
    """Return a variable with the values that a label has: of several, or all, or of one."""
    made = dashboard.QueryVariable(name).label(name.capitalize()).query(query).datasource(SOURCE)
    made.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(models.VariableSort.NATURAL_ASC)
    if several:
        made.multi(multi=True).include_all(include_all=True).all_value(".*").current(_ALL)
    return made


def _sources() -> list[dashboard.DatasourceVariable]:
    return [dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")]


def _targets() -> list[dashboard.QueryVariable]:
    chosen: list[str] = []
    made = []
    for name in ("cluster", "job", "broker"):
        where = f"{{{', '.join(chosen)}}}" if chosen else ""
        made.append(choice(name, f"label_values(celery_observe_build_info{where}, {name})"))
        chosen.append(f'{name}=~"${name}"')
    return made


def _addresses() -> list[dashboard.QueryVariable]:
    """Where Flower and the runbooks are, which the rules say."""
    return [
        dashboard.QueryVariable(name)
        .query(f"label_values(celery_observe:links, {name})")
        .datasource(SOURCE)
        .refresh(models.VariableRefresh.ON_DASHBOARD_LOAD)
        .hide(models.VariableHide.HIDE_VARIABLE)
        for name in ("flower", "runbooks")
    ]


class _FiringQuery(models.AnnotationQuery):
    """An annotation with what Prometheus' data source reads beside the schema: how it is worded."""

    def to_json(self) -> dict[str, object]:
        worded = {"titleFormat": "{{alertname}}", "textFormat": "{{task}} {{queue}} {{worker}} {{entry}}"}
        return super().to_json() | worded | {"tagKeys": "severity", "step": "60s", "useValueForTime": False}


class _Firing(dashboard.AnnotationQuery):
    """Marks the time during which alerts fire."""

    def __init__(self, expression: str) -> None:
        super().__init__()
        self._internal = _FiringQuery(
            name="Alerts", datasource=SOURCE, enable=True, hide=False, icon_color="red", expr=expression
        )
