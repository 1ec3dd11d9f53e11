"""Training data by profile."""

from __future__ import annotations

from ..config import Profile
from ..errors import InputError
from .sample import Stream


def build_stream(profile: Profile, seed: int) -> Stream:
    """The training stream that a profile names.

    Raises:
        InputError: a profile on photographs without their folder.
    """
    if profile.data.name == "refshapes":
        from .refshapes import RefShapesStream

        data = profile.data
        return RefShapesStream(data.level, data.train_scenes, seed, data.tasks, data.turns)
    if profile.data.root is None:
        raise InputError(f"profile {profile.name} needs data.root, the folder of the REFER layout")
    from .photo_stream import PhotoStream

    return PhotoStream(profile, seed)
