"""What keeps the API from being served."""


class ApiError(Exception):
    """Base of the errors of this package."""


class ControlSocketError(ApiError):
    """The control socket cannot be made; the text says what to do."""
