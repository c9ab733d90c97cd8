"""Why a call is refused or failed, and how that is said."""
