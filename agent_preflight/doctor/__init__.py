"""What this machine can do for a run, and why not what it cannot: found by trying, not by guessing."""

from agent_preflight.doctor.examine import Section, document, examine, sections_text

__all__ = ["Section", "document", "examine", "sections_text"]
