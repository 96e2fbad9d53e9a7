"""Failures → delay: exponential backoff with full jitter. Pure."""

import attrs


@attrs.frozen(kw_only=True)
class Backoff:
    """How long to wait before the next attempt.

    Full jitter: the delay is uniform between 0 and the bound, so that many children that
    failed together do not come back together.
    """

    initial: float = attrs.field(default=1.0, validator=attrs.validators.ge(0))  # seconds
    maximum: float = attrs.field(default=60.0, validator=attrs.validators.ge(0))  # seconds
    factor: float = attrs.field(default=2.0, validator=attrs.validators.ge(1))

    def bound(self, failures: int) -> float:
        """The longest delay, in seconds, after so many failures in a row (at least 1)."""
        if failures < 1:
            raise ValueError("there is no delay before the first failure")
        if self.initial >= self.maximum:
            return self.maximum
        try:
            return min(self.maximum, self.initial * self.factor ** (failures - 1))
        except OverflowError:
            return self.maximum if self.initial else 0.0

    def delay(self, failures: int, uniform01: float) -> float:
        """Seconds to wait; ``uniform01`` is drawn uniformly from 0 to 1."""
        if not 0 <= uniform01 <= 1:
            raise ValueError("uniform01 lies between 0 and 1")
        return self.bound(failures) * uniform01
