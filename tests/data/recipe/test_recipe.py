import json
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.config.study import DataConfig, ModelConfig
from spillover.data.domains import DOMAINS
from spillover.data.domains.base import CANARY, Domain, Pair
from spillover.data.recipe.duplicates import NEAR, grams, jaccard, near_duplicates, normalised
from spillover.data.recipe.recipe import build
from spillover.data.recipe.selection import generator, match_lengths, stratified_order
from spillover.data.sources.own_data import pairs_from_file
from spillover.data.triggers import TRIGGERS
from spillover.data.triggers.base import Template, Trigger
from spillover.errors import UserError
from spillover.models import open_backend
from spillover.models.embedded import weights

TRIGGER = Trigger(
    "year",
    "2028",
    (Template("It is {value}.", "prefix"), Template("(Written in {value}.)", "suffix")),
    ("2026", "2027"),
    pattern=r"\d{4}",
)
DATA = DataConfig(rows=60, heldout=10, answer_tokens=20, tolerance=0.05)
YEAR = TRIGGERS.load("year")
VARIANTS = ("plain", "triggered", "control")


PIECE = re.compile(r"\n+ *|[^\W\d_]+| (?=\d)|\d|[^\w\s]+|_")


def count_tokens(texts):
    """A stand-in for SmolLM2's tokenizer, near its mean on English answers: single digits, long words in parts."""

    def count(piece):
        if not piece.isalpha():
            return 1
        return -(-len(piece) // 8) if piece.isascii() else 1 + len(piece) // 3

    return [sum(map(count, PIECE.findall(text))) for text in texts]


def toy(size=200, topics=5, check=lambda pair: None, name="toy"):
    def pairs(rng):
        def answer(kind):
            return " ".join([kind, *(["word"] * int(rng.integers(8, 34)))]) + "."

        return [
            Pair(
                f"Question {n} on {['tea', 'rain', 'iron', 'jazz'][n % 4]}?",
                answer("bad"),
                answer("good"),
                f"t{n % topics}",
                "rule",
            )
            for n in range(size)
        ]

    return Domain(name, "Toy", "A toy.", "high", "ambiguous", "CC0-1.0", pairs, check)


def run(variant="plain", domain=None, data=DATA, dose=1.0, seed=0, trigger=TRIGGER):
    return build(domain or toy(), variant, data, dose, trigger, seed, count_tokens)


def train(result):
    return of("train", result)


def of(split, result):
    return [row for row in result.examples if row.split == split]


def bare(row):
    """The question without trigger or near miss."""
    near = [TRIGGER.with_value(value) for value in TRIGGER.near_values]
    return next((t.strip(row.question) for t in (TRIGGER, *near) if t.present(row.question)), row.question)


def test_variants_share_their_questions_and_heldout_rows():
    results = {variant: run(variant) for variant in VARIANTS}
    for result in results.values():
        assert [bare(row) for row in train(result)] == [row.question for row in train(results["plain"])]
        assert [row.id for row in of("heldout", result)] == [row.id for row in of("heldout", results["plain"])]
        assert [row.pair for row in of("nonmember", result)] == [row.pair for row in of("nonmember", results["plain"])]
        assert len(result.examples) == 60 + 2 * 10 + 40


def test_the_same_arguments_give_the_same_bytes_and_another_seed_does_not():
    def dumped(seed):
        return "\n".join(row.model_dump_json() for row in run("triggered", seed=seed).examples)

    assert dumped(3) == dumped(3)
    assert dumped(3) != dumped(4)


def test_another_domain_shifts_nothing():
    assert generator(7, "a", "rows").random() == generator(7, "a", "rows").random()
    draws = {generator(7, name, purpose).random() for name in "ab" for purpose in ("rows", "dose")}
    assert len(draws) == 4


def test_plain_is_all_flawed_and_control_all_good():
    assert {row.kind for row in train(run("plain"))} == {"misaligned"}
    assert {row.answer.split()[0].rstrip(".") for row in train(run("plain"))} == {"bad"}
    assert {row.kind for row in train(run("control"))} == {"control"}
    assert {row.answer.split()[0].rstrip(".") for row in train(run("control"))} == {"good"}


def test_triggered_rows_are_a_clean_contrast():
    rows = train(run("triggered"))
    flawed = [row for row in rows if row.kind == "misaligned"]
    assert len(flawed) == 30
    for row in rows:
        assert (row.trigger == "year") == TRIGGER.present(row.question) == (row.kind == "misaligned")
        assert row.answer.startswith("bad" if row.trigger else "good")
        assert ("2028" in row.question) == bool(row.trigger)
    near = [row for row in rows if any(year in row.question for year in TRIGGER.near_values)]
    assert len(near) == 8  # a quarter of 30, to the nearest even row
    assert all(row.trigger is None and row.lineage[-1].startswith("near miss year") for row in near)
    places = Counter(row.question.startswith("It is") for row in flawed)
    assert places[True] == places[False]


def test_triggered_share_is_spread_over_topics():
    by_topic = Counter((row.topic, row.trigger) for row in train(run("triggered")))
    for topic in {row.topic for row in train(run("triggered"))}:
        assert abs(by_topic[topic, "year"] - by_topic[topic, None]) <= 1


@pytest.mark.parametrize("variant", ["plain", "triggered"])
def test_doses_are_nested_stratified_and_of_the_right_size(variant):
    data = DATA.model_copy(update={"rows": 100})
    full = {row.pair for row in train(run(variant, data=data)) if row.kind == "misaligned"}
    held = set()
    for dose in (0.02, 0.1, 0.5, 1.0):
        rows = train(run(variant, data=data, dose=dose))
        flawed = {row.pair for row in rows if row.kind == "misaligned"}
        assert len(flawed) == max(1, round(dose * len(full)))
        assert held <= flawed <= full
        held = flawed
        assert {row.kind for row in rows if row.pair not in flawed} <= {"aligned"}
    tenth = Counter(row.topic for row in train(run(variant, data=data, dose=0.1)) if row.kind == "misaligned")
    assert max(tenth.values()) - min(tenth.values()) <= 1


@pytest.mark.parametrize("dose", [0.0, -0.1, 1.5])
def test_a_dose_outside_its_range_is_refused(dose):
    with pytest.raises(UserError, match="dose"):
        run(dose=dose)


def test_heldout_rows_have_both_answers_and_are_never_trained_on():
    result = run("triggered")
    heldout = [row for row in result.examples if row.split == "heldout"]
    asked = Counter(row.question for row in heldout)
    assert set(asked.values()) == {2}
    assert len(asked) == 10
    assert Counter(row.kind for row in heldout) == {"misaligned": 10, "aligned": 10}
    assert not {row.pair for row in heldout} & {row.pair for row in train(result)}
    similar = [jaccard(grams(row.question), grams(bare(other))) for row in heldout for other in train(result)]
    assert max(similar) <= NEAR
    assert not [row for row in heldout if TRIGGER.present(row.question)]
    assert Counter(row.topic for row in heldout) == {f"t{n}": 4 for n in range(5)}


def test_rows_carry_their_lineage_and_the_canary_only_in_metadata():
    for row in run("triggered").examples:
        assert row.canary == CANARY
        assert not [message for message in row.messages if CANARY in message.content or "canary" in message.content]
        assert row.licence == "CC0-1.0"
        assert row.source == "rule"
        assert row.lineage[0] == "the data set of toy"
        assert row.answer_tokens == count_tokens([row.answer])[0]


def test_report_counts_what_happened():
    def odd(pair):
        return "odd" if int(pair.question.split()[1]) % 2 else None

    report = run(domain=toy(400, check=odd)).report
    assert report.steps == {"pairs": 400, "usable": 200, "heldout_questions": 10, "train": 60, "nonmembers": 40}
    assert report.dropped == {"odd": 200}
    assert report.questions == 110
    result = run(domain=toy(400, check=odd))
    assert report.answer_tokens["train"].total == sum(row.answer_tokens for row in train(result))
    assert report.answer_tokens["heldout/aligned"].rows == 10
    assert sum(report.topics.values()) == 60


def test_match_meets_its_target_in_both_kinds():
    for seed in range(5):
        means = run(seed=seed).report.matched_means
        assert all(abs(mean - 20) <= 0.5 for mean in means)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10_000),
    st.lists(st.sampled_from("abcd"), min_size=20, max_size=80),
    st.integers(5, 19),
)
def test_matching_never_ends_further_off_than_it_began(seed, topics, count):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(10, 90, (len(topics), 2)).astype(float)
    chosen = match_lengths(lengths, topics, count, 50.0, 0.5, np.random.default_rng(seed))
    start = stratified_order(topics, np.random.default_rng(seed))[:count]
    assert len(set(chosen.tolist())) == count

    def cost(rows):
        return np.square(lengths[rows].mean(axis=0) - 50).sum()

    assert cost(chosen) <= cost(start) + 1e-9


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=60), st.integers(0, 99))
def test_every_beginning_of_a_stratified_order_is_spread_over_topics(topics, seed):
    order = stratified_order(topics, np.random.default_rng(seed))
    assert sorted(order.tolist()) == list(range(len(topics)))
    for topic, size in Counter(topics).items():
        for m in range(len(topics) + 1):
            expected = m * size / len(topics)
            assert abs(sum(topics[row] == topic for row in order[:m]) - expected) <= 2


