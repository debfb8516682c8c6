"""A worker stays with what it has loaded, goes where it is needed most, and nothing is taken twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spillover.execution.placement import TaskQueue


def test_a_worker_stays_with_its_group_until_nothing_of_it_waits() -> None:
    queue: TaskQueue[int] = TaskQueue()
    for number in range(6):
        queue.add("ab"[number % 2], number)
    taken = [queue.take(None)]
    for _ in range(5):
        taken.append(queue.take(taken[-1][0]))
    assert [group for group, _ in taken] == ["a"] * 3 + ["b"] * 3
    assert [task for _, task in taken] == [0, 2, 4, 1, 3, 5]


def test_workers_spread_in_proportion_to_what_waits() -> None:
    queue: TaskQueue[int] = TaskQueue()
    for number in range(90):
        queue.add("large" if number % 3 else "small", number)
    workers = [queue.take(None)[0] for _ in range(9)]
    assert (workers.count("large"), workers.count("small")) == (6, 3)


def test_a_task_whose_worker_was_lost_is_next_and_the_lost_worker_no_longer_counts() -> None:
    queue: TaskQueue[str] = TaskQueue()
    for name in ("x1", "x2", "x3"):
        queue.add("x", name)
    queue.add("y", "y1")
    group, task = queue.take(None)
    queue.release(group)
    queue.put_back(group, task)
    assert queue.take(None) == ("x", "x1")
    assert queue.take(None)[0] in ("x", "y")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3))), st.integers(1, 4), st.data())
def test_every_task_is_taken_once_by_whoever_comes(
    tasks: list[tuple[str, int]], workers: int, data: st.DataObject
) -> None:
    queue: TaskQueue[int] = TaskQueue()
    for number, (group, _) in enumerate(tasks):
        queue.add(group, number)
    losses = {number: times for number, (_, times) in enumerate(tasks)}
    loaded: list[str | None] = [None] * workers
    done: list[int] = []
    while queue:
        who = data.draw(st.integers(0, workers - 1))
        before = loaded[who]
        group, task = queue.take(before)
        assert group == tasks[task][0]
        if group != before:
            assert all(tasks[other][0] != before for other in set(range(len(tasks))) - {*done, task} if before)
        if losses[task]:
            losses[task] -= 1
            queue.release(group)
            queue.put_back(group, task)
            loaded[who] = None
        else:
            loaded[who] = group
            done.append(task)
    assert sorted(done) == list(range(len(tasks)))
