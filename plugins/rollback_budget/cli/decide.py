"""``rollback-budget decide``: the incident commander's answer, when Airflow cannot take it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

import click

from rollback_budget.cli.common import by_option, find_rollouts, iso, json_option, url_option, utc_second
from rollback_budget.cli.ledger import open_ledger
from rollback_budget.exceptions import LedgerRuleError
from rollback_budget.text import printable

if TYPE_CHECKING:
    from rollback_budget.ledger.answers import Answer
    from rollback_budget.ledger.ledger import Ledger
    from rollback_budget.ledger.views import Rollout
    from rollback_budget.ledger.watched_by import WatchedBy
    from rollback_budget.model.choice import Choice
    from rollback_budget.standby.situation import Situation

_OPTIONS = ("roll-back", "go-on", "promote")


@click.command()
@click.argument("release", metavar="RELEASE")
@click.argument("option", type=click.Choice(_OPTIONS), metavar="|".join(_OPTIONS))
@click.option(
    "--reason", default="", help="Why; required to go on and to promote. It is kept with the rollout."
)
@by_option
@click.option("--until", metavar="TIME", help="go-on: until when, 03:27 (UTC) or 2026-01-31T03:27Z.")
@click.option("--mute", is_flag=True, help="go-on: suspend the breached budgets until then.")
@click.option("--run", metavar="RUN_ID", help="This run; by default the newest.")
@url_option
@json_option
def decide(
    release: str,
    option: str,
    reason: str,
    by: str,
    until: str | None,
    mute: bool,
    run: str | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Answer the open review of RELEASE while Airflow is down; standby follows within seconds.

    RELEASE may also be a service, a DAG id or a run id. While Airflow watches it takes the answer itself:
    then this refuses, and says where. roll-back is taken without an open review, too, from whoever sees more
    than the metrics, and after an answer to promote that Airflow has not followed yet.

    \b
    Examples:
      rollback-budget decide model-v42 roll-back --by alice
      rollback-budget decide model-v42 go-on --reason "load test until 03:00" --until 03:00 --by alice

    Exits 0, or 1 when it is not taken: --by is no incident commander of the budget, it was answered before,
    the rollout has ended.
    """
    from rollback_budget.ledger.watched_by import watched_by
    from rollback_budget.model.pace import tail_of
    from rollback_budget.standby.situation import read_situation

    ledger = open_ledger(url)
    rollout, *_ = find_rollouts(ledger, release, run)
    if rollout.final is not None:
        raise LedgerRuleError(
            f"{rollout.spec.release} was {rollout.final.decision.value.replace('_', ' ')} by"
            f" {rollout.final.by} at {utc_second(rollout.final.at)}; nothing is left to decide"
        )
    signs = ledger.signs_of_life.of(rollout.key)
    if signs is None:
        raise LedgerRuleError(f"{rollout.spec.release} has not shipped, so there is nothing to decide")
    situation = read_situation(ledger, rollout.key)
    who = watched_by(signs, rollout.spec.watch, tail=tail_of(rollout.spec, signs.window_end))
    choice = _choice(option)
    _refuse_beside_airflow(rollout, situation, who)
    _refuse_without_question(situation, choice)
    answer = _answer(
        situation, choice, _commander(rollout, by), reason.strip() or None, until, mute, signs.now
    )
    _take(ledger, rollout, situation, answer)
    next_step = _follow(ledger, situation, answer, choice, who)
    if as_json:
        document = {
            "dag_id": rollout.key.dag_id,
            "run_id": rollout.key.run_id,
            "release": rollout.spec.release,
            "round": answer.round,
            "option": answer.option,
            "by": answer.by,
            "reason": answer.reason,
            "at": iso(answer.at),
            "until": iso(answer.until),
        }
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    click.echo(
        printable(f"{rollout.spec.release}, round {answer.round}: {answer.by} decided {answer.option!r}")
    )
    click.echo(printable(next_step))


def _choice(option: str) -> Choice:
    from rollback_budget.model.choice import Choice

    return dict(zip(_OPTIONS, (Choice.ROLL_BACK, Choice.GO_ON, Choice.PROMOTE), strict=True))[option]


def _refuse_beside_airflow(rollout: Rollout, situation: Situation, who: WatchedBy) -> None:
    """Airflow lets nobody but the commanders answer, and takes no answer from here."""
    from rollback_budget.common.config import link_to_run, path_of_run
    from rollback_budget.ledger.watched_by import Who

    if who.who not in (Who.AIRFLOW, Who.OVER):
        return
    key = rollout.key
    link = link_to_run(key) or f"the page of its run, /{path_of_run(key)}"
    task = f"round_{situation.round}.review"
    raise LedgerRuleError(
        f"Airflow watches {rollout.spec.release}, and takes the answer itself: open {link}, required actions,"
        f" or PATCH /api/v2/dags/{key.dag_id}/dagRuns/{key.run_id}/taskInstances/{task}/-1/hitlDetails with"
        ' {"chosen_options": ["Roll back now"], "params_input": {"reason": "..."}}. If it is down, standby'
        " takes over within minutes, and the answer is taken here"
    )


