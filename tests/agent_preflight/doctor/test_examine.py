"""The whole examination."""

from __future__ import annotations

import pytest

from agent_preflight.base.config import Environment
from agent_preflight.checks.report import CheckLine, passed, warned
from agent_preflight.doctor.examine import Section, document, examine, http_proxy_line, sections_text, variable_lines
from openrouter_sim import Simulator
from preflight_proxy.core.environment_proxy import PROXY_VARIABLES
from preflight_proxy.core.secret import Secret
from tests.support.cases import each


def test_keys_are_reported_as_set_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    clear(monkeypatch)
    lines = variable_lines(Environment(admin_key=Secret("sk-or-secret"), base_url="http://x/api/v1"))
    assert [line.ok for line in lines] == [True, None, True, True]
    assert "sk-or" not in str(lines)


def clear(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    """Leave no other variable of HTTP proxies set than these."""
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@each(
    "variables, ok, text",
    [
        ({}, True, "reached directly"),
        ({"HTTPS_PROXY": "http://me:hunter2@corp:3128"}, True, "http://corp:3128 for https://openrouter.ai/api/v1"),
        ({"https_proxy": "http://a:1", "NO_PROXY": "openrouter.ai"}, True, "not used"),
        ({"ALL_PROXY": "socks5://me:hunter2@corp:1080"}, False, "ALL_PROXY names a proxy of the kind SOCKS"),
    ],
)
def test_the_http_proxy_and_its_variables_are_shown_without_a_password(
    variables: dict[str, str], ok: bool, text: str
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        clear(monkeypatch, OPENROUTER_BASE_URL="", **variables)
        line = http_proxy_line()
    assert line.ok is ok
    assert text in line.detail
    assert all(name in line.detail for name in variables)
    assert "hunter2" not in str(line)


@pytest.mark.wire
def test_every_section_is_there_and_the_clock_only_online(simulator: Simulator) -> None:
    progress: list[str] = []
    sections = examine(containers=False, tell=progress.append)
    assert progress == []
    titles = [section.title for section in sections]
    assert titles[:5] == ["Installation", "Environment", "System", "Containers", "Networks"]
    names = [row["name"] for rows in document(sections)["sections"].values() for row in rows]
    assert {"Python", "Package", "Open files", "Clock", "Docker", "sealed", "a second dockerd"} <= set(names)
    offline = document(examine(containers=False, clock=False))["sections"]["System"]
    assert "Clock" not in [row["name"] for row in offline]


GOOD = Section("System", (passed("Disk", "much"), warned("Files", "few")))
BAD = Section("Python", (CheckLine(ok=False, name="Python", detail="2.7", hint="a newer one"),))


def test_each_section_has_its_title_and_its_lines() -> None:
    assert list(sections_text([GOOD, BAD])) == [
        "",
        "System",
        "  [v] Disk  much",
        "  [!] Files  few",
        "",
        "Python",
        "  [x] Python  2.7 -> a newer one",
    ]


def test_the_document_has_all_lines() -> None:
    assert document([GOOD]) == {
        "ok": True,
        "sections": {
            "System": [
                {"name": "Disk", "finding": "ok", "detail": "much", "hint": ""},
                {"name": "Files", "finding": "note", "detail": "few", "hint": ""},
            ]
        },
    }


def test_one_problem_makes_the_whole_not_ok() -> None:
    assert document([GOOD])["ok"]
    assert not document([GOOD, BAD])["ok"]
