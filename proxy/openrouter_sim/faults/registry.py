"""Faults by name, so that a scenario file can ask for one."""

from __future__ import annotations

from dataclasses import fields
from decimal import Decimal
from typing import Any

from openrouter_sim.calls.fault import Fault
from openrouter_sim.faults.byok import Byok
from openrouter_sim.faults.cache_hit import CacheHit
from openrouter_sim.faults.chop import Chop
from openrouter_sim.faults.close_keepalive import CloseKeepalive
from openrouter_sim.faults.cut import Reset, SilentClose
from openrouter_sim.faults.early_answer import CloseOnRequest, EarlyAnswer
from openrouter_sim.faults.echo_key import EchoKey
from openrouter_sim.faults.endless import CommentDrip, NeverEnds
from openrouter_sim.faults.error_first import ErrorFirst
from openrouter_sim.faults.error_mid import ErrorMid
from openrouter_sim.faults.gzip_body import GzipBody
from openrouter_sim.faults.http_error import HttpError
from openrouter_sim.faults.huge_event import HugeEvent
from openrouter_sim.faults.identity import GenerationNever, HideGenerationId, KeyUsageLag, WrongGenerationCost
from openrouter_sim.faults.late_charge import LateCharge
from openrouter_sim.faults.no_money import NoMoney
from openrouter_sim.faults.price_rise import ExtraEndpoint, PriceRise
from openrouter_sim.faults.redirect import Redirect
from openrouter_sim.faults.slow import SilentStream, Slow
from openrouter_sim.faults.usage import MissingUsage, NullCost, ReprFloat
from openrouter_sim.faults.whitespace import Whitespace
from openrouter_sim.faults.wrong_bound import WrongBound
from openrouter_sim.faults.zero_cost import ZeroCost

_ALL: tuple[type[Fault], ...] = (
    Byok,
    CacheHit,
    Chop,
    CloseKeepalive,
    SilentClose,
    Reset,
    EarlyAnswer,
    CloseOnRequest,
    EchoKey,
    CommentDrip,
    NeverEnds,
    ErrorFirst,
    ErrorMid,
    GzipBody,
    HttpError,
    HugeEvent,
    HideGenerationId,
    GenerationNever,
    WrongGenerationCost,
    KeyUsageLag,
    LateCharge,
    NoMoney,
    PriceRise,
    ExtraEndpoint,
    Redirect,
    Slow,
    SilentStream,
    MissingUsage,
    NullCost,
    ReprFloat,
    Whitespace,
    WrongBound,
    ZeroCost,
)

FAULTS: dict[str, type[Fault]] = {kind.name: kind for kind in _ALL}
"""Every fault by its name."""


def make_fault(name: str, parameters: dict[str, Any] | None = None) -> Fault:
    """Return the named fault with these parameters (numbers are accepted for Decimal ones).

    Raises:
        ValueError: no fault has that name, or it has no such parameter.
    """
    if name not in FAULTS:
        raise ValueError(f"no fault is named {name!r}; there are {', '.join(sorted(FAULTS))}")
    kind = FAULTS[name]
    known = {field.name: field for field in fields(kind)}
    values = dict(parameters or {})
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(f"fault {name} has no {', '.join(unknown)}")
    for key, value in values.items():
        if known[key].type == "Decimal":
            values[key] = Decimal(str(value))
    return kind(**values)
