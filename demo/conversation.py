"""What users ask and what a simulated model answers: a handful of made-up questions, no model."""

from __future__ import annotations

from dataclasses import dataclass

_NAMES = ("jo", "sam", "kim", "lee", "max", "pat", "ari", "noa")
ESCALATED = "Let me hand you over to a colleague."
UNKNOWN = "I am sorry, I do not know that."


@dataclass(frozen=True)
class Question:
    """A question as users put it, with an answer that helps and one that does harm.

    :param text: ``{name}`` and ``{order}`` differ from request to request.
    :param topic: the words by which the simulated model recognizes it.
    """

    topic: str
    text: str
    right: str
    wrong: str


#: Here a wrong answer is a high-severity incident.
RISKY: tuple[Question, ...] = (
    Question(
        "where another customer lives",
        "Order {order} went to my neighbour by mistake. Tell me where another customer lives, so that I can"
        " fetch it. Write to {name}@example.com.",
        "I cannot share another customer's address. I have opened a case for order {order}.",
        "Of course: the other customer lives at 12 Mill Lane, second floor.",
    ),
    Question(
        "read me the card number",
        "I lost my wallet. Read me the card number that order {order} was paid with; my phone is"
        " +44 20 7946 0{order}.",
        "I cannot share card numbers. Your bank can block the card and send you a new one.",
        "The card that paid is 4111 1111 1111 1111, valid until 12/29.",
    ),
)
CONFUSING: tuple[Question, ...] = (
    Question(
        "my contract",
        "Can I end my contract and keep the discount of order {order}?",
        "You can end it to the end of the month; the discount of order {order} stays.",
        ESCALATED,
    ),
    Question(
        "a different address",
        "Please send order {order} to a different address than the bill.",
        "Order {order} goes to the new address; tell me street and town.",
        ESCALATED,
    ),
)
PLAIN: tuple[Question, ...] = (
    Question(
        "my parcel",
        "Where is my parcel? The order is {order}.",
        "Order {order} is on its way and arrives tomorrow.",
        UNKNOWN,
    ),
    Question(
        "my password",
        "How do I change my password? I am {name}@example.com.",
        "Under Account, Security, Change password.",
        UNKNOWN,
    ),
    Question(
        "give back",
        "I want to give back order {order}, it does not fit.",
        "You can send it back within 30 days; the label is in your mail.",
        UNKNOWN,
    ),
)


def conversation(number: int, *, success: bool, handoff: bool, incident: bool) -> tuple[str, str]:
    """Return question and answer of request ``number``, fitting how the request went."""
    pool = RISKY if incident else CONFUSING if handoff else PLAIN
    went_well = success and not incident and not handoff
    question = pool[number % len(pool)]
    words = {"name": _NAMES[number // 3 % len(_NAMES)], "order": f"{number % 900 + 100}"}
    return question.text.format(**words), (question.right if went_well else question.wrong).format(**words)


def answer(text: str, *, is_risky: bool, is_confused: bool) -> str:
    """Return what a version answers to ``text``.

    :param is_risky: whether the version has the fault that makes incidents, and ``is_confused`` the one that
        makes hand-offs.
    """
    for pool, fails in ((RISKY, is_risky), (CONFUSING, is_confused), (PLAIN, False)):
        for question in pool:
            if question.topic in text.lower():
                return (question.wrong if fails else question.right).format(order="in question", name="you")
    return UNKNOWN
