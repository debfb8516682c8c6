"""How many calls may be under way at once, learnt from the endpoint: additive increase, multiplicative decrease (AIMD).

It starts at what the user allows and never passes it. A call that was turned away for load halves it, once for all
the calls that were started before; each answer adds 1 / window, so that a round of answers adds one.
"""

from __future__ import annotations


class Window:
    """The number of calls allowed at once, between 1 and `most`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._size = float(most)
        self._started = 0
        self._cut_at = 0  # calls up to this number knew nothing of the last cut

    @property
    def size(self) -> int:
        """Calls allowed at once."""
        return int(self._size)

    def start(self) -> int:
        """Number of a call that starts now."""
        self._started += 1
        return self._started

    def answered(self) -> None:
        """A call came back whole."""
        self._size = min(float(self.most), self._size + 1 / self._size)

    def turned_away(self, call: int) -> None:
        """The endpoint had no room for that call."""
        if call > self._cut_at:
            self._size = max(1.0, self._size / 2)
            self._cut_at = self._started
