"""Whether a connection that answers pings still hears: suspicion, probe, reset, verdict. Pure.

Theory of operation. One :class:`Ear` per connection; it outlives the sockets. It is told what
arrives and asked now and then what to do (:meth:`Ear.consider`):

    calm --(silent)--> suspects --(probe sent)--> waits --(no answer)--> undecided
         --(too improbable)--> reset --> verdict

- A *suspicion* is a silence that the account's usual traffic makes improbable; messages of ours
  that nobody confirms although people usually do; or, where there is hardly any traffic, a silence
  of days.
- The *probe* asks the own phone for something that comes back as a message. Any message ends the
  suspicion. Receipts alone do not: there are connections that lose only messages. No answer is
  evidence as far as the phone usually answers; it proves nothing, for the phone may be off. But a
  phone that confirms the question, while its answer never comes, leaves little doubt.
- The *reset* is a new socket. Its offline queue tells the truth: a stanza that was sent in the
  silence and waited there means that the connection was deaf. An empty queue means that it was
  not; then the next suspicion needs four times the silence.
- An announced queue that stands still is reset without a probe.

While the daemon itself is the cause (see :class:`Load`) nothing is suspected.
Times are seconds of ``clock``, which never jumps, except where they are said to be unix seconds.
"""

import collections
import collections.abc as cabc
import datetime as dt
import math
import typing as t

from actors.hearing_words import (
    DAY,
    Case,
    DeafSuspicion,
    HearingSettings,
    Kind,
    Load,
    Order,
    Signals,
    Stage,
    Tally,
)
from actors.traffic import Traffic

WEEK: t.Final = 7 * DAY
ASK_BELOW: t.Final = 3e-3  # odds of a silence; a question to the own phone disturbs nobody
UNLIKELY: t.Final = 3e-4  # odds of a silence without an answer of the phone
LOOK_AGAIN: t.Final = 0.02  # of a silence, until its odds are worked out anew
QUEUE_PATIENCE: t.Final = 90.0  # seconds that an announced queue may stand still
PROBE_PATIENCE: t.Final = 60.0  # seconds for the phone to answer
CONFIRM_PATIENCE: t.Final = 15.0  # seconds from the phone's receipt to its answer
AFTER_TROUBLE: t.Final = 60.0  # seconds in which the daemon catches up
MORE_PATIENCE: t.Final = 4.0  # after a false suspicion
MOST_PATIENCE: t.Final = 64.0
MOST_STRETCH: t.Final = 16.0
GRACE: t.Final = 5.0  # seconds between the server's time of a stanza and its arrival
FEW_OTHERS: t.Final = 3  # from where on receipts and the like count; their times are others'
BROKEN: t.Final = 60.0  # seconds that a broken socket may take to be noticed
MAX_CHATS: t.Final = 64  # that wait for a confirmation, remembered
FEW_CHATS: t.Final = 4  # in silence mean nothing
CONFIRM_PRIOR: t.Final = 10.0  # chats that are assumed never to have confirmed anything
CONFIRM_MEMORY: t.Final = 0.998  # per chat
PHONE_MEMORY: t.Final = 0.97  # per probe