def _refuse_without_question(situation: Situation, choice: Choice) -> None:
    """A release can be rolled back at any time; what else there is answers an open question."""
    from rollback_budget.model.choice import Choice

    if choice is Choice.ROLL_BACK:
        return
    if situation.answer is not None:
        raise _answered_already(situation.answer)
    release = situation.rollout.spec.release
    if situation.review is None:
        so = (
            "it goes on anyway"
            if choice is Choice.GO_ON
            else "Airflow promotes it at the end of its window, if it keeps its budgets"
        )
        raise LedgerRuleError(f"no question about {release} is open, so {so}")


def _take(ledger: Ledger, rollout: Rollout, situation: Situation, answer: Answer) -> None:
    """Write the answer down; roll-back overrules an earlier one that has not ended the rollout."""
    from rollback_budget.model.choice import Choice

    earlier = situation.answer
    if earlier is None:
        taken = ledger.answers.take(rollout.key, answer)
        if taken is answer:
            return
        earlier = taken
    if answer.option != Choice.ROLL_BACK.value or earlier.option == answer.option:
        raise _answered_already(earlier)


def _answered_already(taken: Answer) -> LedgerRuleError:
    return LedgerRuleError(
        f"answered already: {taken.author} decided {taken.option!r} at {utc_second(taken.at)}"
    )


def _commander(rollout: Rollout, by: str) -> str:
    """Return the commander's name; raises LedgerRuleError for everybody else."""
    commanders = rollout.spec.incident_commanders
    wanted = by.strip()
    for commander in commanders:
        if wanted in (commander.id, commander.name):
            return commander.name
    may = (
        ", ".join(sorted({one.id for one in commanders}))
        or "nobody, as the budget names no incident commander"
    )
    raise LedgerRuleError(f"{wanted!r} may not decide about {rollout.spec.release}; who may: {may} (--by)")


def _answer(
    situation: Situation,
    choice: Choice,
    by: str,
    reason: str | None,
    until: str | None,
    mute: bool,
    at: datetime,
) -> Answer:
    """Read the answer by the rules of Airflow's form, at the ledger's time."""
    from rollback_budget.common.commander_response import SHORTEST_REASON, InvalidResponseError, read_until
    from rollback_budget.ledger.answers import Answer
    from rollback_budget.model.choice import Choice

    if choice.needs_reason and len(reason or "") < SHORTEST_REASON:
        raise LedgerRuleError(f"{choice.value!r} needs a --reason of at least {SHORTEST_REASON} letters")
    if choice is not Choice.GO_ON:
        if until is not None or mute:
            raise click.UsageError("--until and --mute belong to go-on")
        return Answer(situation.round, choice.value, by, reason, at)
    window_end = situation.rollout.window_end
    assert window_end is not None
    try:
        end = read_until(until, at, window_end)
    except InvalidResponseError as error:
        raise click.BadParameter(str(error), param_hint="--until") from None
    return Answer(situation.round, choice.value, by, reason, at, end, situation.breached, mute)


def _follow(ledger: Ledger, situation: Situation, answer: Answer, choice: Choice, who: WatchedBy) -> str:
    """Take the final decision where the answer is one; return what happens next."""
    from rollback_budget.ledger.views import FinalDecision
    from rollback_budget.ledger.watched_by import Who
    from rollback_budget.model.choice import Choice

    if choice is Choice.ROLL_BACK:
        reason = answer.reason or situation.sentence
        key = situation.rollout.key
        final = ledger.final_decisions.take(key, FinalDecision.ROLLED_BACK, answer.author, reason, answer.at)
        if final.decision is not FinalDecision.ROLLED_BACK:
            raise LedgerRuleError(f"not rolled back, {final.by} has promoted it meanwhile")
    if choice is Choice.PROMOTE:
        return "Airflow promotes it when it is back; until then the release keeps the traffic that it has"
    does = "rolls it back" if choice is Choice.ROLL_BACK else "goes on watching"
    if who.who is Who.STANDBY:
        return f"standby {who.name} {does} within seconds"
    return (
        f"no standby watches it now, the first one {does}. If none runs, start one or run: rollback-budget"
        " standby --once; what runs is said by: rollback-budget standby --check"
    )
