"""The cache of replies: what goes in comes out, errors never do, and many processes may write at once."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from spillover.errors import MachineError
from spillover.models.api.cache import Batch, ChatCache, reply_key
from spillover.models.api.chat import FirstToken, Reply
from spillover.records.base import Message, Usage


def reply(key: str, dollars: float = 0.0, text: str = "85") -> Reply:
    return Reply(
        key,
        text,
        "stop",
        Usage(prompt_tokens=10, completion_tokens=1, dollars=dollars),
        "",
        FirstToken("85", -0.5, (("85", -0.5), ("\u00e9\U0001f600", -9.0))),
    )


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    cache = ChatCache(tmp_path / "deep" / "c.sqlite")
    kept = [reply(f"key-{number}", text="\u00e9\x00\n") for number in range(1200)]
    for one in kept:
        cache.put("me", one)
    assert ChatCache(cache.path).get([one.id for one in kept] + ["none"]) == {one.id: one for one in kept}


def test_errors_are_never_kept_and_refusals_are(tmp_path: Path) -> None:
    cache = ChatCache(tmp_path / "c.sqlite")
    cache.put("me", Reply("a", "", "error", error="down"))
    cache.put("me", Reply("b", "", "refused", error="filtered"))
    assert set(cache.get(["a", "b"])) == {"b"}


def test_money_is_counted_by_account(tmp_path: Path) -> None:
    cache = ChatCache(tmp_path / "c.sqlite")
    for key, account, dollars in (("a", "me", 0.5), ("b", "me", 0.25), ("c", "you", 4.0), ("a", "me", 0.5)):
        cache.put(account, reply(key, dollars))
    assert cache.spent("me") == 0.75
    assert cache.spent("nobody") == 0


def test_a_key_changes_with_everything_that_can_change_a_reply() -> None:
    chat, other = (Message(role="user", content="a"),), (Message(role="user", content="b"),)
    keys = {
        reply_key("me", chat, {"max_tokens": 8}, 0),
        reply_key("you", chat, {"max_tokens": 8}, 0),
        reply_key("me", other, {"max_tokens": 8}, 0),
        reply_key("me", chat, {"max_tokens": 9}, 0),
        reply_key("me", chat, {"max_tokens": 8}, 1),
    }
    assert len(keys) == 5
    assert all(len(key) == 32 for key in keys)
    assert reply_key("me", chat, {"a": 1, "b": 2}, 0) == reply_key("me", chat, {"b": 2, "a": 1}, 0)


def put_and_fail(cache: ChatCache) -> None:
    cache.put("me", reply("a"))
    raise ZeroDivisionError


def test_a_broken_transaction_leaves_nothing(tmp_path: Path) -> None:
    cache = ChatCache(tmp_path / "c.sqlite")
    with pytest.raises(ZeroDivisionError), cache.transaction():
        put_and_fail(cache)
    assert cache.get(["a"]) == {}
    cache.put("me", reply("a"))
    assert set(cache.get(["a"])) == {"a"}


def test_a_file_that_is_not_a_cache_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "c.sqlite").write_text("something else, rather longer than a header" * 100)
    with pytest.raises(MachineError, match=r"c\.sqlite.*another file with the judge's option cache"):
        ChatCache(tmp_path / "c.sqlite").get(["a"])


OLD_FILE = """
CREATE TABLE answers (key TEXT PRIMARY KEY, account TEXT, dollars REAL, reply TEXT);
CREATE INDEX paid ON answers (account, dollars) WHERE dollars > 0;
CREATE TABLE abilities (account TEXT PRIMARY KEY, ability TEXT);
CREATE TABLE batches (name TEXT PRIMARY KEY, account TEXT, id TEXT, state TEXT, tokens INTEGER, dollars REAL);
CREATE TABLE requests (key TEXT PRIMARY KEY, batch TEXT) WITHOUT ROWID;
CREATE INDEX requests_by_batch ON requests (batch);
INSERT INTO answers VALUES ('a', 'me', 0.5, '["85","stop","",[10,1,0.5],["85",-0.5,[["85",-0.5]]]]');
INSERT INTO abilities VALUES ('me', 'logprobs');
INSERT INTO batches VALUES ('n', 'me', 'batch-1', 'created', 70, 0.25);
INSERT INTO requests VALUES ('b', 'n');
"""


def test_a_file_of_the_first_release_is_read(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "c.sqlite")) as connection:
        connection.executescript(OLD_FILE)
    cache = ChatCache(tmp_path / "c.sqlite")
    usage = Usage(prompt_tokens=10, completion_tokens=1, dollars=0.5)
    assert cache.get(["a"]) == {"a": Reply("a", "85", "stop", usage, "", FirstToken("85", -0.5, (("85", -0.5),)))}
    assert (cache.spent("me"), cache.ability("me")) == (0.5, "logprobs")
    assert cache.batches("me") == [Batch("n", "batch-1", 70, 0.25)]
    assert cache.batch_keys("n") == ["b"]
    cache.close_batch("n")
    assert (cache.batches("me"), cache.keys_in_batches("me")) == ([], set())


WRITE = """
import sys
from pathlib import Path
from spillover.models.api.cache import ChatCache
from spillover.models.api.chat import Reply
cache = ChatCache(Path(sys.argv[1]))
for number in range(200):
    cache.put("me", Reply(f"{sys.argv[2]}-{number}", "1", "stop"))
"""


@pytest.mark.slow
def test_several_processes_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    running = [subprocess.Popen([sys.executable, "-c", WRITE, str(path), str(who)]) for who in range(4)]
    assert [process.wait() for process in running] == [0] * 4
    assert len(ChatCache(path).get([f"{who}-{number}" for who in range(4) for number in range(200)])) == 800
