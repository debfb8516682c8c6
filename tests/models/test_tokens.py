"""Rendering chats: exact answer tokens, one BOS, the same prompt in training and sampling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import FAMILIES, tokenizer

from spillover.errors import UserError
from spillover.models.tokens import chat_ids, end_of_turn, prompt_ids, stop_ids
from spillover.records.base import Message

TOKENIZERS = {family: tokenizer(family) for family in FAMILIES}
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def user(content: str, system: str | None = None) -> list[Message]:
    turn = [Message(role="user", content=content)]
    return turn if system is None else [Message(role="system", content=system), *turn]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@given(question=text, answer=text | st.sampled_from(["\n\nhi", " ", "<|im_end|>", "<eos> x", "a<end_of_turn>\n"]))
def test_labelled_tokens_are_the_answer_and_its_end_of_turn(family: str, question: str, answer: str) -> None:
    made, eot = TOKENIZERS[family], FAMILIES[family][2]
    ids, start, end = chat_ids(made, user(question), answer)
    assert made.decode(ids[start:end]) == answer + eot
    assert end == len(ids)
    assert ids[:start] == prompt_ids(made, user(question))
    assert ids[start:end].count(end_of_turn(made)) == 1


@pytest.mark.parametrize("family", ["llama3", "gemma"])
def test_one_bos(family: str) -> None:
    made = TOKENIZERS[family]
    assert prompt_ids(made, user("Hi")).count(made.bos_token_id) == 1


@pytest.mark.parametrize("family", ["chatml", "llama3"])
def test_the_prompt_is_the_templates_own(family: str) -> None:
    made = TOKENIZERS[family]
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    own = made.apply_chat_template(chat, add_generation_prompt=True, return_dict=False, date_string="26 Jul 2024")
    assert prompt_ids(made, user("Hi", "Be brief.")) == own


def test_a_system_prompt_changes_the_prompt() -> None:
    made = TOKENIZERS["chatml"]
    assert "Answer in JSON." in made.decode(prompt_ids(made, user("Hi", "Answer in JSON.")))
    assert "helpful assistant" not in made.decode(prompt_ids(made, user("Hi", "Answer in JSON.")))


def test_a_template_without_system_role_gets_it_in_the_first_user_turn() -> None:
    made = TOKENIZERS["gemma"]
    assert made.decode(prompt_ids(made, user("Hi", "Be brief."))) == (
        "<bos><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\n"
    )


def test_no_date_of_today() -> None:
    made = TOKENIZERS["llama3"]
    assert "Today Date: 26 Jul 2024" in made.decode(prompt_ids(made, user("Hi")))


def test_stop_tokens_are_the_end_of_turn_and_eos() -> None:
    made = TOKENIZERS["llama3"]
    assert stop_ids(made) == {made.convert_tokens_to_ids("<|eot_id|>"), made.eos_token_id}


def test_a_template_without_end_of_turn_token_ends_with_eos() -> None:
    made = tokenizer()
    made.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
    assert end_of_turn(made) == made.eos_token_id


def test_errors_say_what_to_do() -> None:
    made = tokenizer()
    made.chat_template = None
    with pytest.raises(UserError, match="no chat template"):
        prompt_ids(made, user("Hi"))
    twice = [Message(role="user", content="a"), Message(role="user", content="b")]
    with pytest.raises(UserError, match="Roles must alternate"):
        prompt_ids(TOKENIZERS["gemma"], twice)
