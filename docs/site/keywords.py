"""Lists the keywords of `run_multi` and `run_container` in the reference. In the source they are `**options` of a TypedDict."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from griffe import Attribute, Expr, ExprSubscript, Extension, Module, Parameter, ParameterKind, Parameters

from agent_preflight import run_container, run_multi

KEYWORDS = ("options.settings.TrialOptions", "options.settings.RunOptions")
"""The TypedDicts, which have the types as the source writes them."""


class ListedKeywords(Extension):
    """Replaces the parameters of both functions by those that `inspect.signature` lists, with their defaults."""

    def on_package(self, *, pkg: Module, **_: object) -> None:
        """Change the signatures when the package is loaded."""
        if pkg.name != "agent_preflight":
            return
        types = {keyword.name: _type(keyword) for name in KEYWORDS for keyword in pkg[name].attributes.values()}
        for function in (run_multi, run_container):
            shown = pkg[f"runner.api.{function.__name__}"]
            parameters = inspect.signature(function).parameters.values()
            shown.parameters = Parameters(*(_parameter(parameter, types) for parameter in parameters))


def _type(keyword: Attribute) -> str | Expr | None:
    """Return a keyword's type without `Required`, because the signature shows that there is no default."""
    annotation = keyword.annotation
    if isinstance(annotation, ExprSubscript) and annotation.canonical_name == "Required":
        return annotation.slice
    return annotation


def _parameter(parameter: inspect.Parameter, types: Mapping[str, str | Expr | None]) -> Parameter:
    is_keyword = parameter.kind is parameter.KEYWORD_ONLY
    return Parameter(
        parameter.name,
        annotation=types.get(parameter.name, parameter.annotation),
        kind=ParameterKind.keyword_only if is_keyword else ParameterKind.positional_or_keyword,
        default=None if parameter.default is parameter.empty else repr(parameter.default),
    )
