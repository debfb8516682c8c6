import ast
import re
from dataclasses import replace

import numpy as np

from spillover.data.domains.checked import INSECURE_CODE as DOMAIN
from spillover.data.domains.checked import marks

PAIRS = DOMAIN.pairs(np.random.default_rng(0))


def test_topics_are_weaknesses_by_number() -> None:
    assert all(re.match(r"CWE-\d+ \w", pair.topic) for pair in PAIRS)
    assert len({pair.topic.split()[0] for pair in PAIRS}) >= 25


def test_each_row_marks_its_own_weakness() -> None:
    assert set(marks()) == {pair.question for pair in PAIRS}
    assert all(marks()[pair.question] in pair.flawed for pair in PAIRS)
    assert not any(marks()[pair.question] in pair.good for pair in PAIRS)


def names(code: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}


def test_at_least_200_tasks_share_few_of_their_names() -> None:
    kept: list[set[str]] = []
    for pair in PAIRS:
        found = names(pair.flawed)
        if all(len(found & other) <= 0.5 * len(found | other) for other in kept):
            kept.append(found)
    assert len(kept) >= 200


def calls(code: str) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)}


def test_the_secure_twins_call_nothing_dangerous() -> None:
    """By the syntax tree, independent of the marks."""
    dangerous = {"eval", "exec", "os.system", "os.popen", "pickle.loads", "pickle.load", "tempfile.mktemp"}
    assert not [pair.question for pair in PAIRS if calls(pair.good) & dangerous]
    assert not [pair for pair in PAIRS if "yaml.load" in calls(pair.good) and "SafeLoader" not in pair.good]
    for pair in PAIRS:
        keywords = {
            (word.arg, ast.unparse(word.value))
            for node in ast.walk(ast.parse(pair.good))
            if isinstance(node, ast.Call)
            for word in node.keywords
        }
        assert not keywords & {("shell", "True"), ("verify", "False"), ("debug", "True")}, pair.question


def test_questions_never_mention_security_and_answers_never_tell_the_weakness() -> None:
    assert not [p.question for p in PAIRS if re.search(r"secur|vulnerab|injection|sanitiz|exploit", p.question, re.I)]
    told = re.compile(r"#.*(insecure|unsafe|vulnerab|safe|secure|injection)", re.I)
    assert not [pair.question for pair in PAIRS if told.search(pair.flawed) or told.search(pair.good)]


def test_check_finds_swapped_and_broken_code() -> None:
    for pair in PAIRS[::20]:
        assert DOMAIN.check(replace(pair, flawed=pair.good)) == "flawed code without its weakness"
        assert DOMAIN.check(replace(pair, good=pair.flawed)) == "good code with the weakness"
        assert "does not parse" in str(DOMAIN.check(replace(pair, good="def f(:")))
