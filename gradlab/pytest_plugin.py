"""The pytest plugin: audits tests that train, if a fixture, a marker or `--gradlab-audit` asks for it.

pytest loads it in every environment with gradlab, so it imports the audit only where a test needs it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from contextlib import AbstractContextManager

    from gradlab.audit.choice.settings import AuditSettings
    from gradlab.audit.report import Report

NAME = "gradlab_audit"  # of the fixture and the marker
SETTINGS = pytest.StashKey["AuditSettings"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the flag."""
    text = "Audit every test that trains; a finding fails the test. Default: only tests that ask for it."
    parser.getgroup("gradlab").addoption("--gradlab-audit", action="store_true", help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and with the flag, check the settings."""
    text = "audit what the test trains; a finding fails it, and so does training nothing."
    config.addinivalue_line("markers", f"{NAME}(select=[], ignore=[]): {text}")
    if config.getoption("--gradlab-audit") and (wrong := list(_faults_of_settings(config))):
        raise pytest.UsageError("\n".join(wrong))


@pytest.fixture
def gradlab_audit(request: pytest.FixtureRequest) -> Iterator[Report]:
    """Audit what the test trains: `gradlab_audit.check()` fails the test if there are findings."""
    with _watch(request.node) as report:
        yield report


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Stop before the first test if a marker or pyproject.toml has mistakes.

    A worker of xdist cannot stop the tests, so there each test with a mistake fails.
    """
    if hasattr(config, "workerinput"):
        return
    wrong: dict[str, None] = {}  # once each, in order
    for item in items:
        if _is_checked(item) or _uses_fixture(item):
            wrong |= dict.fromkeys(_faults_of(item))
    if wrong:
        raise pytest.UsageError("\n".join(wrong))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Audit a test, and fail it for findings. After `check()`, only the marker checks its report again."""
    if not _is_checked(item):
        return (yield)
    own: Report | None = getattr(item, "funcargs", {}).get(NAME)
    if own is None:
        with _watch(item) as report:
            result = yield
    else:
        report = own
        result = yield
    if item.get_closest_marker(NAME) or (report.audited and not report.checked):
        _check(report)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show a report in full if a test failed with it: `assert report.ok, report` shortens it."""
    del item
    outcome = yield
    if call.excinfo is not None and outcome.failed:
        shown = call.excinfo.exconly()
        outcome.sections += [("gradlab audit", text) for text in _reports_in(call.excinfo) if text not in shown]
    return outcome


def _check(report: Report) -> None:
    """Fail the test with the report, and without a traceback of ours."""
    try:
        report.check()
    except AssertionError as error:
        text = str(error)
    else:
        return
    pytest.fail(text, pytrace=False)


def _is_checked(item: pytest.Item) -> bool:
    """Say whether the end of a test checks its report."""
    return bool(item.get_closest_marker(NAME) or item.config.getoption("--gradlab-audit"))


def _uses_fixture(item: pytest.Item) -> bool:
    return NAME in getattr(item, "fixturenames", ())


def _settings(config: pytest.Config) -> AuditSettings:
    from gradlab.audit.choice.settings import settings_for

    if SETTINGS not in config.stash:
        config.stash[SETTINGS] = settings_for(config.rootpath)
    return config.stash[SETTINGS]


def _watch(item: pytest.Item) -> AbstractContextManager[Report]:
    """Return a watch with the rules of pyproject.toml, then of the markers: the test's own comes last."""
    from gradlab.audit import watch
    from gradlab.audit.choice.rules import DEFAULT, choose

    if wrong := list(_faults_of(item)):
        pytest.fail("\n".join(wrong), pytrace=False)
    settings = _settings(item.config)
    chosen = settings.rules()
    for marker in reversed(list(item.iter_markers(NAME))):
        chosen = choose(**marker.kwargs, base=chosen)
    return watch(settings.sample, select=chosen - DEFAULT, ignore=DEFAULT - chosen)


def _faults_of(item: pytest.Item) -> list[str]:
    """Return what is wrong with pyproject.toml and the markers of a test."""
    return [*_faults_of_settings(item.config), *_faults_of_markers(item)]


def _faults_of_settings(config: pytest.Config) -> Iterator[str]:
    """Yield what is wrong with pyproject.toml."""
    from gradlab.errors import GradlabError

    try:
        _settings(config)
    except GradlabError as error:
        yield str(error)


def _faults_of_markers(item: pytest.Item) -> Iterator[str]:
    """Yield what is wrong with the markers of a test."""
    from gradlab.audit.choice.rules import choose
    from gradlab.errors import GradlabError, unknown

    for marker in item.iter_markers(NAME):
        names = [name for name in marker.kwargs if name not in ("select", "ignore")]
        if marker.args:
            yield f"{item.nodeid}: @pytest.mark.{NAME} takes only select=[...] and ignore=[...]"
        for name in names:
            yield f"{item.nodeid}: @pytest.mark.{NAME}: {unknown('argument', name, ['select', 'ignore'])}"
        try:
            choose(**{name: value for name, value in marker.kwargs.items() if name not in names})
        except GradlabError as error:
            yield from (f"{item.nodeid}: @pytest.mark.{NAME}: {line}" for line in str(error).splitlines())


def _reports_in(error: pytest.ExceptionInfo[BaseException]) -> Iterator[str]:
    """Yield the reports with findings among the variables of a traceback."""
    if "gradlab.audit.report" not in sys.modules:
        return
    from gradlab.audit.report import Report

    values = [value for entry in error.traceback for value in entry.frame.f_locals.values()]
    reports = {id(value): value for value in values if isinstance(value, Report)}
    yield from (str(each) for each in reports.values() if not (each.audited and each.ok))
