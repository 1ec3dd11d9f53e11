"""A loaded model that answers, and one person's desk in front of it: the picture, the region, the question."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..checkpoint_files import find_checkpoint
from ..commands.ask import make_turn, reply_to
from ..data.sample import VIS
from ..errors import InputError
from ..project import report_folder
from ..regions import Region
from .intake import Picture, pictures, read_upload
from .pointing import clicked, dragged_box, is_click

if TYPE_CHECKING:
    from ..generation import Answer
    from ..model import PerceptionGPT

MAX_QUESTION = 160  # characters; a word that the model does not know is spelled, and its context is short
OWN = "your upload"
PROFILES = ("cpu", "photos", "smoke")  # whose reports are looked through for a checkpoint, in this order


@dataclass(frozen=True)
class Reply:
    """A model's answer and how it came about.

    Attributes:
        question: as it was asked.
        given: the region that its `<vis>` stood for.
        text: the answer's words; `<vis>` stands for each of `regions`.
        tokens, kinds: the whole stream, question and answer, for `diagrams.token_strip`.
        weights: of equation 1, one a layer of the tower.
        seconds: from question to answer.
        notes: what a person should know, one sentence each.
    """

    question: str
    given: Region | None
    text: str
    regions: tuple[Region, ...]
    tokens: tuple[str, ...]
    kinds: tuple[str, ...]
    weights: tuple[float, ...]
    seconds: float
    notes: tuple[str, ...] = ()


class Speaker:
    """A trained model that answers one question at a time, whoever asks."""

    def __init__(self, model: PerceptionGPT, name: str) -> None:
        self.model, self.name = model.eval(), name
        self._lock = threading.Lock()

    @classmethod
    def load(cls, checkpoint: Path) -> Speaker:
        """The model of a checkpoint.

        Raises:
            InputError: there is none.
        """
        from ..checkpoint import load_checkpoint

        model, state = load_checkpoint(checkpoint)
        return cls(model, f"profile {model.profile.name}, trained for {state.step} steps")

    @property
    def level(self) -> str:
        """RefShapes' level that the model was trained on; that of `cpu` for other data."""
        data = self.model.profile.data
        return data.level if data.name == "refshapes" else "cpu"

    def ask(self, picture: Picture, question: str, region: Region | None = None) -> Reply:
        """The answer to a question about a picture.

        Args:
            region: what `<vis>` in the question stands for; without `<vis>` it is left aside.

        Raises:
            InputError: no question, one that is too long, or `<vis>` without a region or more than once.
        """
        if not question.strip():
            raise InputError("ask something, as: find the red circle .")
        if len(question) > MAX_QUESTION:
            raise InputError(f"the question has {len(question)} characters; keep it below {MAX_QUESTION}")
        slots = question.count(VIS)
        if slots > 1:
            raise InputError(f"{VIS} stands for one region: write it once, as in: what is {VIS} ?")
        if slots and region is None:
            raise InputError(f"{VIS} stands for a region: draw a box on the picture, or click an object, then ask")
        given = region if slots else None
        began = time.perf_counter()
        with self._lock:
            sample, answer = reply_to(self.model, picture.pixels, make_turn(question, given))
        chat = self.model.chat
        prompt = chat.encode(sample, generation=True)
        tokens = [
            "image" if image else chat.decode([i]) or "·"
            for i, image in zip(prompt.input_ids, prompt.image_mask, strict=True)
        ]
        kinds = ["image" if image else "user" for image in prompt.image_mask]
        said = [chat.decode([i]) or "end" for i in answer.token_ids]
        kinds += ["answer"] * len(said)
        tokens += said
        return Reply(
            question,
            given,
            answer.text,
            tuple(answer.regions),
            tuple(tokens),
            tuple("vis" if token == VIS else kind for token, kind in zip(tokens, kinds, strict=True)),
            tuple(self.model.fusion.weights().tolist()),
            time.perf_counter() - began,
            self._notes(picture, sample.turns[0].text, region is not None and not slots, answer),
        )

    def _notes(self, picture: Picture, question: str, unused: bool, answer: Answer) -> tuple[str, ...]:
        """What may surprise about an answer."""
        chat, notes = self.model.chat, []
        if chat.template.closed_words:
            unknown = chat.tokenizer.get_vocab().get("<unk>")
            words = {w: chat.words(w) for w in question.split() if w != VIS}
            strange = [w for w, ids in words.items() if unknown in ids or (len(ids) > 1 and any(map(str.isalpha, w)))]
            if strange:
                notes.append(f"The model was never taught: {', '.join(strange)}.")
        if unused:
            notes.append(f"The marked region was left aside, since the question has no {VIS}.")
        if not picture.drawn and self.model.profile.data.name == "refshapes":
            notes.append("The model was trained on drawn shapes alone: of other pictures it speaks in their words.")
        if not answer.text:
            notes.append("The model said nothing. A short training often ends so.")
        return tuple(notes)


class Desk:
    """One person's picture and region in front of a model."""

    def __init__(self, speaker: Speaker) -> None:
        self.speaker = speaker
        self.offered = pictures(speaker.level)
        self.region: Region | None = None
        self.chosen = next(iter(self.offered))
        self.picture = self.choose(self.chosen)

    def choose(self, name: str) -> Picture:
        """Put one of the offered pictures on the desk."""
        if name not in self.offered:
            raise InputError(f"there is no picture {name!r}; there are {', '.join(self.offered)}")
        return self._put(name, self.offered[name]())

    def upload(self, name: str, data: bytes) -> Picture:
        """Put an uploaded file on the desk and, in place of an earlier one, among the pictures on offer.

        Where it is refused, the picture there stays. Raises as `read_upload`.
        """
        picture = read_upload(name, data)
        self.offered[OWN] = lambda: picture
        return self._put(OWN, picture)

    def mark(self, start: tuple[float, float], end: tuple[float, float]) -> Region:
        """Mark the box of a drag, or the object below a click.

        Args:
            start, end: (x, y) in shares of the picture.

        Raises:
            InputError: a click where no object is known, or a drag beside the picture.
        """
        if is_click(start, end):
            known = [r for r in self.picture.objects if r.box is not None]
            index = clicked([r.box for r in known if r.box is not None], *end)
            if index is None:
                raise InputError("no object is known at this place: press the button and drag a box instead")
            self.region = known[index]
        else:
            x1, y1, x2, y2 = dragged_box(start, end)
            if x1 >= x2 or y1 >= y2:
                raise InputError("this box has no area within the picture: drag across what you mean")
            self.region = Region((x1, y1, x2, y2))
        return self.region

    def ask(self, question: str) -> Reply:
        """Ask about what lies on the desk; raises as `Speaker.ask`."""
        return self.speaker.ask(self.picture, question, self.region)

    def _put(self, name: str, picture: Picture) -> Picture:
        self.chosen, self.picture, self.region = name, picture, None
        return picture


def default_checkpoint() -> Path:
    """The checkpoint of a series that ran here.

    Raises:
        InputError: no profile's report holds one.
    """
    for profile in PROFILES:
        folder = report_folder(profile) / "checkpoint"
        if folder.is_dir() and any(folder.glob("step_*/COMPLETE")):
            return find_checkpoint(folder)[0]
    raise InputError(
        "no trained model in reports/: name one with --checkpoint DIR, or train one with "
        "python -m pgpt_lib train --profile smoke --out DIR"
    )
