"""The report as text and as JSON."""

from agent_preflight.checks.line import Line, passed, warned
from agent_preflight.doctor.section import Section, document, healthy, sections_text

GOOD = Section("System", (passed("Disk", "much"), warned("Files", "few")))
BAD = Section("Python", (Line(ok=False, name="Python", detail="2.7", hint="a newer one"),))


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


def test_for_machines_it_is_one_object() -> None:
    assert document([GOOD]) == {
        "ok": True,
        "sections": {
            "System": [
                {"name": "Disk", "finding": "ok", "detail": "much", "hint": ""},
                {"name": "Files", "finding": "note", "detail": "few", "hint": ""},
            ]
        },
    }


def test_one_problem_is_enough() -> None:
    assert healthy([GOOD])
    assert not healthy([GOOD, BAD])
