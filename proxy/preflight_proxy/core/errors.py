"""The exceptions of operation: what can go wrong outside our code, under one base for both halves.

Expected answers (a refusal, a failed check) are values, not exceptions.
"""


class OperatingError(RuntimeError):
    """Something outside the code failed: a network, a disk, an engine, a setting. Its text is written for a person."""


class ConfigError(OperatingError):
    """A setting is missing, malformed or contradicts another."""


class UpstreamError(OperatingError):
    """OpenRouter could not be reached, broke off, or answered what its API does not allow."""


class LedgerError(OperatingError):
    """The store of accounts and entries cannot be opened, read or written."""


class LedgerInUseError(LedgerError):
    """Another process has the store, and ends one day: it may be tried again."""
