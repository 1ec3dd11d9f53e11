"""Training data by profile."""

from __future__ import annotations

from ..config import Profile
from .sample import Stream


def prepare_stream(stream: Stream, first: int, last: int) -> None:
    """Make now what the dialogues from `first` to before `last` need and what is then remembered.

    Else whichever training meets RefShapes' scenes first in its process would make them while its clock runs, and seem
    slower than those that find them made. Streams that read files have nothing to make.
    """
    from .refshapes import RefShapesStream

    if isinstance(stream, RefShapesStream):
        stream.prepare(first, last)


def build_stream(profile: Profile, seed: int) -> Stream:
    """The training stream that a profile names; photographs come from `data.root`, or are the bundled few."""
    if profile.data.name == "refshapes":
        from .refshapes import RefShapesStream

        data = profile.data
        return RefShapesStream(data.level, data.train_scenes, seed, data.tasks, data.turns)
    if profile.data.name == "mixture":
        from .mixture import open_mixture

        return open_mixture(profile, seed)
    from .photo_stream import PhotoStream

    return PhotoStream(profile, seed)
