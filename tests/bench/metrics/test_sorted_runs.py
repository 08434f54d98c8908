"""Values of any order come back as sorted runs, from memory that is used again."""

import numpy as np
import pytest
from zsad.bench.metrics import sorted_runs
from zsad.bench.metrics.sorted_runs import SortedRuns, spares_given_back

CAPACITY = 1 << 16  # the fewest values that runs have room for


@pytest.mark.parametrize("first", [0, 10, CAPACITY - 500, CAPACITY])
def test_values_at_left_out_places_come_back_from_no_run(first):
    values = np.random.default_rng(first).permutation(1000).astype(np.float32)
    left_out = np.array([0, 3, 500, 997, 999])
    runs = SortedRuns(4 * CAPACITY, None)
    runs.append(np.full(first, -1, np.float32))
    runs.append(values, left_out)
    found = np.sort(np.concatenate(runs.runs()))
    assert found[:first].tolist() == [-1] * first
    assert found[first:].tolist() == sorted(np.delete(values, left_out))
    assert values[0] != values[-1] and len(np.unique(values)) == 1000  # the caller's own stay
    runs.release()


def test_runs_in_a_file_are_mapped_in_rising_parts(monkeypatch):
    monkeypatch.setattr(sorted_runs, "MAPPED_BYTES", 4 * (CAPACITY // 3))
    values = np.random.default_rng(0).permutation(3 * CAPACITY).astype(np.float32)
    runs = SortedRuns(4 * CAPACITY, None)
    runs.append(values)
    *spilled, in_memory = runs.runs()
    assert runs.spilled_bytes() == 8 * CAPACITY
    assert {part.size for part in spilled} == {CAPACITY // 3, CAPACITY % 3}
    assert all(np.all(part[1:] >= part[:-1]) for part in [*spilled, in_memory])
    assert np.array_equal(np.sort(np.concatenate([*spilled, in_memory])), np.sort(values))
    runs.release()


@pytest.mark.parametrize("count", [0, 10, CAPACITY, 3 * CAPACITY + 5])
def test_all_values_come_back_in_one_rising_array(count, tmp_path):
    values = np.random.default_rng(count).permutation(count).astype(np.uint64)
    runs = SortedRuns(8 * CAPACITY, tmp_path, np.uint64)
    runs.append(values[: count // 2])
    runs.append(values[count // 2 :])
    assert runs.rising().tolist() == [*range(count)]
    runs.release()


def test_memory_of_released_runs_is_used_again_until_it_is_given_back(monkeypatch):
    taken, memory = [], sorted_runs._memory
    monkeypatch.setattr(sorted_runs, "_memory", lambda n: taken.append(n) or memory(n))

    def use():
        runs = SortedRuns(8 * CAPACITY, None)
        runs.append(np.ones(5, np.float32))
        runs.release()

    with spares_given_back():
        use()
        taken.clear()
        use()
        assert not taken
    use()
    assert taken == [8 * CAPACITY]
