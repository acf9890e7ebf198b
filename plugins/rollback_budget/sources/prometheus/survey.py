"""What Prometheus says of the series of a budget before a release ships: how often each is scraped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta

from rollback_budget.model.duration import say_duration
from rollback_budget.model.metric import Metric
from rollback_budget.model.source import PrometheusSource
from rollback_budget.sources.prometheus.promql import PART, counted_selectors

#: Over this time scrapes are counted.
COUNTED_OVER = timedelta(minutes=15)
#: An interval that is longer by this factor is another one; a lost scrape is not.
IS_LONGER = 1.4


def survey_query(
    source: PrometheusSource, metrics: Mapping[str, Metric], series: Iterable[str], versions: Iterable[str]
) -> tuple[str, dict[str, str]]:
    """Return PromQL for the scrapes of each counter and histogram, and the metric of each part of it.

    Empty where there is nothing to count.
    """
    selectors = counted_selectors(source, metrics, series, versions)
    # Without its first millisecond, so that a sample on the edge counts once in every version of Prometheus.
    window = f"{COUNTED_OVER // timedelta(milliseconds=1) - 1}ms"
    parts = {str(number): name for number, name in enumerate(selectors)}
    texts = [
        f'label_replace(max(count_over_time({selected}[{window}])), "{PART}", "{part}", "", "")'
        for part, selected in zip(parts, selectors.values(), strict=True)
    ]
    return "\nor ".join(texts), parts


def scrape_remarks(source: PrometheusSource, counts: Mapping[str, float]) -> Iterator[str]:
    """Yield a sentence for each metric that is scraped less often than the settings say.

    :param counts: how many scrapes there were of each metric, in :data:`COUNTED_OVER`.
    """
    for name, count in counts.items():
        if count < 2:
            continue
        measured = COUNTED_OVER / count
        if measured > IS_LONGER * source.scrape_interval:
            about = timedelta(seconds=round(measured.total_seconds()))
            yield (
                f"{name} is scraped about every {say_duration(about)}, and source.scrape_interval says "
                f"{say_duration(source.scrape_interval)}: set it to what the scrape job says, else looks "
                "without a scrape are unknown, and `$window` of your own PromQL holds too little"
            )
