"""A worker stays with what it has loaded, goes where it is needed most, and nothing is taken twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spillover.execution.placement import Waiting


def test_a_worker_stays_with_its_group_until_nothing_of_it_waits() -> None:
    waiting: Waiting[int] = Waiting()
    for number in range(6):
        waiting.add("ab"[number % 2], number)
    taken = [waiting.take(None)]
    for _ in range(5):
        taken.append(waiting.take(taken[-1][0]))
    assert [group for group, _ in taken] == ["a"] * 3 + ["b"] * 3
    assert [task for _, task in taken] == [0, 2, 4, 1, 3, 5]


def test_workers_spread_in_proportion_to_what_waits() -> None:
    waiting: Waiting[int] = Waiting()
    for number in range(90):
        waiting.add("large" if number % 3 else "small", number)
    workers = [waiting.take(None)[0] for _ in range(9)]
    assert (workers.count("large"), workers.count("small")) == (6, 3)


def test_a_task_whose_worker_was_lost_is_next_and_the_lost_worker_no_longer_counts() -> None:
    waiting: Waiting[str] = Waiting()
    for name in ("x1", "x2", "x3"):
        waiting.add("x", name)
    waiting.add("y", "y1")
    group, task = waiting.take(None)
    waiting.left(group)
    waiting.again(group, task)
    assert waiting.take(None) == ("x", "x1")
    assert waiting.take(None)[0] in ("x", "y")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3))), st.integers(1, 4), st.data())
def test_every_task_is_taken_once_by_whoever_comes(
    tasks: list[tuple[str, int]], workers: int, data: st.DataObject
) -> None:
    waiting: Waiting[int] = Waiting()
    for number, (group, _) in enumerate(tasks):
        waiting.add(group, number)
    losses = {number: times for number, (_, times) in enumerate(tasks)}
    loaded: list[str | None] = [None] * workers
    done: list[int] = []
    while waiting:
        who = data.draw(st.integers(0, workers - 1))
        before = loaded[who]
        group, task = waiting.take(before)
        assert group == tasks[task][0]
        if group != before:
            assert all(tasks[other][0] != before for other in set(range(len(tasks))) - {*done, task} if before)
        if losses[task]:
            losses[task] -= 1
            waiting.left(group)
            waiting.again(group, task)
            loaded[who] = None
        else:
            loaded[who] = group
            done.append(task)
    assert sorted(done) == list(range(len(tasks)))