class Ear:
    """The judgement on one connection, from life to life."""

    def __init__(
        self,
        settings: HearingSettings,
        clock: cabc.Callable[[], float],
        wall_clock: cabc.Callable[[], float],
    ) -> None:
        """``wall_clock`` gives unix seconds."""
        self.traffic = Traffic()
        self.tally = Tally()
        self._settings = settings
        self._clock = clock
        self._wall_clock = wall_clock
        self._listening = False
        self._life_at = now = clock()
        self._message_at: float | None = None
        self._other_at: float | None = None
        self._proved_at = now  # that everything sent until then was heard
        self._look_at = now
        self._stage = Stage.CALM
        self._why = ""
        self._by_odds = False  # the suspicion rests on the usual traffic alone
        self._answers = self._asked = 0.0  # of the phone, to probes
        self._probe_id: str | None = None
        self._probe_due = 0.0
        self._troubled_at = now - DAY
        self._stretch = 1.0  # of the silence under way, after probes that were answered
        self._patience = 1.0
        self._patience_at = now
        self._resets: collections.deque[float] = collections.deque(maxlen=64)
        self._case: Case | None = None
        self._server_skew = 0.0  # the server's unix time minus ``clock``
        self._announced = self._arrived = 0
        self._drained = False
        self._progress_at = now
        self._finding: str | None = None
        self._unconfirmed: dict[str, float] = {}  # chats with an acked message, since when
        self._receipt_at = now
        self._confirmed = self._expected = 0.0  # chats

    # ---- what is shown -------------------------------------------------------------------

    @property
    def suspicion(self) -> DeafSuspicion | None:
        """The suspicion, once the phone has not answered, until the truth is known."""
        if self._stage is not Stage.UNDECIDED and self._case is None:
            return None
        case = self._case
        since = self._proved_at if case is None else case.message_at
        at = self._wall_clock() - (self._clock() - since)
        why = self._why if case is None else case.why
        return DeafSuspicion(since=dt.datetime.fromtimestamp(at, dt.UTC), why=why)

    def signals(self) -> Signals:
        """What is known of the life under way."""
        now = self._clock()
        ages = [None if at is None else now - at for at in (self._message_at, self._other_at)]
        known = [age for age in ages if age is not None]
        return Signals(
            stanza_age=min(known, default=None),
            message_age=ages[0],
            other_age=ages[1],
            announced=self._announced,
            arrived=self._arrived,
            drained=self._drained,
            unconfirmed_chats=len(self._unconfirmed),
            stage=self._stage.value,
        )

    # ---- what happens --------------------------------------------------------------------

    def logged_in(self, server_time: int | None) -> None:
        """A new socket is up; ``server_time`` (unix seconds) as the server told it."""
        now = self._clock()
        self._server_skew = (self._wall_clock() if server_time is None else server_time) - now
        self._listening, self._drained, self._life_at = True, False, now
        self._announced = self._arrived = 0
        self._progress_at = now
        self._unconfirmed.clear()
        self._back_to_calm()

    def ended(self) -> None:
        """The socket is gone. If it was suspected, the next one's queue tells the truth."""
        if self._stage is not Stage.CALM and self._case is None:
            self._open_case(self._clock() - BROKEN, ordered=False)
        elif self._listening and self._drained:
            self._prove(self._clock())
        self._listening = False
        self._unconfirmed.clear()
        self._back_to_calm()

    def announced(self, total: int) -> None:
        """So many stanzas wait in the offline queue."""
        self._announced = total
        self._progress_at = self._clock()

    def drained(self) -> None:
        """The offline queue has been delivered."""
        if self._drained:
            return
        self._drained = True
        self._decide()
        self._proved_at = self._look_at = self._clock()

    def online(self) -> str | None:
        """The connection goes on to live stanzas; the sentence for people, if the queue showed
        that it was deaf before."""
        if self._arrived >= self._announced:
            self.drained()  # WhatsApp may have left out the end marker
        finding, self._finding = self._finding, None
        return finding

    def take(self, kind: Kind, *, offline: bool = False, sent_at: int = 0) -> None:
        """A stanza came; ``sent_at`` is the server's time of it."""
        now = self._clock()
        if offline:
            self._arrived += 1
            self._progress_at = now
            self._testify(kind, sent_at)
        if kind is Kind.OTHER:
            self._other_at = now
            return
        self._message_at = now
        if offline:
            return  # proves nothing about the socket before, and little about this one
        if self._stage in (Stage.WAITS, Stage.UNDECIDED):
            self._withdraw(kind)
        if kind is Kind.MESSAGE:
            self._stretch = 1.0
        self._prove(now)
        self._back_to_calm()

    def usual_message(self) -> None:
        """What came belongs to the usual traffic: a message in a chat that is kept."""
        self.traffic.heard(self._wall_clock())

    def receipt(self, stanza_id: str, chat: str) -> None:
        """Somebody, or the phone, confirms messages of ours."""
        now = self._clock()
        if self._stage is Stage.WAITS and self._probe_id == stanza_id:
            # The phone is on: its answer is due now.
            self._probe_due = min(self._probe_due, now + CONFIRM_PATIENCE)
            self._why = f"the phone got a question, but its answer did not come; {self._why}"
            self._by_odds, self._probe_id = False, None
            return
        self._receipt_at = now
        if self._unconfirmed.pop(chat, None) is not None:
            self._confirms(True)
        overdue = [
            other
            for other, since in self._unconfirmed.items()
            if now - since > self._settings.shortest
        ]
        for other in overdue:  # that one's phone is off
            del self._unconfirmed[other]
            self._confirms(False)

    def acknowledged(self, chat: str) -> None:
        """The server took a message of ours to a chat."""
        if len(self._unconfirmed) < MAX_CHATS:
            self._unconfirmed.setdefault(chat, self._clock())

    def _confirms(self, confirmed: bool) -> None:
        self._confirmed = CONFIRM_MEMORY * self._confirmed + confirmed
        self._expected = CONFIRM_MEMORY * self._expected + 1

    # ---- what to do ----------------------------------------------------------------------

    def consider(self, load: Load) -> Order | None:
        """What to do now; the caller carries it out, and tells of the probe.

        ``RESET`` is given once: the socket is to be closed at once.
        """
        if not (self._settings.enabled and self._listening):
            return None
        now = self._clock()
        if load.trouble() is not None:
            self._troubled_at = now
        if now - self._troubled_at < AFTER_TROUBLE:
            return None
        if not self._drained:
            if not self._stands_still(now):
                return None
            self._why = (
                f"WhatsApp announced that {_stanzas(self._announced)} waiting, and sent"
                f" {self._arrived or 'none'} of them"
            )
            return self._reset(now)
        match self._stage:
            case Stage.CALM if now >= self._look_at and self._doubts(now):
                self._stage = Stage.SUSPECTS
                self.tally.suspicions += 1
                return Order.PROBE
            case Stage.WAITS if now >= self._probe_due:
                self._stage = Stage.UNDECIDED
                return self._reset_if_due(now)
            case Stage.UNDECIDED:
                return self._reset_if_due(now)
            case _:
                return None

    def probe_sent(self, stanza_id: str) -> None:
        """The probe leaves now."""
        self.tally.probes += 1
        self._stage, self._probe_id = Stage.WAITS, stanza_id
        self._probe_due = self._clock() + PROBE_PATIENCE

    def probe_failed(self) -> None:
        """It cannot be sent for a reason of WhatsApp's: a reset decides."""
        if self._stage is Stage.WAITS:
            self._stage = Stage.UNDECIDED

    def probe_put_off(self) -> None:
        """It was not sent for a reason of ours; the suspicion is looked into again later."""
        self._troubled_at = self._clock()
        if self.wants_probe:
            self._back_to_calm()

    @property
    def wants_probe(self) -> bool:
        """Whether the probe that was ordered is still wanted."""
        return self._stage is Stage.SUSPECTS

    @property
    def why(self) -> str:
        """What the suspicion rests on."""
        return self._why

    # ---- judging -------------------------------------------------------------------------

    def _stands_still(self, now: float) -> bool:
        return (
            self._arrived < self._announced
            and now - max(self._progress_at, self._troubled_at) > QUEUE_PATIENCE
        )

    def _doubts(self, now: float) -> bool:
        """Whether the connection may be deaf; why is remembered."""
        silence = now - self._proved_at
        if silence < self._settings.shortest:
            self._look_at = self._proved_at + self._settings.shortest
            return False
        self._look_at = now + LOOK_AGAIN * silence
        self._by_odds = False
        if (why := self._unanswered(now)) is not None:
            self._why = why
        elif 0 < self._settings.checkup <= silence:
            self._why = f"no message for {_span(silence)}"
        else:
            expected, odds = self._odds(now)
            if odds >= ASK_BELOW:
                return False
            self._by_odds = True
            self._why = (
                f"no message for {_span(silence)}, in which there are usually some"
                f" in about {expected:.0f} different minutes"
            )
        return True

    def _odds(self, now: float) -> tuple[float, float]:
        """The active minutes that are usual in the silence until now, and how probable it is."""
        wall = self._wall_clock()
        expected = self.traffic.expected(wall - (now - self._proved_at), wall)
        allowed = self._current_patience(now) * self._stretch
        return expected, self.traffic.odds_of_silence(expected / allowed)

    def _reset_if_due(self, now: float) -> Order | None:
        if self._by_odds:
            if now < self._look_at:
                return None
            self._look_at = now + LOOK_AGAIN * (now - self._proved_at)
            unanswered = 1 - (self._answers + 1) / (self._asked + 2)
            if self._odds(now)[1] * unanswered >= UNLIKELY:
                return None
        return self._reset(now)

    def _withdraw(self, kind: Kind) -> None:
        """A message ends the suspicion."""
        answered = kind is Kind.PEER and self._stage is Stage.WAITS
        self.tally.answered += answered
        self._stretch = min(MOST_STRETCH, 2 * self._stretch)
        self._learn_phone(answered)

    def _learn_phone(self, answered: bool) -> None:
        self._answers = PHONE_MEMORY * self._answers + answered
        self._asked = PHONE_MEMORY * self._asked + 1

    def _unanswered(self, now: float) -> str | None:
        """Messages of ours that nobody confirms, where people usually do."""
        shortest = self._settings.shortest
        if now - self._receipt_at < shortest:
            return None
        waiting = sum(now - since >= shortest for since in self._unconfirmed.values())
        share = min(0.9, self._confirmed / (self._expected + CONFIRM_PRIOR))
        judged = waiting / (self._current_patience(now) * self._stretch)
        if waiting < FEW_CHATS or (1 - share) ** judged >= UNLIKELY:
            return None
        return f"for {_span(now - self._receipt_at)} nobody confirms messages to {waiting} chats"

    def _current_patience(self, now: float) -> float:
        return max(1.0, self._patience * math.exp2((self._patience_at - now) / WEEK))

    def _reset(self, now: float) -> Order | None:
        """A reset, unless there were too many; the pauses between them double."""
        recent = [at for at in self._resets if now - at < DAY]
        pause = self._settings.shortest * 2.0 ** (len(recent) - 1)
        if len(recent) >= self._settings.resets_per_day or (recent and now - recent[-1] < pause):
            self._stage = Stage.UNDECIDED
            return None
        self._resets.append(now)
        self.tally.resets += 1
        self._listening = False
        if self._case is None:
            self._open_case(now, ordered=True)
        else:  # the truth about the first one is still to be found
            self._case.reset_at, self._case.ordered = now, True
        self._stage = Stage.CALM
        return Order.RESET

    def _open_case(self, reset_at: float, *, ordered: bool) -> None:
        heard_at = self._proved_at
        other_at = max(heard_at, self._other_at or heard_at)
        self._case = Case(self._why, heard_at, other_at, self._life_at, reset_at, ordered)

    def _testify(self, kind: Kind, sent_at: int) -> None:
        """A stanza from the offline queue: was it sent in the silence?"""
        case = self._case
        if case is None:
            return
        sent = sent_at - self._server_skew  # in seconds of the clock, to a second or so
        heard_at = case.other_at if kind is Kind.OTHER else case.message_at
        if heard_at + GRACE < sent < case.reset_at - GRACE:
            case.messages += kind is not Kind.OTHER
            case.others += kind is Kind.OTHER
            case.oldest = min(sent_at, case.oldest or sent_at)

    def _decide(self) -> None:
        """The queue is empty, so the truth about the last reset is known."""
        case, self._case = self._case, None
        if case is None:
            return
        now = self._clock()
        patience, self._patience_at = self._current_patience(now), now
        if not case.messages and case.others < FEW_OTHERS:
            self.tally.false += 1
            self._learn_silence(case.message_at, case.reset_at)
            self._patience = min(MOST_PATIENCE, MORE_PATIENCE * patience)
            return
        self.tally.deaf += 1
        self._patience = max(1.0, patience / MORE_PATIENCE)
        if case.ordered and self._resets:
            self._resets.pop()  # one that helped is not held against it
        deaf_for = case.reset_at - max(case.since, case.oldest - self._server_skew)
        self._finding = (
            f"it had been deaf for {_span(deaf_for)} or longer, though pings were answered:"
            f" {_stanzas(case.messages + case.others)} held back and came with a new socket"
        )

    def _prove(self, now: float) -> None:
        """Everything that was sent until now has been heard."""
        self._learn_silence(self._proved_at, now)
        self._proved_at = self._look_at = now

    def _learn_silence(self, since: float, until: float) -> None:
        wall = self._wall_clock() - self._clock()
        self.traffic.listened(wall + since, wall + until)

    def _back_to_calm(self) -> None:
        self._stage, self._probe_id, self._why = Stage.CALM, None, ""


def _stanzas(number: int) -> str:
    return "1 stanza was" if number == 1 else f"{number} stanzas were"


def _span(seconds: float) -> str:
    """A length of time for people."""
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / DAY:.1f} days"
