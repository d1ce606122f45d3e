"""`pytest bench`: options, and one interleaved sitting per case that its tests share.

pytest-benchmark would time one contender after the other, minutes apart.  Here the contenders of a case take turns, timed by
`fastloss.bench`, and pytest-benchmark is handed the rounds: its tables, JSON and comparisons are about those.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastloss.bench import cases, contenders, grid, report, session, sweep, sweep_report

_CHOSEN = pytest.StashKey[tuple[list[cases.Case], list[contenders.Contender]]]()
_RESULTS = pytest.StashKey[dict[str, session.Result]]()
_SWEPT = pytest.StashKey[dict[str, list[sweep.Outcome]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fastloss")
    group.addoption(
        "--cases", default="peers", help="which cases, by names, parts, patterns or sets, separated by commas"
    )
    group.addoption("--contenders", default="all", help="which contenders, separated by commas")
    group.addoption("--case-seconds", type=float, default=20.0, help="how long to measure each case (default: 20)")
    group.addoption("--threads", type=int, help="number of threads (default: FASTLOSS_NUM_THREADS, or all)")
    group.addoption("--scale", type=float, default=1.0, help="share of each case's rows, to try things out")
    group.addoption("--functions", help="of the sweep: which functions, or function/way, separated by commas")
    group.addoption("--sizes", help="of the sweep: which numbers of elements, separated by commas")
    group.addoption(
        "--sweep-seconds", type=float, default=3600.0, help="how long to measure the sweep in all (default: 3600)"
    )


def pytest_configure(config: pytest.Config) -> None:
    if not config.pluginmanager.hasplugin("benchmark"):
        raise pytest.UsageError("the benchmarks need pytest-benchmark: pip install 'fastloss[bench]'")
    config.stash[_CHOSEN] = _select(config)
    config.stash[_RESULTS] = {}
    config.stash[_SWEPT] = {}


def _threads(config: pytest.Config) -> int:
    from fastloss import _config

    return config.getoption("--threads") or _config.threads.get()


def _select(config: pytest.Config) -> tuple[list[cases.Case], list[contenders.Contender]]:
    try:
        found = cases.select(config.getoption("--cases").split(","))
        who = contenders.select(config.getoption("--contenders").split(","))
    except LookupError as error:
        raise pytest.UsageError(str(error)) from None
    scale = config.getoption("--scale")
    return [case if scale == 1 else case.scaled(scale) for case in found], who


class Replay:
    """A timer for pytest-benchmark: the differences between its readings are durations measured before."""

    def __init__(self) -> None:
        self._readings: Iterator[float] = iter(())

    def load(self, durations: list[float]) -> None:
        self._readings = iter([reading for duration in durations for reading in (0.0, duration)])

    def timer(self) -> Callable[[], float]:
        def interleaved() -> float:  # pytest-benchmark shows the name
            return next(self._readings)

        return interleaved


_REPLAYS: dict[tuple[str, str], Replay] = {}  # by names of case and contender


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "swept" in metafunc.fixturenames:
        metafunc.parametrize("swept", list(_swept(metafunc.config)))
        return
    found, who = metafunc.config.stash[_CHOSEN]
    params = []
    for case in found:
        for contender in who:
            replay = _REPLAYS[case.name, contender.name] = Replay()
            marks = [pytest.mark.benchmark(group=f"{case.name}: {case.title}", timer=replay.timer())]
            if reason := case.missing():
                marks.append(pytest.mark.skip(reason=reason))
            params.append(pytest.param(case.name, contender.name, marks=marks, id=f"{case.name}-{contender.name}"))
    metafunc.parametrize(("case", "contender"), params)


def _swept(config: pytest.Config) -> dict[str, list[grid.Cell]]:
    """The cells of the sweep by function."""
    functions, sizes = config.getoption("--functions"), config.getoption("--sizes")
    try:
        cells = grid.cells(functions and functions.split(","), sizes and [int(float(n)) for n in sizes.split(",")])
    except (LookupError, ValueError) as error:
        raise pytest.UsageError(str(error)) from None
    found: dict[str, list[grid.Cell]] = {}
    for cell in cells:
        found.setdefault(cell.function, []).append(cell)
    return found


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The sweep takes an hour: it runs only where `-k sweep` asks for it."""
    if "sweep" in (config.getoption("keyword") or ""):
        return
    swept = [item for item in items if "swept" in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=swept)
    items[:] = [item for item in items if item not in swept]


@pytest.fixture
def sweep_of(request: pytest.FixtureRequest) -> Callable[[str], list[sweep.Outcome]]:
    """Measures the cells of a function, in the share of the sweep's time that their number gives it."""
    config = request.config
    cells = _swept(config)
    kept = config.stash[_SWEPT]

    def outcomes(function: str) -> list[sweep.Outcome]:
        threads, patterns = _threads(config), config.getoption("--contenders")
        runners = sweep.select(None if patterns == "all" else patterns.split(","), threads)
        mine, everything = cells[function], sum(map(len, cells.values()))
        seconds = config.getoption("--sweep-seconds") * len(mine) / everything
        kept[function] = sweep.run(mine, runners, seconds=seconds, threads=threads)
        return kept[function]

    return outcomes


@pytest.fixture
def replay(case: str, contender: str) -> Replay:
    """The timer that the test's `benchmark` was made with."""
    return _REPLAYS[case, contender]


@pytest.fixture(scope="session")
def sitting(request: pytest.FixtureRequest) -> Callable[[str], session.Result]:
    """The result of a case: measured at its first test, for all contenders that tests are going to ask for."""
    found, who = request.config.stash[_CHOSEN]
    wanted: dict[str, set[str]] = {}
    for item in request.session.items:
        spec = getattr(item, "callspec", None)
        if spec is not None and "contender" in spec.params:
            wanted.setdefault(spec.params["case"], set()).add(spec.params["contender"])
    kept = request.config.stash[_RESULTS]

    def result(name: str) -> session.Result:
        if name not in kept:
            case = next(case for case in found if case.name == name)
            chosen = [contender for contender in who if contender.name in wanted[name]]
            seconds = request.config.getoption("--case-seconds")
            kept[name] = session.run_case(case, chosen, seconds=seconds, threads=_threads(request.config))
            gc.collect()  # its arrays, before the next case's
        return kept[name]

    return result


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print what pytest-benchmark's tables have no columns for."""
    results = config.stash[_RESULTS]
    if results:
        terminalreporter.section("shares of the roof, ratios, memory")
        terminalreporter.write_line(report.heading(session.conditions(config.stash[_CHOSEN][1], _threads(config))))
        for result in results.values():
            terminalreporter.write_line(f"\n{report.table(result)}")
    swept = [outcome for outcomes in config.stash[_SWEPT].values() for outcome in outcomes]
    if swept:
        terminalreporter.section("the sweep: worst ratios to the best of the others, and worst shares of the limit")
        terminalreporter.write_line(report.heading(session.conditions(config.stash[_CHOSEN][1], _threads(config))))
        n_cells = sum(len(cells) for name, cells in _swept(config).items() if name in config.stash[_SWEPT])
        terminalreporter.write_line(sweep_report.text(swept, n_cells))


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Put what figures depend on into pytest-benchmark's JSON."""
    machine_info["fastloss_bench"] = session.conditions(config.stash[_CHOSEN][1], _threads(config))
