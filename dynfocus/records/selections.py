"""Define the record of which frames of a video were kept, and why."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Selection:
    """Which frames of one video were kept, and why: what a storyboard shows, as plain numbers.

    Attributes:
        seconds: time stamps of its T frames.
        kept: indices of the frames with b = 1, in time order.
        cones, rods: visual tokens by their kind; an encoder that keeps nothing counts all of its tokens as cones.
        peaks: rho * delta of each frame (Eq. 1-2); empty where the selector finds no events.
        nearest: which event each frame belongs to, as its place in ``representatives``.
        representatives: the frame that each event prototype grew around, in time order.
        scores: s of each event (Eq. 4), in [0, 1]; empty where the selector scores none.
        relevant: the frames of each relevant event, where it is known what the question needs.
        kept_rods: rods that each kept frame has beside its cones.
        own_scores: the selector's score of each frame, on a scale of its own; empty where it scores events, or nothing.
    """

    seconds: tuple[float, ...]
    kept: tuple[int, ...]
    cones: int
    rods: int
    peaks: tuple[float, ...] = ()
    nearest: tuple[int, ...] = ()
    representatives: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()
    relevant: tuple[tuple[int, ...], ...] = ()
    kept_rods: int = 2
    own_scores: tuple[float, ...] = ()

    @property
    def visual_tokens(self) -> int:
        """Tokens the video costs."""
        return self.cones + self.rods

    @property
    def scored(self) -> dict[int, float]:
        """The score of each frame that can be kept: s of representatives, else of all frames; empty without scores."""
        return dict(zip(self.representatives, self.scores, strict=True) if self.scores else enumerate(self.own_scores))

    @property
    def frame_scores(self) -> tuple[float, ...]:
        """For every frame, s of the event it belongs to, else its own score; empty without scores."""
        return tuple(self.scores[event] for event in self.nearest) if self.scores else self.own_scores

    def best(self, count: int = 6) -> tuple[int, ...]:
        """The kept frames with the highest scores, at most ``count``, in time order; equal scores rank by time."""
        scores = self.scored
        return tuple(sorted(sorted(self.kept, key=lambda frame: -scores.get(frame, 0.0))[:count]))
