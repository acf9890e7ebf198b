"""The table of faults: what happens to a watch and to the data it reads, second by second.

In every row the release turns bad at :data:`ONSET`, unless the row is about something else, and the
budget allows that for :data:`DURATION_S`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from rollback_budget.engine.evaluation import VerdictKind
from tests.faults.exporter import BAD, BASELINE, GOOD, RELEASE, Exporter, Series
from tests.support.fault_proxy import Answers, Does, FaultProxy, Loses, Slows, Truncates
from tests.support.prometheus import Prometheus
from tests.support.triggers import TriggerProcess

#: Seconds after every watch has had its first look, which is some seconds after the start of the window.
WINDOW_S, ONSET, DURATION_S, BLIND_AFTER_S = 60, 12, 6, 20
#: In the middle of the burn, and for shorter than the watch may be blind; from before it, and for longer.
BRIEFLY, FOR_GOOD = (15, 22), (10, 999)

BREACH, HEALTHY, BLIND = VerdictKind.BREACH, VerdictKind.HEALTHY, VerdictKind.BLIND


@dataclass(frozen=True)
class Stage:
    """What a fault can reach; each has a proxy of its own."""

    fault: str
    exporter: Exporter
    prometheus: Prometheus
    proxy: FaultProxy
    process: TriggerProcess


Act = Callable[[Stage], None]


@dataclass(frozen=True)
class Fault:
    """One row of the table.

    :param acts: what happens, by seconds after every watch has had its first look.
    :param verdict: of the watch.
    :param replay: of ``replay`` on what the backend holds afterwards; the same, unless the backend has data
        that the watch could not read before it had to say that it is blind.
    :param worsens: whether the release turns bad at :data:`ONSET`.
    :param own_prometheus: whether it does something to the server.
    :param own_process: whether it does something to the process that watches.
    :param clock_s: how far the clock of that process is off to begin with; None leaves it alone.
    :param history: how long the watch has run already when the window that matters begins.
    :param hidden: whether the release's series are not there from the start.
    :param begins: in another time, which the process believes to live in, in Berlin; its data is backfilled.
    """

    name: str
    acts: tuple[tuple[float, Act], ...] = ()
    verdict: VerdictKind = BREACH
    replay: VerdictKind | None = None
    worsens: bool = True
    own_prometheus: bool = False
    own_process: bool = False
    clock_s: float | None = None
    history: timedelta = timedelta(0)
    hidden: bool = False
    begins: datetime | None = None


def worsen(stage: Stage) -> None:
    stage.exporter.release(stage.fault).share = BAD


def answers(does: Does | Callable[[], Does], span: tuple[float, float]) -> tuple[tuple[float, Act], ...]:
    """The proxy answers like this for a while."""

    def begin(stage: Stage) -> None:
        stage.proxy.always = does() if callable(does) else does

    def end(stage: Stage) -> None:
        stage.proxy.always = None

    return ((span[0], begin), (span[1], end))


def page(status: int, content: str, kind: str = "application/json", **headers: str) -> Answers:
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Answers(status, (("Content-Type", kind), *named), content.encode())


def http_date_in(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


def backfilled(fault: Fault) -> list[str]:
    """Return the series of a fault in another time, in the OpenMetrics format."""
    assert fault.begins is not None
    begin = fault.begins.timestamp()
    lines = []
    for name, kind in (
        ("bot_requests", "counter"),
        ("bot_handoffs", "counter"),
        ("bot_handoff_share", "gauge"),
    ):
        lines.append(f"# TYPE {name} {kind}")
        for version in (RELEASE, BASELINE):
            series = Series()
            for second in range(-10, WINDOW_S + 10):
                series.share = BAD if version == RELEASE and second >= ONSET else GOOD
                series.grow(1)
                values = (series.requests, series.handoffs, series.share)
                value = values[("bot_requests", "bot_handoffs", "bot_handoff_share").index(name)]
                suffix = "_total" if kind == "counter" else ""
                labels = f'fault="{fault.name}",version="{version}"'
                lines.append(f"{name}{suffix}{{{labels}}} {value!r} {begin + second:.3f}")
    return lines


HTML = "<html><body><h1>502 Bad Gateway</h1></body></html>"
TIMED_OUT = (
    '{"status":"error","errorType":"timeout","error":"query timed out in expression evaluation: '
    'context deadline exceeded"}'
)
TOO_MANY_POINTS = (
    '{"status":"error","errorType":"bad_data","error":"exceeded maximum resolution of 11,000 points per '
    'timeseries. Try decreasing the query resolution (?step=XX)"}'
)


def expose(exposed: bool, *, baseline: bool = False) -> Act:
    def act(stage: Stage) -> None:
        stage.exporter.release(stage.fault).exposed = exposed
        if baseline:
            stage.exporter.baseline(stage.fault).exposed = exposed

    return act


def say(value: float | None) -> Act:
    def act(stage: Stage) -> None:
        stage.exporter.release(stage.fault).value = value

    return act


def reset_counters(stage: Stage) -> None:
    stage.exporter.release(stage.fault).reset()


def restart_prometheus(stage: Stage) -> None:
    stage.prometheus.stop()
    stage.prometheus.start()


def scrape_twice(stage: Stage) -> None:
    """The same service under a second address, as a second replica or a second job would have it."""
    stage.prometheus.reload([f"{host}:{stage.exporter.port}" for host in ("127.0.0.1", "localhost")])


def set_clock(offset_s: float) -> Act:
    return lambda stage: stage.process.fake_clock(offset_s)


TEN_MINUTES = 600.0

FAULTS = (
    Fault("nothing"),
    Fault("nothing_and_no_breach", verdict=HEALTHY, worsens=False),
    # What stands between the watch and the backend.
    Fault("connection_lost", answers(Loses.REQUEST, BRIEFLY)),
    Fault("slower_than_the_poll", answers(Slows(1.7), BRIEFLY)),
    Fault("truncated", answers(Truncates(200), BRIEFLY)),
    Fault("half_a_json", answers(page(200, '{"status":"success","data":{"resultType":"matr'), BRIEFLY)),
    Fault("not_json", answers(page(200, "pong", "text/plain"), BRIEFLY)),
    Fault("json_of_another_kind", answers(page(200, '["pong"]'), BRIEFLY)),
    Fault("html_from_a_proxy", answers(page(200, HTML, "text/html"), BRIEFLY)),
    Fault("bad_gateway", answers(page(502, HTML, "text/html"), BRIEFLY)),
    Fault("slower_than_the_time_out", answers(Slows(9), BRIEFLY)),
    Fault(
        "unauthorized_after_an_hour",
        answers(page(401, "Unauthorized", "text/plain"), BRIEFLY),
        history=timedelta(hours=1),
    ),
    Fault("query_timeout", answers(page(422, TIMED_OUT), BRIEFLY)),
    Fault("too_many_requests_seconds", answers(page(429, "{}", Retry_After="3"), BRIEFLY)),
    Fault(
        "too_many_requests_date",
        answers(lambda: page(429, "{}", Retry_After=http_date_in(4)), BRIEFLY),
    ),
    Fault("too_many_points", answers(page(400, TOO_MANY_POINTS), BRIEFLY)),
    # The real limit: four hours at one second are more points than a server answers.
    Fault("long_history", history=timedelta(hours=4)),
    Fault("unavailable_for_good", answers(Loses.REQUEST, FOR_GOOD), BLIND, BREACH),
    Fault("unauthorized_for_good", answers(page(401, "Unauthorized", "text/plain"), FOR_GOOD), BLIND, BREACH),
    Fault("html_for_good", answers(page(200, HTML, "text/html"), FOR_GOOD), BLIND, BREACH),
    # What happens to the series.
    Fault("series_ends", ((10, expose(False)),), BLIND),
    Fault("series_ends_for_a_while", ((16, expose(False)), (20, expose(True)))),
    Fault("gauge_goes_nan", ((16, say(float("nan"))), (20, say(None)))),
    Fault("counter_restarts", ((16, reset_counters),)),
    Fault("appears_late", ((6, expose(True)),), hidden=True),
    Fault("exists_twice_from_now_on", ((14, scrape_twice),), own_prometheus=True),
    # What happens to the server.
    Fault("prometheus_restarted", ((16, restart_prometheus),), own_prometheus=True),
    Fault(
        "prometheus_killed_briefly",
        ((15, lambda stage: stage.prometheus.kill()), (19, lambda stage: stage.prometheus.start())),
        own_prometheus=True,
    ),
    Fault(
        "prometheus_stopped_for_long",
        ((8, lambda stage: stage.prometheus.stop()), (34, lambda stage: stage.prometheus.start())),
        BLIND,
        own_prometheus=True,
    ),
    # What happens to the process and to its clock.
    Fault(
        "killed_and_started_again",
        ((12, lambda stage: stage.process.kill()), (22, lambda stage: stage.process.start())),
        own_process=True,
    ),
    Fault(
        "clock_set_forward_and_back",
        ((12, set_clock(TEN_MINUTES)), (16, set_clock(0.0))),
        own_process=True,
        clock_s=0.0,
    ),
    Fault(
        "clock_set_back_and_forward",
        ((12, set_clock(-TEN_MINUTES)), (16, set_clock(0.0))),
        own_process=True,
        clock_s=0.0,
    ),
    Fault(
        "daylight_saving_ends",
        own_prometheus=True,
        own_process=True,
        clock_s=0.0,
        begins=datetime(2025, 10, 26, 0, 59, 45, tzinfo=UTC),
    ),
    Fault(
        "daylight_saving_begins",
        own_prometheus=True,
        own_process=True,
        clock_s=0.0,
        begins=datetime(2026, 3, 29, 0, 59, 45, tzinfo=UTC),
    ),
)
