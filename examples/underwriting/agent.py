"""An underwriter: takes one application after the other from the loan office and lets a model decide. Standard library only.

It needs OPENROUTER_BASE_URL, OPENROUTER_API_KEY and PREFLIGHT_MODEL, the office as PREFLIGHT_SERVICE_LOS (HOST:PORT), and its
desk as its one argument. It prints one JSON event a line.
"""

import json
import os
import sys
import urllib.error
import urllib.request

DECISIONS_TRIED_MAX = 3
MANUAL = """You are an underwriter. You decide one application at a time by the tool `decide`, and never in words alone.
Decline where there was a default in the last seven years. Decline where debts and the new loan together pass the yearly income.
Refer to a colleague where the applicant has been employed for less than a year. Approve otherwise. The office may refuse an
approval that passes its lending cap: then refer the application. Give the reason in one short sentence that an applicant can
understand. Do not ask for documents. Do not compare applicants. Do not carry a decision over from one application to another.
"""
# A manual is long in life: it stays the same for every call, so a provider that caches prompts reads most of it from there.
SYSTEM = MANUAL + "\n".join(
    f"Section {number}: a loan of {number},000 is checked against income, debts, defaults and years of employment, in this order."
    for number in range(1, 61)
)
DECIDE = {
    "type": "function",
    "function": {
        "name": "decide",
        "description": "Records the decision on the application at hand.",
        "parameters": {
            "type": "object",
            "properties": {
                "decision": {"type": "string", "enum": ["approve", "decline", "refer"]},
                "reason": {"type": "string"},
            },
            "required": ["decision", "reason"],
        },
    },
}
NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def emit(kind: str, **fields: object) -> None:
    print(json.dumps({"type": kind, **fields}), flush=True)


def send(url: str, body: dict | None = None, token: str = "") -> tuple[int, dict]:
    """One request; its status and the JSON of its answer, whatever the status."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        with NO_PROXY.open(urllib.request.Request(url, data, headers), timeout=120) as answer:
            content = answer.read()
            return answer.status, json.loads(content) if content else {}
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


class Refused(Exception):  # noqa: N818 - an outcome, not an error
    """The model may not be called any more: the budget is spent."""


def ask(messages: list[dict]) -> dict:
    """The model's next message."""
    body = {"model": os.environ["PREFLIGHT_MODEL"], "messages": messages, "tools": [DECIDE], "max_tokens": 200}
    url = os.environ["OPENROUTER_BASE_URL"] + "/chat/completions"
    status, answer = send(url, body, os.environ["OPENROUTER_API_KEY"])
    if status in (401, 402, 403):
        raise Refused(answer["error"]["message"])
    if status != 200:
        raise SystemExit(f"the model answered with {status}: {answer}")
    message = answer["choices"][0]["message"]
    emit("message_end", role="assistant", content=message.get("content") or "", usage=answer["usage"])
    return message


def decide(office: str, desk: str, messages: list[dict], application: dict) -> str:
    """Let the model decide one application; its decision as the office recorded it."""
    messages.append({"role": "user", "content": f"Application: {json.dumps(application)}"})
    for _ in range(DECISIONS_TRIED_MAX):
        message = ask(messages)
        messages.append(message)
        if not message.get("tool_calls"):
            messages.append({"role": "user", "content": "Use the tool `decide`."})
            continue
        for call in message["tool_calls"]:
            wanted = json.loads(call["function"]["arguments"] or "{}")
            emit("tool_execution_start", toolName="decide", args=wanted)
            status, answer = send(f"{office}/desks/{desk}/decisions", {**wanted, "id": application["id"]})
            emit("tool_execution_end", toolName="decide", success=status == 200, result=json.dumps(answer))
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": json.dumps(answer)})
        if status == 200:
            return str(wanted["decision"])
    send(f"{office}/desks/{desk}/decisions", {"id": application["id"], "decision": "refer", "reason": "no decision"})
    return "refer"


def main(desk: str) -> None:
    office = "http://" + os.environ["PREFLIGHT_SERVICE_LOS"]
    messages = [{"role": "system", "content": SYSTEM}]
    emit("agent_start", model_id=os.environ["PREFLIGHT_MODEL"])
    done: dict[str, str] = {}
    try:
        while (got := send(f"{office}/desks/{desk}/next"))[0] == 200:
            done[got[1]["id"]] = decide(office, desk, messages, got[1])
    except Refused as refusal:
        emit("agent_end", status="budget_spent", message=str(refusal))
    else:
        emit("agent_end", status="done", message=json.dumps(done))


if __name__ == "__main__":
    main(sys.argv[1])