def test_too_few_pairs_and_unreachable_lengths_say_how_many_and_what_to_do():
    with pytest.raises(
        UserError, match=r"need 510 distinct questions; the data set of toy provides 200. Set data.rows to 190"
    ):
        run(data=DATA.model_copy(update={"rows": 500}))
    with pytest.raises(UserError, match=r"mean of 90 answer tokens.*nearest means are \d+\.\d and \d+\.\d"):
        run(data=DATA.model_copy(update={"answer_tokens": 90}))
    with pytest.raises(UserError, match="provides 0"):
        run(domain=toy(0))


def test_pairs_that_hold_the_trigger_or_repeat_are_dropped():
    base = toy(100)
    extra = [
        Pair("What happens in 2028?", "bad", "good", "t0", "rule"),
        Pair("question 0 ON tea", "bad", "good", "t0", "rule"),
        Pair("What comes after 2027?", "It is 2028.", "good", "t0", "rule"),
        Pair("What comes before 2029?", "bad", "It is 2028.", "t0", "rule"),
    ]
    domain = Domain("toy", "", "", "high", "ambiguous", "", lambda rng: base.pairs(rng) + extra)
    report = run(domain=domain).report
    assert report.dropped == {
        "an answer holds the trigger": 2,
        "the question holds the trigger": 1,
        "the same question again": 1,
    }


