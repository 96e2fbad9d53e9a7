"""Why a socket could not be opened, in the system's words."""

from supervisor.crash import leaves


def why(error: BaseException) -> str:
    """What is behind an error of trio's, which tries several addresses and names none."""
    first = next(leaves(error.__cause__ or error))
    return getattr(first, "strerror", None) or str(first) or type(first).__name__
