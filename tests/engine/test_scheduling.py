"""Who gets a slot: first come first served within a structure, and every one's turn."""

import subprocess
import sys

from jaxdecode.engine import prefixes, scheduling, statistics
from jaxdecode.engine.scheduling import OVERTAKEN, Scheduler


def filled(scheduler):
    """Place all that can be placed; return (job, structure, slot, sample)."""
    found = []
    while (number := scheduler.next()) is not None:
        while scheduler.has_room(number):
            found.append((number, *scheduler.place(number)))
    return found


def test_jobs_take_slots_in_the_order_in_which_they_came():
    scheduler = Scheduler(3, 1)
    for number, samples in enumerate([1, 3, 1]):
        scheduler.add(number, "a", samples)
    assert filled(scheduler) == [(0, "a", 0, 0), (1, "a", 1, 0), (1, "a", 2, 1)]
    scheduler.free("a", 1)
    assert filled(scheduler) == [(1, "a", 1, 2)]
    scheduler.free("a", 0)
    scheduler.free("a", 2)
    assert filled(scheduler) == [(2, "a", 0, 0)]
    assert not scheduler.is_waiting


def test_a_structure_without_a_pool_is_overtaken_a_bounded_number_of_times():
    scheduler, slots = Scheduler(2, 1), 2
    for number in range(100):
        scheduler.add(number, "b" if number == 3 else "a", 1)
    order, running = [], []
    while scheduler.is_waiting:
        running += filled(scheduler)
        number, structure, slot, _ = running.pop(0)
        order.append(number)
        scheduler.free(structure, slot)
    assert order[:3] == [0, 1, 2]
    assert 3 < order.index(3) <= 3 + OVERTAKEN * slots + slots
    assert sorted([*order, *(n for n, *_ in running)]) == list(range(100))


def test_two_structures_run_side_by_side_where_two_pools_may():
    scheduler = Scheduler(2, 2)
    for number, structure in enumerate("abab"):
        scheduler.add(number, structure, 1)
    assert [found[:3] for found in filled(scheduler)] == [
        (0, "a", 0),
        (1, "b", 0),
        (2, "a", 1),
        (3, "b", 1),
    ]


def test_an_idle_pool_gives_way():
    scheduler = Scheduler(1, 1)
    scheduler.add(0, "a", 1)
    filled(scheduler)
    scheduler.free("a", 0)
    scheduler.add(1, "b", 1)
    assert filled(scheduler) == [(1, "b", 0, 0)]
    assert scheduler.structures == ["b"]


def test_a_job_that_is_removed_gets_no_slot():
    scheduler = Scheduler(1, 1)
    for number in range(3):
        scheduler.add(number, "a", 1)
    scheduler.remove(0)
    scheduler.remove(7)
    assert filled(scheduler)[0][0] == 1
    scheduler.remove(2)
    assert not scheduler.is_waiting


def test_it_is_plain_python():
    code = (
        "import importlib.util as u, sys\n"
        "for path in sys.argv[1:]:\n"
        "    spec = u.spec_from_file_location(path, path)\n"
        "    module = sys.modules[path] = u.module_from_spec(spec)\n"
        "    spec.loader.exec_module(module)\n"
        "assert not {'jax', 'numpy', 'jaxdecode'} & set(sys.modules)\n"
    )
    files = [scheduling.__file__, prefixes.__file__, statistics.__file__]
    subprocess.run([sys.executable, "-c", code, *files], check=True)
