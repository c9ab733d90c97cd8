"""Seven clients as agents of a run: each is told where to ask as docs/clients.md says, and nothing more."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from openrouter_sim import Rule, ToolCall
from tests.clients import npm
from tests.clients.program import NOWHERE

TASK = "Read the plan."
SAYS = "The plan was read."
"""What the model says last."""
ENV = {
    "HTTP_PROXY": NOWHERE,
    "HTTPS_PROXY": NOWHERE,
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "MSWEA_COST_TRACKING": "ignore_errors",
    "MSWEA_SILENT_STARTUP": "1",
    "PI_OFFLINE": "1",
}
"""Keeps them from the internet, and tells those that would try for long not to."""

OPENAI = """
import openai, os
client, said = openai.OpenAI(), ""
while said != "The plan was read.":
    answer = client.chat.completions.create(
        model=os.environ["PREFLIGHT_MODEL"], messages=[{"role": "user", "content": "Read the plan."}])
    said = answer.choices[0].message.content
print(said)
"""
ANTHROPIC = """
import anthropic, os
client, said = anthropic.Anthropic(), ""
while said != "The plan was read.":
    answer = client.messages.create(
        model=os.environ["PREFLIGHT_MODEL"], max_tokens=1000, messages=[{"role": "user", "content": "Read the plan."}])
    said = answer.content[0].text
print(said)
"""
OPENROUTER = """
import openrouter, os
said = ""
with openrouter.OpenRouter(
    api_key=os.environ["OPENROUTER_API_KEY"], server_url=os.environ["OPENROUTER_BASE_URL"]
) as client:
    while said != "The plan was read.":
        answer = client.responses.send(model=os.environ["PREFLIGHT_MODEL"], input="Read the plan.")
        said = answer.output[0].content[0].text
print(said)
"""
OPENROUTER_STREAM = """
import openrouter, os
last = None
with openrouter.OpenRouter(
    api_key=os.environ["OPENROUTER_API_KEY"], server_url=os.environ["OPENROUTER_BASE_URL"]
) as client:
    while getattr(last, "type", None) != "response.completed":
        with client.responses.send(model=os.environ["PREFLIGHT_MODEL"], input="Read the plan.", stream=True) as events:
            *_, last = events
        print(type(last).__name__, last.response.error and last.response.error.code, flush=True)
"""
MINI_SWE_AGENT = """
import os, yaml
from minisweagent import package_dir
from minisweagent.agents.default import DefaultAgent
from minisweagent.environments.local import LocalEnvironment
from minisweagent.models.litellm_model import LitellmModel

settings = yaml.safe_load((package_dir / "config" / "mini.yaml").read_text())["agent"]
settings = {name: settings[name] for name in ("system_template", "instance_template")}
asked = LitellmModel(model_name="openrouter/" + os.environ["PREFLIGHT_MODEL"])
print(DefaultAgent(asked, LocalEnvironment(), cost_limit=0, **settings).run("Read the plan.")["submission"])
"""
TURN_TOKENS = 1000
"""What a turn is billed for at the least, so that a budget lasts for a few; no bound that the proxy sets cuts it."""
SUBMIT = f"echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT; echo {SAYS}"
_ANSWERS = Rule(text=SAYS)
_TALKS = Rule(text="Go on.", tokens=TURN_TOKENS)


@dataclass(frozen=True, slots=True)
class Client:
    """A client, the model that it asks, and what that says.

    Attributes:
        model: The model's id.
        command: Returns what starts it, and installs it first if it is not there.
        budget_usd: Enough for a few of its calls.
        goes_on: What the model says that makes it ask again.
        ends: What the model says to end the task.
    """

    model: str
    command: Callable[[], list[str]]
    budget_usd: str
    goes_on: Rule
    ends: Rule = _ANSWERS

    @property
    def two_turns(self) -> tuple[Rule, ...]:
        """The replies of a task that takes two calls."""
        return replace(self.goes_on, times=1), self.ends


def python(source: str) -> Callable[[], list[str]]:
    """Return a client that is a few lines of Python."""
    return lambda: [sys.executable, "-c", source]


def sh(script: str, argv: Sequence[str]) -> list[str]:
    """Return a command in a shell's script, which finds it as its arguments; its home is the trial's own folder."""
    return ["/bin/sh", "-c", f'export HOME="$PWD"; {script}', "sh", *argv]


def claude_code(script: str = "") -> list[str]:
    """Return Claude Code's command, after a script that changes what the product has set."""
    return sh(
        f'export ANTHROPIC_MODEL="$PREFLIGHT_MODEL"; {script} exec "$@"',
        [*npm.command(npm.CLAUDE_CODE), "--print", TASK],
    )


def pi(*options: str) -> list[str]:
    """Return pi's command, which prints the last message unless options say otherwise."""
    script = """
        mkdir -p .pi/agent
        printf '{"providers": {"openrouter": {"baseUrl": "%s"}}}' "$OPENROUTER_BASE_URL" >.pi/agent/models.json
        exec "$@" --model "$PREFLIGHT_MODEL"
    """
    return sh(script, [*npm.command(npm.PI), "--provider", "openrouter", "--no-session", *(options or ("-p",)), TASK])


def codex(*options: str) -> list[str]:
    """Return Codex's command, without a configuration file."""
    asking = 'exec "$@" -c openai_base_url="$OPENAI_BASE_URL" --model "$PREFLIGHT_MODEL"'
    return sh(asking, [*npm.command(npm.CODEX), "exec", "--skip-git-repo-check", *options, TASK])


def _runs(tool: str, **arguments: str) -> Rule:
    """A turn in which the model has a client run a command."""
    return Rule(tool_calls=(ToolCall(tool, json.dumps(arguments)),), tokens=TURN_TOKENS)


_LOOK = "echo the plan"
CLIENTS = {
    "openai": Client("openai/gpt-4.1-nano", python(OPENAI), "0.0015", _TALKS),
    "openrouter": Client("openai/gpt-4.1-mini", python(OPENROUTER), "0.006", _TALKS),
    "anthropic": Client("anthropic/claude-sonnet-4.5", python(ANTHROPIC), "0.05", _TALKS),
    "mini-swe-agent": Client(
        model="deepseek/deepseek-chat-v3.1",
        command=python(MINI_SWE_AGENT),
        budget_usd="0.008",
        goes_on=_runs("bash", command=_LOOK),
        ends=_runs("bash", command=SUBMIT),
    ),
    "claude-code": Client(
        model="anthropic/claude-haiku-4.5",
        command=claude_code,
        budget_usd="0.22",
        goes_on=_runs("Bash", command=_LOOK, description="Show the plan"),
    ),
    "codex": Client("openai/gpt-5-mini", codex, "0.02", _runs("exec_command", cmd=_LOOK)),
    "pi": Client("google/gemini-2.5-flash", pi, "0.02", _runs("bash", command=_LOOK)),
}
"""By name."""
