import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subbyte.allocation.frontier import greedy, sweep
from subbyte.allocation.problem import Budget, Candidate, Option, Problem, Tie, keeps, pin, total
from subbyte.allocation.solver import number, smallest, solve
from subbyte.errors import AllocationError

CANDIDATES = [Candidate(w, a) for w in ("int2", "int4", "int8") for a in ("uint4", "uint8")]


def random_problem(seed, layers=4, budgets=(0.5,), ties=True):
    """Losses over seven decades, costs in bytes and microseconds; budgets at fractions of the reachable range."""
    rng = np.random.default_rng(seed)
    options = {}
    for i in range(layers):
        kept = [c for c in CANDIDATES if rng.random() < 0.8] or CANDIDATES[:1]
        options[f"l{i}"] = tuple(
            Option(
                candidate=c,
                loss=float(10 ** rng.uniform(-6, 1)),
                costs={"bytes": float(rng.integers(1, 10_000)), "us": float(rng.uniform(0.1, 50))},
            )
            for c in kept
        )
    listed = []
    if ties:
        a, b = rng.choice(layers, 2, replace=False)
        by = ("candidate", "weights", "activations")[seed % 3]
        shared = {getattr(o.candidate, by, o.candidate) for o in options[f"l{a}"]} & {
            getattr(o.candidate, by, o.candidate) for o in options[f"l{b}"]
        }
        listed = [Tie(layers=(f"l{a}", f"l{b}"), by=by)] if shared else []
    limits = []
    for name, fraction in zip(("bytes", "us"), budgets, strict=False):
        low = sum(min(o.costs[name] for o in os) for os in options.values())
        high = sum(max(o.costs[name] for o in os) for os in options.values())
        limits.append(Budget(cost=name, limit=low + fraction * (high - low)))
    return Problem(layers=options, budgets=limits, ties=listed, fixed={"bytes": 17.0})


def brute_force(problem):
    names = list(problem.layers)
    best = None
    for picked in itertools.product(*problem.layers.values()):
        choice = {n: o.candidate for n, o in zip(names, picked, strict=True)}
        if keeps(problem, choice):
            loss = total(problem, choice).loss
            best = loss if best is None else min(best, loss)
    return best


@given(st.integers(0, 10_000), st.sampled_from([(0.1,), (0.5,), (0.4, 0.4), (0.2, 0.6), ()]))
def test_equals_brute_force(seed, budgets):
    problem = random_problem(seed, budgets=budgets)
    best = brute_force(problem)
    if best is None:
        with pytest.raises(AllocationError):
            solve(problem)
        return
    solved = solve(problem)
    assert keeps(problem, solved.choice)
    assert solved.loss == pytest.approx(best, rel=1e-3, abs=1e-7)


@given(st.integers(0, 10_000))
def test_greedy_keeps_what_the_solver_keeps(seed):
    problem = random_problem(seed, budgets=(0.5,))
    try:
        found = greedy(problem)
    except AllocationError:
        return
    assert keeps(problem, found.choice)
    assert solve(problem).loss <= found.loss + 1e-9


@given(st.integers(0, 10_000))
def test_sweep_is_a_frontier_of_exact_solutions(seed):
    problem = random_problem(seed, budgets=())
    frontier = sweep(problem, "bytes", points=7)
    assert frontier[0].costs["bytes"] == smallest(problem, "bytes")
    for cheap, dear in itertools.pairwise(frontier):
        assert cheap.costs["bytes"] < dear.costs["bytes"]
        assert cheap.loss > dear.loss
        assert keeps(problem, cheap.choice)


def two(costs, losses=(3.0, 1.0, 0.0)):
    formats = ("int2", "int4", "int8")
    return tuple(
        Option(candidate=Candidate(f, "uint8"), loss=loss, costs=cost)
        for f, loss, cost in zip(formats, losses, costs, strict=True)
    )


BYTES = [{"bytes": b, "us": u} for b, u in ((2.0, 9.0), (4.0, 5.0), (8.0, 1.0))]


def test_a_budget_on_the_dot_is_kept():
    problem = Problem(layers={"a": two(BYTES), "b": two(BYTES)}, budgets=[Budget(cost="bytes", limit=12.0)])
    assert solve(problem).costs["bytes"] == 12.0