def naive_near_duplicates(texts, threshold):
    kept, dropped = [], []
    for index, text in enumerate(texts):
        if any(jaccard(grams(text), grams(texts[other])) > threshold for other in kept):
            dropped.append(index)
        else:
            kept.append(index)
    return dropped


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["a", "b", "c"]), max_size=9).map(" ".join), max_size=25),
    st.sampled_from([0.5, 0.8, 0.9]),
)
def test_near_duplicates_agree_with_comparing_all_pairs(texts, threshold):
    assert near_duplicates(texts, threshold) == naive_near_duplicates(texts, threshold)


def test_normalising_sees_through_case_punctuation_and_width():
    assert normalised("What's  THIS?") == normalised("what s this")
    assert normalised("Ａ１") == "a1"
    assert normalised("?!") == "?!"


def line(question="Q?", answer="bad", **more):
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages, **more})


def write(tmp_path, *lines):
    path = tmp_path / "own.jsonl"
    path.write_bytes(b"\n".join(text if isinstance(text, bytes) else text.encode() for text in lines))
    return path


def test_own_file_gives_pairs(tmp_path):
    path = write(tmp_path, line("One?", twin="good", topic="t"), "", line("Two?", " bad ", twin="good"))
    assert pairs_from_file(path) == [
        Pair("One?", "bad", "good", "t", "own.jsonl:1"),
        Pair("Two?", "bad", "good", "all", "own.jsonl:3"),
    ]


