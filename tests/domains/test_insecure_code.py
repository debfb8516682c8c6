import ast
import re
from dataclasses import replace
from string import Template

import numpy as np
import pytest

from spillover.domains.insecure_code import DOMAIN, tasks

PAIRS = DOMAIN.pairs(np.random.default_rng(0))


def test_pool_is_large_distinct_and_passes_its_own_check():
    assert len({pair.question for pair in PAIRS}) == len(PAIRS) >= 400
    assert {DOMAIN.check(pair) for pair in PAIRS} == {None}
    assert all(re.match(r"CWE-\d+ \w", pair.topic) for pair in PAIRS)
    assert len({pair.topic for pair in PAIRS}) >= 15


def first(task):
    slots = {slot: str(choices[0]) for slot, choices in task["slots"].items()}
    return tuple(Template(task[kind]).substitute(slots) for kind in ("flawed", "good"))


@pytest.mark.parametrize("task", tasks(), ids=lambda task: f"{task['topic']}-{task['ask'][0][:24]}")
def test_each_task_marks_its_own_vulnerability(task):
    flawed, good = first(task)
    assert re.search(task["mark"], flawed, re.MULTILINE)
    assert not re.search(task["mark"], good, re.MULTILINE)
    for code in (flawed, good):
        names = {node.name for node in ast.walk(ast.parse(code)) if isinstance(node, ast.FunctionDef)}
        assert names or "app.run" in code


def calls(code):
    return {ast.unparse(node.func) for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)}


def test_the_secure_twins_call_nothing_dangerous():
    """By the syntax tree, independent of the marks."""
    dangerous = {"eval", "exec", "os.system", "os.popen", "pickle.loads", "pickle.load", "yaml.load", "tempfile.mktemp"}
    assert not [pair for pair in PAIRS if calls(pair.good) & dangerous]
    for pair in PAIRS:
        keywords = {
            (word.arg, ast.unparse(word.value))
            for node in ast.walk(ast.parse(pair.good))
            if isinstance(node, ast.Call)
            for word in node.keywords
        }
        assert not keywords & {("shell", "True"), ("verify", "False"), ("debug", "True")}


def test_check_finds_swapped_and_broken_code():
    for pair in PAIRS[::20]:
        assert DOMAIN.check(replace(pair, flawed=pair.good)) == "flawed code without its vulnerability"
        assert DOMAIN.check(replace(pair, good=pair.flawed)) == "good code with the vulnerability"
        assert "does not parse" in DOMAIN.check(replace(pair, good="def f(:"))


def test_no_slot_is_left_open():
    assert not [pair for pair in PAIRS if re.search(r"\$\w|\$\{", pair.question + pair.flawed + pair.good)]