def test_limits_hold_beyond_the_solvers_tolerance():
    options = two([{"bytes": b} for b in (1e9 - 1, 1e9, 1e9 + 1)])
    problem = Problem(layers={"a": options, "b": options}, budgets=[Budget(cost="bytes", limit=2e9 - 0.5)])
    assert solve(problem).costs["bytes"] <= 2e9 - 0.5


def test_infeasible_budget_tells_the_smallest_reachable():
    problem = Problem(
        layers={"a": two(BYTES), "b": two(BYTES)}, budgets=[Budget(cost="bytes", limit=103.0)], fixed={"bytes": 100.0}
    )
    with pytest.raises(AllocationError) as caught:
        solve(problem)
    assert "bytes is 103" in caught.value.seen
    assert "smallest reachable bytes is 104" in caught.value.rule
    assert "binding: bytes" in caught.value.place


def test_budgets_that_contradict_each_other():
    budgets = [Budget(cost="bytes", limit=4.0), Budget(cost="us", limit=8.0)]
    with pytest.raises(AllocationError) as caught:
        solve(Problem(layers={"a": two(BYTES), "b": two(BYTES)}, budgets=budgets))
    assert "contradict" in caught.value.seen
    assert "bytes reaches 12" in caught.value.rule
    assert "us reaches 18" in caught.value.rule
    assert "binding: bytes, us" in caught.value.place


def test_two_budgets_on_one_cost():
    budgets = [Budget(cost="bytes", limit=16.0), Budget(cost="bytes", limit=8.0)]
    solved = solve(Problem(layers={"a": two(BYTES), "b": two(BYTES)}, budgets=budgets))
    assert solved.costs["bytes"] == 8.0


def test_ties_by_weights_leave_activations_free():
    def options(best):
        return tuple(Option(candidate=c, loss=float(c != best), costs={}) for c in CANDIDATES)

    layers = {"a": options(Candidate("int4", "uint4")), "b": options(Candidate("int4", "uint8"))}
    solved = solve(Problem(layers=layers, ties=[Tie(layers=("a", "b"), by="weights")]))
    assert solved.choice == {"a": Candidate("int4", "uint4"), "b": Candidate("int4", "uint8")}
    solved = solve(Problem(layers=layers, ties=[Tie(layers=("a", "b"))]))
    assert solved.choice["a"] == solved.choice["b"]


def test_pinned_layers_stay():
    layers = {"a": pin(two(BYTES), Candidate("int8", "uint8")), "b": two(BYTES)}
    solved = solve(Problem(layers=layers, budgets=[Budget(cost="bytes", limit=10.0)]))
    assert solved.choice == {"a": Candidate("int8", "uint8"), "b": Candidate("int2", "uint8")}
    with pytest.raises(AllocationError, match="pinned to int3/uint8"):
        pin(two(BYTES), Candidate("int3", "uint8"))


def test_nothing_to_decide():
    assert solve(Problem(layers={})).choice == {}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"layers": {"a": ()}}, "no candidate"),
        ({"layers": {"a": (*two(BYTES), *two(BYTES))}}, "listed twice"),
        ({"layers": {"a": two(BYTES, (float("nan"), 1.0, 2.0))}}, "not finite"),
        ({"layers": {"a": two(BYTES)}, "budgets": [Budget(cost="bops", limit=3.0)]}, "does not tell 'bops'"),
        ({"layers": {"a": two(BYTES)}, "budgets": [Budget(cost="us", limit=float("inf"))]}, "budget on us is inf"),
        ({"layers": {"a": two(BYTES)}, "ties": [Tie(layers=("a", "b"))]}, "unknown are \\['b'\\]"),
        (
            {"layers": {"a": two(BYTES)[:1], "b": two(BYTES)[1:]}, "ties": [Tie(layers=("a", "b"))]},
            "no candidate is open to all",
        ),
    ],
)
def test_malformed_problems(arguments, complaint):
    with pytest.raises(AllocationError, match=complaint):
        Problem(**arguments)


def test_numbers_round_up_where_they_must():
    assert number(12345678.0) == "12,345,678"
    assert float(number(1234.56789, up=True)) >= 1234.56789
    assert number(0.5) == "0.5"
