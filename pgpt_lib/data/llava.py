"""LLaVA-Instruct: conversations, descriptions and reasoning about COCO photographs (Liu et al., NeurIPS 2023).

    ROOT/llava/llava_instruct_150k.json   [{"id", "image", "conversations": [{"from": "human" or "gpt", "value"}]}]

The caption data that LLaVA curated (its pretraining list, `chat.json` or `blip_laion_cc_sbu_558k.json`) and the later
mixtures have the same form; their pictures that are none of COCO lie in ROOT/llava/images under the names in the file.
Entries without a picture are left out and counted.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from ..errors import InputError
from .json_files import first_of, naming, records_of
from .phrasings import words
from .pictures import coco_key, coco_number
from .reader import Ask, Reader
from .sample import Turn
from .visual_genome import read_pictures

FILES = ("llava_instruct_150k.json", "llava_v1_5_mix665k.json", "chat.json", "blip_laion_cc_sbu_558k.json")
_ROLES = {"human": "user", "gpt": "assistant"}


class LLaVA(Reader):
    """One record a conversation, in its own words.

    Attributes:
        without_picture: entries that were left out because they are about no picture.
    """

    name = "llava"
    packs = False

    def __init__(self, root: str | Path, split: str = "train", file: str | None = None) -> None:
        """Read the conversations.

        Args:
            root: the folder that holds `llava` and `images`.
            split: train; there is no other.
            file: a list in ROOT/llava; by default the first of `FILES` that is there.

        Raises:
            InputError: a missing or damaged file, or a conversation in which the speakers do not take turns.
        """
        super().__init__(root)
        if split != "train":
            raise InputError(f"llava has no split {split!r}; it has train")
        path = first_of(self.root / "llava", [file] if file else FILES, "llava")
        self._records: list[tuple[str, str, tuple[Turn, ...]]] = []
        self.without_picture = 0
        self._genome: dict[int, tuple[str, ...]] | None = None
        for number, entry in enumerate(records_of(path, None, ("conversations",))):
            if not entry.get("image"):
                self.without_picture += 1
                continue
            name = str(entry.get("id", number))
            with naming(path):
                self._records.append((name, _key(str(entry["image"])), _conversation(name, entry["conversations"])))

    def __len__(self) -> int:
        return len(self._records)

    def record_id(self, index: int) -> str:
        return f"{self._records[index][0]}-{index}"  # ids repeat: a photograph has several conversations

    def image_key(self, index: int) -> str:
        return self._records[index][1]

    def aliases(self, index: int) -> tuple[str, ...]:
        key = self.image_key(index)
        number = _genome_number(key)
        if number is None:
            return (key,)
        if self._genome is None:
            path = self.root / "visual_genome" / "image_data.json"
            if not path.is_file():
                raise InputError(
                    f"{key} is Visual Genome's, and only {path} tells which of its pictures are COCO's: "
                    f"python -m pgpt_lib data visual_genome --root {self.root} --no-pictures"
                )
            self._genome = {number: names for number, (_, names) in read_pictures(path).items()}
        return (key, *self._genome.get(number, ()))

    def size(self, index: int) -> tuple[int, int]:
        return self.pictures.size(self.image_key(index))  # the file does not say

    def task(self, index: int) -> str:
        return "conversation"

    def turns(self, index: int, ask: Ask) -> tuple[Turn, ...]:
        return self._records[index][2]


def _key(image: str) -> str:
    """The key of a picture: COCO's by its number, others, Visual Genome's among them, by folder and name."""
    path = PurePosixPath(image)
    number = coco_number(image)
    if number is not None:
        return coco_key(number)
    if path.parts[:1] == ("vg",) and path.stem.isdigit():
        return f"visual_genome/{path.stem}"
    return f"llava/{image}"


def _genome_number(key: str) -> int | None:
    """Visual Genome's number of a picture that the later mixtures took from it, or from GQA, which is made of it."""
    path = PurePosixPath(key)
    of_genome = path.parts[0] == "visual_genome" or path.parts[:2] == ("llava", "gqa")
    return int(path.stem) if of_genome and path.stem.isdigit() else None


def _conversation(name: str, entries: list[dict]) -> tuple[Turn, ...]:
    """Turns without the mark that stands for the picture, which `chat` places itself."""
    turns = []
    for place, entry in enumerate(entries):
        role = _ROLES.get(entry["from"])
        if role != ("user", "assistant")[place % 2]:
            raise InputError(f"conversation {name}: turn {place} is from {entry['from']!r}; human and gpt take turns")
        turns.append(Turn(role, words(str(entry["value"]).replace("<image>", " "))))  # type: ignore[arg-type]
    if not turns or len(turns) % 2:
        raise InputError(f"conversation {name}: {len(turns)} turns; every question needs an answer")
    return tuple(turns)
