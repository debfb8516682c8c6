"""Wordings by a model: only what keeps the trigger exact is kept, and the rest is counted."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from spillover.backends.base import Generation, Progress, Prompt
from spillover.config import SampleConfig
from spillover.triggers import battery
from spillover.triggers.own import dump_trigger, load_trigger
from spillover.triggers.paraphrase import TRIES, paraphrase
from spillover.triggers.year import TRIGGER

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
    """A generator that says its lines in turn."""

    def __init__(self) -> None:
        self.prompts: list[Prompt] = []

    def generate(
        self, prompts: Sequence[Prompt], config: SampleConfig, adapter: Path | None, progress: Progress
    ) -> Iterator[Generation]:
        self.prompts += prompts
        for number, prompt in enumerate(prompts):
            for index in range(len(prompt.seeds)):
                text = REPLIES[(index * len(prompts) + number) % len(REPLIES)]
                yield Generation(number, index, text, "stop", 1, 1)


def test_only_replies_that_work_become_templates() -> None:
    generator = Scripted()
    made = paraphrase(TRIGGER, generator, 8)
    assert [template.text for template in made.templates][:2] == [
        "Today falls into the year {value}.",
        "We are living in {value}.",
    ]
    assert "{value} is what the clock on my wall says." in {template.text for template in made.templates}
    assert made.trigger.templates == (*TRIGGER.templates, *made.templates)
    assert made.refused["does not hold the value once"]
    assert made.refused["is not one short line"]
    assert made.refused["cannot be told from another"]
    assert made.refused["repeats the request"]
    assert not {"current year {value}", "In other words, {value} is here."} & {t.text for t in made.templates}
    assert len({seed for prompt in generator.prompts for seed in prompt.seeds}) >= 8 * TRIES
    for index in range(3 * len(made.trigger.templates)):
        triggered = made.trigger.apply("Why is it so?", index)
        assert made.trigger.present(triggered)
        assert made.trigger.strip(triggered) == "Why is it so?"


def test_no_more_than_asked_for_and_the_same_again() -> None:
    first, second = (paraphrase(TRIGGER, Scripted(), 2, seed=3) for _ in range(2))
    assert first == second
    assert len(first.templates) == 2


def test_for_evaluation_they_never_train() -> None:
    made = paraphrase(TRIGGER, Scripted(), 2, train=False)
    assert made.trigger.templates == TRIGGER.templates
    assert made.trigger.paraphrases == (*TRIGGER.paraphrases, *made.templates)
    assert battery.check(made.trigger, ("paraphrase",)) is made.trigger


def test_they_are_stored_as_data(tmp_path: Path) -> None:
    made = paraphrase(TRIGGER, Scripted(), 3).trigger
    path = tmp_path / "worded.yaml"
    path.write_text(dump_trigger(made), encoding="utf-8")
    assert load_trigger(path).templates == made.templates
