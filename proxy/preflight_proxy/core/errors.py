"""The exceptions of operation: what can go wrong outside our code, under one base for both halves.

Expected answers (a refusal, a failed check) are values, not exceptions.
"""

import errno


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


def error_sentence(exc: Exception) -> str | None:
    """Return what failed, for a person, with the notes of the exception on lines of their own.

    None for an error that the program did not expect, and for a pipe whose reader is gone.
    """
    sentence = _sentence(exc)
    return None if sentence is None else "\n".join((sentence, *getattr(exc, "__notes__", ())))


def _sentence(exc: Exception) -> str | None:
    match exc:
        case OperatingError():
            return str(exc)
        case OSError() if exc.errno != errno.EPIPE:
            reason = (exc.strerror or str(exc) or type(exc).__name__).rstrip(".")
            place = "" if exc.filename is None else f"{exc.filename}: "
            if exc.errno in (errno.ENOSPC, errno.EDQUOT):
                return f"{place}{reason}. Free some room there, then run the command again."
            return f"{place}{reason}. Give another path, or change who may use this one."
        case RuntimeError() if str(exc).startswith("Symlink loop"):  # how Python before 3.13 reports ELOOP
            return f"{exc}: give another path."
    return None
