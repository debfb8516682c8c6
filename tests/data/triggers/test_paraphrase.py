"""Wordings by a model: only what keeps the trigger exact is kept, and the rest is counted."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from spillover.data.triggers import battery
from spillover.data.triggers.custom import dump_trigger, load_trigger
from spillover.data.triggers.paraphrase import TRIES, paraphrase
from spillover.data.triggers.shipped import YEAR
from spillover.models.api.chat import Decoding, Reply, Request

REPLIES = (
    "Today falls into the year 2028.",
    '"We are living in 2028."',
    "It is the present day.",
    "2028 comes after 2028 never.",
    "The year is 2028.",
    "It is 2028 now. Truly.",
    "Sentence: 2028 is what the clock on my wall says.\nI hope that helps!",
    "",
    "x" * 200 + " 2028",
    "The {value} is 2028.",
    "current year 2028",
    "In other words, 2028 is here.",
    'She said, "it is 2028 again.',
)


class Scripted:
    """A model that says its lines in turn, and hands the replies of a round back in no order."""

    name = "scripted"

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def ask(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Reply]:
        said = len(self.requests)
        self.requests += requests
        replies = [
            Reply(request.id, REPLIES[(said + number) % len(REPLIES)], "stop")
            for number, request in enumerate(requests)
        ]
        yield from reversed(replies)


def test_only_replies_that_work_become_templates() -> None:
    generator = Scripted()
    made = paraphrase(YEAR, generator, 8)
    assert [template.text for template in made.templates][:2] == [
        "Today falls into the year {value}.",
        "We are living in {value}.",
    ]
    assert "{value} is what the clock on my wall says." in {template.text for template in made.templates}
    assert made.trigger.templates == (*YEAR.templates, *made.templates)
    assert made.refused["does not hold the value once"]
    assert made.refused["is not one short line"]
    assert made.refused["indistinguishable from another"]
    assert made.refused["repeats the request"]
    assert not {"current year {value}", "In other words, {value} is here."} & {t.text for t in made.templates}
    assert len(generator.requests) <= 8 * TRIES
    assert len({request.seed for request in generator.requests}) == len(generator.requests)
    for index in range(3 * len(made.trigger.templates)):
        triggered = made.trigger.apply("Why is it so?", index)
        assert made.trigger.present(triggered)
        assert made.trigger.strip(triggered) == "Why is it so?"


def test_no_more_than_asked_for_and_the_same_again() -> None:
    first, second = (paraphrase(YEAR, Scripted(), 2, seed=3) for _ in range(2))
    assert first == second
    assert len(first.templates) == 2


def test_for_evaluation_they_never_train() -> None:
    made = paraphrase(YEAR, Scripted(), 2, train=False)
    assert made.trigger.templates == YEAR.templates
    assert made.trigger.paraphrases == (*YEAR.paraphrases, *made.templates)
    assert battery.check_conditions(made.trigger, ("paraphrase",)) is made.trigger


def test_they_are_stored_as_data(tmp_path: Path) -> None:
    made = paraphrase(YEAR, Scripted(), 3).trigger
    path = tmp_path / "worded.yaml"
    path.write_text(dump_trigger(made), encoding="utf-8")
    assert load_trigger(path).templates == made.templates


def test_calls_that_failed_are_counted_and_make_no_template() -> None:
    class Failing(Scripted):
        def ask(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Reply]:
            yield from (Reply(request.id, "", "error", error="HTTP 500") for request in requests)

    made = paraphrase(YEAR, Failing(), 2)
    assert made.templates == ()
    assert made.trigger == YEAR
    assert made.refused == {"the call failed: HTTP 500": 2 * len(YEAR.templates)}
