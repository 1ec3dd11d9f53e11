"""Training data by profile."""

from __future__ import annotations

from ..config import Profile
from .sample import Stream


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
