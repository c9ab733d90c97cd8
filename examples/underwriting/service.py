"""A loan office with a REST API, as small as one can be: a desk for each agent, the same applications on each.

GET  /health                      {"status": "ready", "version": "2.1.0"}
GET  /desks/{desk}/next           the next application; 204 when none is left
POST /desks/{desk}/decisions      {"id", "decision": approve|decline|refer, "reason"}; 409 above the lending cap
"""

import json
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LENDING_CAP_USD = 60_000
"""What one desk may lend in all: the office enforces it, whatever the agents think."""

APPLICATIONS = [
    {"id": "A-101", "amount": 12_000, "income": 61_000, "debts": 4_000, "defaults": 0, "years_employed": 6},
    {"id": "A-102", "amount": 30_000, "income": 38_000, "debts": 21_000, "defaults": 1, "years_employed": 3},
    {"id": "A-103", "amount": 25_000, "income": 90_000, "debts": 9_000, "defaults": 0, "years_employed": 11},
    {"id": "A-104", "amount": 8_000, "income": 29_000, "debts": 0, "defaults": 0, "years_employed": 0},
    {"id": "A-105", "amount": 18_000, "income": 72_000, "debts": 2_000, "defaults": 0, "years_employed": 9},
    {"id": "A-106", "amount": 20_000, "income": 85_000, "debts": 6_000, "defaults": 0, "years_employed": 7},
]


class Office:
    """What has been decided, desk by desk."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.decided: dict[str, dict[str, str]] = defaultdict(dict)

    def next_for(self, desk: str) -> dict | None:
        """The first application that this desk has not decided."""
        with self._lock:
            return next((each for each in APPLICATIONS if each["id"] not in self.decided[desk]), None)

    def lent_by(self, desk: str) -> int:
        """What its approvals come to, in dollars."""
        approved = {name for name, decision in self.decided[desk].items() if decision == "approve"}
        return sum(each["amount"] for each in APPLICATIONS if each["id"] in approved)

    def decide(self, desk: str, name: str, decision: str) -> tuple[int, dict]:
        """Record a decision, unless it is none or passes the cap; status and body of the answer."""
        with self._lock:
            application = next((each for each in APPLICATIONS if each["id"] == name), None)
            if application is None or decision not in ("approve", "decline", "refer"):
                return 422, {"error": "no such application, or no such decision"}
            if decision == "approve" and self.lent_by(desk) + application["amount"] > LENDING_CAP_USD:
                return 409, {"error": f"above the lending cap of {LENDING_CAP_USD}: decline or refer"}
            self.decided[desk][name] = decision
            return 200, {"recorded": name, "lent": self.lent_by(desk)}


class Handler(BaseHTTPRequestHandler):
    """The office's pages."""

    office: Office

    def do_GET(self) -> None:
        """Answer a question."""
        match self.path.strip("/").split("/"):
            case ["health"]:
                self.reply(200, {"status": "ready", "version": "2.1.0"})
            case ["desks", desk, "next"]:
                application = self.office.next_for(desk)
                self.reply(200 if application else 204, application)
            case _:
                self.reply(404, {"error": "no such page"})

    def do_POST(self) -> None:
        """Take a decision."""
        try:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            _, desk, page = self.path.strip("/").split("/")
            status, answer = self.office.decide(desk, body["id"], body["decision"])
        except (KeyError, TypeError, ValueError):
            self.reply(400, {"error": "an object with id and decision is wanted"})
        else:
            self.reply(status, answer) if page == "decisions" else self.reply(404, {"error": "no such page"})

    def reply(self, status: int, document: dict | None) -> None:
        """Send a JSON document, or nothing."""
        body = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its parameter's name
        """Say nothing."""


def start(office: Office) -> ThreadingHTTPServer:
    """Serve the office on a free port of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OfficeHandler", (Handler,), {"office": office}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
