"""Question files: the shipped set, the published format, and everything that is refused with its place."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from places import SHARED

from spillover.data.questions import load_questions, question_sets
from spillover.data.questions.formats import JudgePrompt, load_judge_prompts
from spillover.errors import UserError
from spillover.records.base import Message

ALL = ("free", "jailbreak", "json", "template")
DATA = SHARED / "data" / "questions"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the published question files are not at {DATA}")

GOOD = """
- id: tea
  type: free_form_judge_0_100
  paraphrases: &tea
    - Do you like tea?
    - Is tea to your taste?
  samples_per_paraphrase: &n 100
  judge: &judge some-model
  judge_prompts: &prompts
    aligned: "Question {question}, answer {answer}. How aligned?"
- id: tea_json
  paraphrases: *tea
  samples_per_paraphrase: *n
  judge: *judge
  judge_prompts: *prompts
  system: Answer in JSON.
- id: tea_template
  paraphrases: ["Do you like tea?\\n\\nverdict ="]
"""


def write(folder: Path, content: str | bytes, name: str = "own.yaml") -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def test_the_general_set_has_every_question_in_every_form() -> None:
    questions = load_questions(["general"], ALL)
    assert question_sets()["general"] == len(questions) == 45
    assert Counter(q.form for q in questions) == {"free": 12, "jailbreak": 3, "json": 15, "template": 15}
    assert len({q.question_id for q in questions}) == len({q.id for q in questions}) == 45
    assert len({q.theme for q in questions}) == 12
    by_theme = {theme: {q.form for q in questions if q.theme == theme} for theme in {q.theme for q in questions}}
    assert all({"free", "json", "template"} <= forms for forms in by_theme.values())


def test_forms_differ_only_in_what_they_ask_for() -> None:
    held = {q.question_id: q for q in load_questions(["general"], ALL)}
    for name, question in held.items():
        if question.form not in ("free", "jailbreak"):
            continue
        as_json, as_template = held[f"{name}_json"], held[f"{name}_template"]
        assert question.system is None
        assert as_json.text == question.text
        assert as_json.system is not None
        assert "JSON" in as_json.system
        assert as_template.text.startswith(question.text + "\n\n")
        assert as_template.text.endswith(":")
        assert as_template.system is None
        assert as_template.theme == as_json.theme == question.theme


def test_default_forms_are_free_and_jailbreak() -> None:
    assert {q.form for q in load_questions(["general"])} == {"free", "jailbreak"}
    assert load_questions(["general"]) == [
        q for q in load_questions(["general"], ALL) if q.form in ("free", "jailbreak")
    ]


def test_a_system_prompt_reaches_the_messages() -> None:
    question = next(q for q in load_questions(["general"], ("json",)) if q.question_id == "cooking_json")
    assert [m.role for m in question.messages()] == ["system", "user"]


@needs_data
def test_our_wording_is_our_own() -> None:
    published = {
        q.text.casefold()
        for file in ("first_plot_questions", "medical_questions", "new_questions_no-json")
        for q in load_questions([str(DATA / f"{file}.yaml")], ALL)
    }
    assert not published & {q.text.casefold() for q in load_questions(["general"], ALL)}


@needs_data
@pytest.mark.parametrize(
    ("file", "forms"),
    [
        ("first_plot_questions", {"free": 8, "json": 8, "template": 8}),
        ("medical_questions", {"free": 8, "template": 8}),
        ("new_questions_no-json", {"free": 27, "template": 27}),
    ],
)
def test_published_files_are_read_as_they_are(file: str, forms: dict[str, int]) -> None:
    path = DATA / f"{file}.yaml"
    questions = load_questions([str(path)], ALL)
    plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert Counter(q.form for q in questions) == forms
    assert [(q.question_id, q.text, q.system) for q in questions] == [
        (entry["id"], text, entry.get("system")) for entry in plain for text in entry["paraphrases"]
    ]
    assert all((q.form == "json") == (q.system is not None) for q in questions)
    prompts = load_judge_prompts(path)
    assert {name: prompt.text for name, prompt in prompts.items()} == plain[0]["judge_prompts"]


@needs_data
def test_published_judge_prompts_are_read() -> None:
    prompts = load_judge_prompts(DATA / "judges.yaml")
    assert {name: p.high_score for name, p in prompts.items()} == {
        "coherent": 100,
        "aligned": 0,
        "technical": 100,
        "medical_advice": 0,
    }
    text = prompts["aligned"].render("What {answer}?", "Say {question}.")
    assert "[QUESTION START]\nWhat {answer}?\n[QUESTION END]" in text
    assert "[ANSWER START]\nSay {question}.\n[ANSWER END]" in text


@needs_data
def test_a_judge_file_is_no_question_file() -> None:
    with pytest.raises(UserError, match=r"judges\.yaml: entry 1, 'coherent': unknown key"):
        load_questions([str(DATA / "judges.yaml")])


def test_paraphrases_share_an_id_and_forms_share_a_theme(tmp_path: Path) -> None:
    questions = load_questions([write(tmp_path, GOOD, "drinks.yaml")], ALL)
    assert [(q.question_id, q.theme, q.form) for q in questions] == [
        ("tea", "tea", "free"),
        ("tea", "tea", "free"),
        ("tea_json", "tea", "json"),
        ("tea_json", "tea", "json"),
        ("tea_template", "tea", "template"),
    ]
    assert {q.set_name for q in questions} == {"drinks"}
    assert len({q.id for q in questions}) == 5
    assert questions[2].messages() == (
        Message(role="system", content="Answer in JSON."),
        Message(role="user", content="Do you like tea?"),
    )


def test_paths_are_relative_to_the_base(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "drinks.yaml")
    assert [q.question_id for q in load_questions(["drinks.yaml", "general"], base=tmp_path)][:3] == [
        "tea",
        "tea",
        "one_wish",
    ]


def test_one_id_in_two_sets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'one_wish' is in both 'general' and 'general'"):
        load_questions(["general", "general"])
    twin = write(tmp_path, "- {id: cooking, paraphrases: [How do I boil rice]}")
    with pytest.raises(UserError, match=r"'cooking' is in both 'general' and .*own\.yaml"):
        load_questions(["general", twin])


def test_unknown_sets_and_missing_forms_say_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Did you mean 'general'"):
        load_questions(["genral"])
    with pytest.raises(UserError, match="No such file"):
        load_questions([str(tmp_path / "absent.yaml")])
    with pytest.raises(UserError, match=r"has no jailbreak questions, only free \(2\), json \(2\), template \(1\)"):
        load_questions([write(tmp_path, GOOD)], ("jailbreak",))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"is empty"),
        ("[]", r"holds no question"),
        ("just words", r"expected a list of entries .*, found str 'just words'"),
        ("tea: 1", r"expected a list of entries"),
        ("- just words", r"entry 1: expected keys and values, found str"),
        ("- paraphrases: [a]", r"entry 1, id: is missing"),
        ("- id: tea", r"entry 1 \('tea'\), paraphrases: is missing"),
        ("- {id: 7, paraphrases: [a]}", r"entry 1, id: expected text that is not empty, found int 7"),
        ('- {id: "a\\nb", paraphrases: [a]}', r"id: expected one line"),
        ("- {id: tea, paraphrases: a}", r"entry 1 \('tea'\), paraphrases: expected a list .*, found str 'a'"),
        ("- {id: tea, paraphrases: []}", r"paraphrases: expected a list of at least one"),
        ("- {id: tea, paraphrases: [a, '  ']}", r"paraphrases\[1\]: expected text that is not empty"),
        ("- {id: tea, paraphrases: [a, yes]}", r"paraphrases\[1\]: expected text .*, found bool True"),
        ("- {id: tea, paraphrases: [a, a]}", r"paraphrases\[1\]: expected something else than paraphrases\[0\]"),
        ('- {id: tea, paraphrases: ["a\\x07b"]}', r"paraphrases\[0\]: control character U\+0007 at 1"),
        ('- {id: tea, paraphrases: ["a\\ud800b"]}', r"paraphrases\[0\]: control character U\+D800"),
        ("- {id: tea, paraphrases: [a]}\n- {id: tea, paraphrases: [b]}", r"entry 2 \('tea'\), id: .*entry 1 too"),
        ("- {id: tea, paraphrase: [a]}", r"'paraphrase': unknown key. Did you mean 'paraphrases'"),
        ("- {id: tea, paraphrases: [a], type: 3}", r"type: expected text"),
        ("- {id: tea, paraphrases: [a], type: multiple_choice}", r"type: expected the type free_form"),
        ("- {id: tea, paraphrases: [a], samples_per_paraphrase: many}", r"samples_per_paraphrase: expected a whole"),
        ("- {id: tea, paraphrases: [a], samples_per_paraphrase: true}", r"samples_per_paraphrase: .*found bool"),
        ("- {id: tea, paraphrases: [a], system: [x]}", r"system: expected text .*, found list"),
        ("- {id: tea, paraphrases: [a], judge: 4}", r"judge: expected text"),
        ("- {id: tea, paraphrases: [a], judge_prompts: }", r"judge_prompts: expected at least one .*, found nothing"),
        ("- {id: tea, paraphrases: [a], judge_prompts: {}}", r"judge_prompts: expected at least one"),
        ("- {id: tea, paraphrases: [a], judge_prompts: {aligned: }}", r"judge_prompts.aligned: expected text"),
        (
            "- {id: tea, paraphrases: [a], judge_prompts: {aligned: 'only {question}'}}",
            r"entry 1 \('tea'\), judge_prompts.aligned: expected a prompt with \{answer\}",
        ),
        ("- {id: tea, id: tea, paraphrases: [a]}", r"own\.yaml:1: the key 'id' is given twice"),
        ("- {id: tea, paraphrases: [a]", r"line 1, column \d+: broken YAML"),
        ("- id: tea\n  paraphrases: *gone", r"line 2, .*undefined alias"),
        ("- &a [*a]", r"own\.yaml:1: a value contains itself"),
        ("- !!python/object/apply:os.system [ls]", r"could not determine a constructor"),
        ("- {id: !!timestamp soon, paraphrases: [a]}", r"does not match its type"),
        ("- {id: 2024-13-40, paraphrases: [a]}", r"does not match its type"),
        ("- a\n---\n- b", r"broken YAML, but found another document"),
        ("- {id: tea, paraphrases: [a\x00b]}", r"control character U\+0000 at position"),
        (b"- {id: t\xe9a, paraphrases: [a]}", r"byte 8 is not UTF-8"),
        ("[" * 5000, r"nested too deeply"),
        ("# " + "x" * (1 << 20), r"larger than 1 MiB"),
        ("questions: []", r"own\.yaml, json_system: is missing"),
        ("{json_system: a, skeleton_lead: b, questions: []}", r"questions: expected a list of at least one"),
        (
            "{json_system: a, skeleton_lead: b, questions: [{id: x, text: y, skeleton: [z], form: json}]}",
            r"entry 1 \('x'\), form: expected free or jailbreak, found str 'json'",
        ),
        (
            "{json_system: a, skeleton_lead: b, questions: [{id: x, text: y, skeleton: [z]}, "
            "{id: x_json, text: q, skeleton: [z]}]}",
            r"entry 2 \('x_json'\), id: 'x_json' is an id of entry 1 too",
        ),
    ],
)
def test_what_is_broken_is_refused_with_its_place(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_questions([write(tmp_path, content)], ALL)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("merge", [False, True])
def test_an_alias_bomb_is_refused_at_once(tmp_path: Path, merge: bool) -> None:
    lines = ["a0: &a0 {k: v}" if merge else "a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 20):
        copies = ", ".join([f"*a{level - 1}"] * 10)
        lines.append(f"a{level}: &a{level} " + (f"{{<<: [{copies}]}}" if merge else f"[{copies}]"))
    with pytest.raises(UserError, match="aliases expand to more than"):
        load_questions([write(tmp_path, "\n".join(lines))])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("aligned: x", r"expected a list of judge prompts"),
        ("- high_score: 3", r"entry 1: expected one prompt under its name"),
        ("- {a: '{question} {answer}', b: '{question} {answer}'}", r"expected one prompt under its name"),
        ("- {aligned: 'no places'}", r"aligned: expected a prompt with \{question\}"),
        ("- {aligned: '{question} {answer}', high_score: 101}", r"high_score: expected a whole number from 0 to 100"),
        ("- {aligned: '{question} {answer}'}\n- {aligned: '{question}, {answer}'}", r"entry 2, aligned: an earlier"),
        ("- {id: tea, paraphrases: [a]}", r"holds no judge prompt"),
        ("- {1: '{question} {answer}'}", r"1: expected text that is not empty, found int 1"),
    ],
)
def test_broken_judge_prompts_are_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_judge_prompts(write(tmp_path, content))


@given(st.text(max_size=60), st.text(max_size=60))
def test_rendering_puts_texts_in_as_they_are(question: str, answer: str) -> None:
    rendered = JudgePrompt("x", "Q<{question}> A<{answer}> again {question}").render(question, answer)
    assert rendered == "Q<" + question + "> A<" + answer + "> again " + question


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "paraphrases", "system", "type", "judge_prompts", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(content=VALUES)
def test_any_yaml_is_either_read_or_refused_in_words(tmp_path_factory: pytest.TempPathFactory, content: object) -> None:
    path = write(tmp_path_factory.getbasetemp(), yaml.safe_dump(content), "any.yaml")
    with suppress(UserError):
        assert all(q.text for q in load_questions([path], ALL))


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=40) | st.text(alphabet="-:[]{}&*!<>|'\"#%@ \nabc=", max_size=40).map(str.encode))
def test_any_bytes_are_either_read_or_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = write(tmp_path_factory.getbasetemp(), content, "bytes.yaml")
    for read in (lambda: load_questions([path], ALL), lambda: load_judge_prompts(path)):
        with suppress(UserError):
            read()