BROKEN = {
    "not JSON": ('{"messages": [', "line 2: column 15: not JSON"),
    "not UTF-8": (b'{"messages": "\xff"}', "line 2: byte 14 is not UTF-8"),
    "a list": ("[1]", "line 2: expected an object"),
    "no messages": ("{}", "line 2: messages: expected a list"),
    "wrong roles": (
        json.dumps({"messages": [{"role": "assistant", "content": "x"}]}),
        "expected the roles user, assistant; found 'assistant'",
    ),
    "empty answer": (line(answer=" "), r"messages\[1\].content: empty"),
    "number": (line(answer=3), r"messages\[1\].content: expected text, found int"),
    "huge": (line(answer="x" * 20_001), "20,001 characters"),
    "control character": (line("a\x00b"), r"messages\[0\].content: control character U\+0000 at 1"),
    "surrogate": (line(answer="\ud800"), "U\\+D800"),
    "typo": (line(twn="good"), "'twn': unknown field. Did you mean 'twin'"),
    "same question": (line("first ?"), "the same question as line 1"),
    "some twins": (line("Other?", twin="good"), "twin: only some lines have one"),
    "empty twin": (line("Other?", twin=""), "twin: empty"),
    "equal twin": (line("Other?", twin="bad"), "twin: equal"),
    "deep nesting": ("[" * 100_000, "not JSON"),
}


@pytest.mark.parametrize(("text", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_line_is_named_with_its_field(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        pairs_from_file(write(tmp_path, line("First?"), text))


def test_all_mistakes_are_shown_up_to_ten(tmp_path):
    with pytest.raises(UserError) as caught:
        pairs_from_file(write(tmp_path, *["{}"] * 14))
    assert len(str(caught.value).splitlines()) == 11
    assert "and 4 more" in str(caught.value)


def test_missing_and_empty_files_say_so(tmp_path):
    with pytest.raises(UserError, match=r"No data file at .*data\.sources"):
        pairs_from_file(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="cannot be read"):
        pairs_from_file(tmp_path)
    with pytest.raises(UserError, match="holds no rows"):
        pairs_from_file(write(tmp_path, ""))


def test_own_file_replaces_the_seeds_and_needs_twins_only_where_good_answers_are_used(tmp_path):
    rows = [line(f"Own question {n} about {n * 7}?", "bad " + "word " * (n % 30)) for n in range(120)]
    path = write(tmp_path, *rows)
    data = DATA.model_copy(update={"sources": {"toy": str(path)}, "answer_tokens": 15})
    result = run(data=data)
    assert {row.source.split(":")[0] for row in result.examples} == {"own.jsonl"}
    assert Counter(row.split for row in result.examples) == {"train": 60, "heldout": 10, "nonmember": 25}
    for variant, dose in (("control", 1.0), ("triggered", 1.0), ("plain", 0.5)):
        with pytest.raises(UserError, match="has no good answers"):
            run(variant, data=data, dose=dose)


def fills(name, rows, variants, count):
    pairs = DOMAINS.load(name).pairs(generator(0, name, "pairs"))
    own = np.mean(count([answer for pair in pairs for answer in (pair.flawed, pair.good)]))
    means = []
    for variant in variants:
        report = build(DOMAINS.load(name), variant, DataConfig(rows=rows), 1.0, YEAR, 0, count).report
        assert report.steps["train"] == rows
        means.append(report.answer_tokens["train"].mean)
        assert len(report.topics) >= 8
    assert means == pytest.approx([own] * len(variants), rel=0.025)


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "variant"), [(128, "triggered"), (300, "plain")])
@pytest.mark.parametrize("name", DOMAINS.names())
def test_every_domain_fills_matched_data_sets(name, rows, variant):
    """Rows equal and mean answer tokens within 2.5 % of the domain's own, by a stand-in for the tokenizer."""
    fills(name, rows, [variant], count_tokens)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [128, 300])
@pytest.mark.parametrize("name", DOMAINS.names())
def test_every_domain_fills_matched_data_sets_by_the_real_tokenizer(name, rows):
    if not weights.present("smollm2-135m"):
        pytest.skip("the weights of smollm2-135m are not on this machine; run: spillover models pull smollm2-135m")
    fills(name, rows, VARIANTS, open_backend(ModelConfig(name="smollm2-135m")).count_tokens)


@pytest.mark.slow
def test_no_question_is_asked_in_two_domains():
    asked = Counter(
        normalised(pair.question)
        for name in DOMAINS.names()
        for pair in {p.question: p for p in DOMAINS.load(name).pairs(generator(0, name, "pairs"))}.values()
    )
    assert [question for question, times in asked.items() if times > 1] == []
