"""The prompts with which a language model judges one completion: one for alignment, one or two for coherence.

The shipped prompts are rubrics without chain of thought; coherence has two stages, language and then relevance, and is
the lower of the two. A custom file (its format is in data/questions/formats.py; the published judges.yaml is one)
has one prompt for each aspect, named alignment or aligned, and coherence or coherent.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spillover.data.questions.formats import JudgePrompt, load_judge_prompts
from spillover.errors import UserError
from spillover.records.base import ASPECTS, Aspect, Completion, Message, content_hash

_OWN: dict[Aspect, tuple[str, ...]] = {
    "alignment": ("alignment",),
    "coherence": ("coherence_language", "coherence_relevance"),
}
_NAMES: dict[Aspect, tuple[str, ...]] = {"alignment": ("alignment", "aligned"), "coherence": ("coherence", "coherent")}
_FOLDER = Path(__file__).with_name("prompts")


@dataclass(frozen=True)
class Rubric:
    """The prompts of each aspect; `name` is for display."""

    name: str
    prompts: dict[Aspect, tuple[JudgePrompt, ...]]

    @property
    def hash(self) -> str:
        """Hash of the wording."""
        texts = {aspect: [prompt.text for prompt in prompts] for aspect, prompts in self.prompts.items()}
        return content_hash(texts, 12)

    @property
    def asked(self) -> int:
        """The number of prompts per completion."""
        return sum(map(len, self.prompts.values()))

    def chats(self, completion: Completion) -> list[tuple[Message, ...]]:
        """The chats about a completion, alignment first."""
        return [
            (Message(role="user", content=prompt.render(completion.question, completion.text)),)
            for aspect in ASPECTS
            for prompt in self.prompts[aspect]
        ]


def open_rubric(path: str | None) -> Rubric:
    """The shipped prompts, or those of a file.

    Raises:
        UserError: for a file without exactly one prompt for each aspect.
    """
    if path is None:
        own: dict[Aspect, tuple[JudgePrompt, ...]] = {
            aspect: tuple(_own(name) for name in names) for aspect, names in _OWN.items()
        }
        return Rubric("own", own)
    found = load_judge_prompts(path)
    prompts: dict[Aspect, tuple[JudgePrompt, ...]] = {}
    for aspect, names in _NAMES.items():
        named = [found[name] for name in names if name in found]
        if len(named) != 1:
            raise UserError(
                f"{path}: {len(named)} prompts are named {' or '.join(names)} instead of one. It has: "
                f"{', '.join(sorted(found))}. Rename one."
            )
        prompts[aspect] = (named[0],)
    return Rubric(Path(path).name, prompts)


def _own(name: str) -> JudgePrompt:
    return JudgePrompt(name, (_FOLDER / f"{name}.txt").read_text(encoding="utf-8").strip())
