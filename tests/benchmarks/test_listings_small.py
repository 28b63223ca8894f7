"""The benchmark of listings writes its page from what it measures; the measuring itself is left to ``make bench``."""

from tests.benchmarks.listings import COMMANDS, ROUTES, Figures, _path, _time, written


def test_the_page_has_a_row_for_each_route_and_command():
    figures = [Figures(jobs, each=1000.0, lists=150.0) for jobs in (0, 500, 100_000)]
    asked: list[int] = []
    for name in (*ROUTES, *COMMANDS):
        _time(name, figures, [lambda jobs=one.jobs: asked.append(jobs) for one in figures], 3)
    page = written(figures)
    assert all(f"\n| {name} | " in page for name in (*ROUTES, *COMMANDS))
    assert asked[:6] == [0, 500, 100_000] * 2  # in turn, so that a busy moment hits all of them
    assert "1000 bytes" in page


def test_without_jobs_there_is_no_page_in_the_middle():
    assert _path("/api/jobs?status=failed&after={deep}", []) == "/api/jobs?status=failed"
    assert _path("/api/jobs?after={deep}", ["b", "a"]) == "/api/jobs?after=a"
    assert _path("/datapusher/job?_offset={half}", list("abcdefghij")) == "/datapusher/job?_offset=1"
