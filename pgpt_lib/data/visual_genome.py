"""Visual Genome: regions with a phrase each (Krishna et al., IJCV 2017).

    ROOT/visual_genome/region_descriptions.json  [{"id", "regions": [{region_id, x, y, width, height, phrase}]}]
    ROOT/visual_genome/image_data.json           [{image_id, width, height, coco_id, flickr_id}]
    ROOT/visual_genome/VG_100K, VG_100K_2        pictures

Half of its photographs are COCO's, under other names and often at another size: `coco_id` tells.
"""

from __future__ import annotations

from array import array
from pathlib import Path

from ..errors import InputError
from ..regions import Region
from .json_files import naming, records_of
from .phrasings import asked, words
from .pictures import coco_key
from .reader import Ask, Reader, answer
from .sam_masks import SamMasks, box_name
from .sample import Turn

Box = tuple[float, float, float, float]  # x, y, width, height in pixels


def read_pictures(path: Path) -> dict[int, tuple[tuple[int, int], tuple[str, ...]]]:
    """(height, width) and every known name of each picture, by Visual Genome's number."""
    found = {}
    for entry in records_of(path, None, ("image_id", "width", "height")):
        number = int(entry["image_id"])
        names = [f"visual_genome/{number}"]
        names += [coco_key(entry["coco_id"])] if entry.get("coco_id") else []
        names += [f"flickr/{int(entry['flickr_id'])}"] if entry.get("flickr_id") else []
        found[number] = (int(entry["height"]), int(entry["width"])), tuple(names)
    return found


class VisualGenome(Reader):
    """Two records a region: find it by its phrase, and describe it. Masks are SAM's, where they were drawn."""

    name = "visual_genome"

    def __init__(self, root: str | Path, split: str = "train") -> None:
        """Read the regions; boxes are cut off at the picture's border, those without area are left out.

        Raises:
            InputError: a missing or damaged file, or a region of a picture that image_data.json lacks.
        """
        super().__init__(root)
        if split != "train":
            raise InputError(f"visual_genome has no split {split!r}; it has train")
        folder = self.root / "visual_genome"
        for name in ("region_descriptions.json", "image_data.json"):
            if not (folder / name).is_file():
                raise InputError(f"no {folder / name}: python -m pgpt_lib data visual_genome --root {self.root}")
        self.masks = SamMasks(folder)
        self._pictures = read_pictures(folder / "image_data.json")
        self._phrases: list[str] = []
        self._ids, self._images, self._corners = array("q"), array("q"), array("d")  # 5.4 million: no objects
        path = folder / "region_descriptions.json"
        for entry in records_of(path, None, ("id", "regions")):
            with naming(path):
                for region in entry["regions"]:
                    self._add(int(region.get("image_id", entry["id"])), region)

    def _add(self, image: int, region: dict) -> None:
        if image not in self._pictures:
            raise InputError(f"region {region['region_id']} is of picture {image}, which image_data.json lacks")
        height, width = self._pictures[image][0]
        x1, y1 = max(0.0, float(region["x"])), max(0.0, float(region["y"]))
        x2 = min(float(width), float(region["x"]) + float(region["width"]))
        y2 = min(float(height), float(region["y"]) + float(region["height"]))
        phrase = words(region["phrase"])
        if x2 > x1 and y2 > y1 and phrase:
            self._ids.append(int(region["region_id"]))
            self._images.append(image)
            self._corners.extend((x1, y1, x2 - x1, y2 - y1))
            self._phrases.append(phrase)

    def __len__(self) -> int:
        return 2 * len(self._phrases)

    def record_id(self, index: int) -> str:
        return f"{self._ids[index // 2]}-{self.task(index)}"

    def image_key(self, index: int) -> str:
        return f"visual_genome/{self._images[index // 2]}"

    def aliases(self, index: int) -> tuple[str, ...]:
        return self._pictures[self._images[index // 2]][1]

    def size(self, index: int) -> tuple[int, int]:
        return self._pictures[self._images[index // 2]][0]

    def task(self, index: int) -> str:
        return "region_caption" if index % 2 else "rec"

    def pack_key(self, index: int) -> str:
        return f"{self.image_key(index)} {self.task(index)}"  # a region's phrase must not stand in an earlier question

    def boxes(self, index: int) -> list[Box]:
        """The record's box, for `sam_labels`."""
        x, y, width, height = self._corners[4 * (index // 2) : 4 * (index // 2) + 4]
        return [(x, y, width, height)]

    def turns(self, index: int, ask: Ask) -> tuple[Turn, ...]:
        box, phrase = self.boxes(index)[0], self._phrases[index // 2]
        mask = self.masks.of(self.image_key(index)).get(box_name(box)) if self.masks else None
        region = Region.from_coco(box, mask, *self.size(index))
        if self.task(index) == "rec":
            return Turn("user", asked(ask("rec"), phrase)), answer([region])
        return Turn("user", ask("region_caption"), (region,)), Turn("assistant", phrase)
