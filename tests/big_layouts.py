"""Writes small copies of the big data sets, file by file in their true formats, for tests of readers and mixtures.

COCO photographs 1 to 6 are of 40 x 60 pixels (height, width). Photograph 5 is in all val and test splits of RefCOCO and
RefCOCO+, 6 in those of RefCOCOg.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import refer_layout as refer
from PIL import Image

from pgpt_lib.regions import mask_to_rle

SIZE = (40, 60)
SQUARE = [[10, 10, 30, 10, 30, 30, 10, 30]]
COCO = range(1, 7)
FLICKR_OF_5 = 8119368305


def picture(path: Path, size: tuple[int, int] = SIZE) -> None:
    """A photograph of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)).save(path)


def write(path: Path, content: Any) -> Path:
    """JSON, folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def coco(root: Path) -> None:
    """Captions and instances of 2014: two dogs and one person in 1, a crowd in 2, nothing in the others."""
    images = [{"id": i, "file_name": f"COCO_train2014_{i:012d}.jpg", "height": 40, "width": 60} for i in COCO]
    for i in COCO:
        picture(root / "images" / "train2014" / f"COCO_train2014_{i:012d}.jpg")
    captions = [{"id": 10 * i + n, "image_id": i, "caption": f"A dog  number {n}.\n"} for i in COCO for n in (1, 2)]
    write(root / "coco/annotations/captions_train2014.json", {"images": images, "annotations": captions})
    annotations = [
        {"id": 101, "image_id": 1, "category_id": 18, "bbox": [30, 5, 10, 10], "segmentation": [], "iscrowd": 0},
        {"id": 102, "image_id": 1, "category_id": 18, "bbox": [10, 10, 20, 20], "segmentation": SQUARE, "iscrowd": 0},
        {"id": 103, "image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5], "segmentation": [[0, 0, 5, 0, 5, 5]]},
        {
            "id": 104,
            "image_id": 2,
            "category_id": 1,
            "bbox": [0, 0, 10, 40],
            "segmentation": {"size": [40, 60], "counts": [0, 400, 2000]},
            "iscrowd": 1,
        },
        {"id": 105, "image_id": 5, "category_id": 18, "bbox": [10, 10, 20, 20], "segmentation": SQUARE, "iscrowd": 0},
    ]
    categories = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}, {"id": 49, "name": "knife"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write(root / "coco/annotations/instances_train2014.json", content)


def refcoco(root: Path) -> None:
    """RefCOCO, RefCOCO+ and RefCOCOg; their val and test pictures are 5 (also by its Flickr number) and 6."""
    for dataset, by, held_out, splits in (
        ("refcoco", "unc", 5, ("val", "testA", "testB")),
        ("refcoco+", "unc", 5, ("val", "testA", "testB")),
        ("refcocog", "umd", 6, ("val", "test")),
    ):
        refs = [refer.ref(1, 1, 1, "train", {1: "the left dog", 2: "dog"})]
        refs.append(refer.ref(3, 3, 6 if dataset == "refcoco" else 1, "train", {4: "the other"}))
        refs += [refer.ref(n, 2, held_out, split, {n: "the thing"}) for n, split in enumerate(splits, start=50)]
        annotations = [refer.annotation(1, 1, [10, 10, 20, 20], SQUARE), refer.annotation(2, held_out, [1, 1, 9, 9])]
        annotations.append(refer.annotation(3, 6 if dataset == "refcoco" else 1, [0, 0, 9, 9]))
        refer.write(root, refs, annotations, dict.fromkeys(COCO, SIZE), dataset=dataset, by=by)
        path = root / dataset / "instances.json"
        content = json.loads(path.read_text())
        for image in content["images"]:
            if image["id"] == 5:
                image["flickr_url"] = f"http://farm9.staticflickr.com/8186/{FLICKR_OF_5}_4e622cf1d8_z.jpg"
        path.write_text(json.dumps(content))


def grefcoco(root: Path) -> None:
    """One expression of two objects, one of one, one of none; another in val, of picture 4."""
    refs = []
    for number, (ann_ids, text, image, split) in enumerate(
        [
            ([2, 1], "The two dogs", 1, "train"),
            ([1], "left dog", 1, "train"),
            ([-1], "the cat", 2, "train"),
            ([4], "x", 4, "val"),
        ]
    ):
        entry = refer.ref(number, 0, image, split, {number: text})
        refs.append({**entry, "ann_id": ann_ids, "category_id": [18] * len(ann_ids), "no_target": ann_ids == [-1]})
    annotations = [refer.annotation(1, 1, [10, 10, 20, 20], SQUARE), refer.annotation(2, 1, [30, 5, 10, 10])]
    annotations.append(refer.annotation(4, 4, [0, 0, 9, 9]))
    images = [{"id": i, "file_name": f"COCO_train2014_{i:012d}.jpg", "height": 40, "width": 60} for i in COCO]
    write(root / "grefcoco" / "grefs(unc).json", refs)
    write(root / "grefcoco" / "instances.json", {"images": images, "annotations": annotations, "categories": []})


def refcoco_m_row(number: int) -> dict[str, Any]:
    """A row of RefCOCO-M's parquet: a picture's bytes and an object of two sentences; its box is full of its mask."""
    jpeg = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)).save(jpeg, format="JPEG")
    bitmap = np.zeros(SIZE, np.uint8)
    bitmap[5:20, 30:50] = 1
    sample = {"id": number + 2, "image_id": number, "category": "dog", "supercategory": "animal", "label": "dog"}
    sample |= {"sentences": ["left dog", "it"], "bbox": [30.0, 5.0, 20.0, 15.0], "mask": mask_to_rle(bitmap)}
    row = {"image": {"bytes": jpeg.getvalue(), "path": None}, "image_id": number, "samples": [sample]}
    return {**row, "file_name": f"COCO_train2014_{number:012d}.jpg"}


def flickr30k(root: Path) -> None:
    """Two pictures in train: one with a phrase of two boxes, the other, which RefCOCO's val holds too, with one."""
    folder = root / "flickr30k"
    for name in ("Sentences", "Annotations"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "train.txt").write_text(f"1000092795\n{FLICKR_OF_5}\n")
    (folder / "Sentences" / "1000092795.txt").write_text(
        "[/EN#1/people Two young guys] with [/EN#2/bodyparts shaggy hair] look at [/EN#0/notvisual it] "
        "in [/EN#3/scene the yard] .\nNo phrase here .\n"
    )
    (folder / "Sentences" / f"{FLICKR_OF_5}.txt").write_text("[/EN#7/people/animals A man] sits .\n")
    boxes = {"1": [(31, 6, 41, 16), (1, 1, 11, 21)], "2": [(5, 5, 9, 9)]}
    _voc(folder / "Annotations" / "1000092795.xml", boxes)
    _voc(folder / "Annotations" / f"{FLICKR_OF_5}.xml", {"7": [(2, 2, 8, 8)]})
    for name in ("1000092795", str(FLICKR_OF_5)):
        picture(folder / "images" / f"{name}.jpg")


def _voc(path: Path, boxes: dict[str, list[tuple[int, int, int, int]]]) -> None:
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for name, drawn in boxes.items()
        for a, b, c, d in drawn
    )
    scene = "<object><name>3</name><scene>1</scene><nobndbox>0</nobndbox></object>"
    size = "<size><width>60</width><height>40</height><depth>3</depth></size>"
    path.write_text(f"<annotation><filename>{path.stem}.jpg</filename>{size}{objects}{scene}</annotation>")


def visual_genome(root: Path) -> None:
    """Picture 71 of its own, with a box over the border; picture 72 is COCO's 5, in RefCOCO's val."""
    folder = root / "visual_genome"
    images = [
        {
            "image_id": 71,
            "width": 60,
            "height": 40,
            "coco_id": None,
            "flickr_id": 12,
            "url": "https://x/VG_100K/71.jpg",
        },
        {
            "image_id": 72,
            "width": 60,
            "height": 40,
            "coco_id": 5,
            "flickr_id": None,
            "url": "https://x/VG_100K_2/72.jpg",
        },
    ]
    write(folder / "image_data.json", images)

    def region(number: int, image: int, box: tuple[int, int, int, int], phrase: str) -> dict[str, Any]:
        x, y, width, height = box
        place = {"x": x, "y": y, "width": width, "height": height}
        return {"region_id": number, "image_id": image, "phrase": phrase, **place}

    regions = [
        {
            "id": 71,
            "regions": [region(1, 71, (50, -1, 20, 21), "the <vis> sign "), region(2, 71, (5, 5, 0, 9), "nothing")],
        },
        {"id": 72, "regions": [region(3, 72, (5, 5, 10, 10), "a tree.")]},
    ]
    write(folder / "region_descriptions.json", regions)
    picture(folder / "VG_100K" / "71.jpg")
    picture(folder / "VG_100K_2" / "72.jpg")


def llava(root: Path) -> None:
    """A conversation about COCO's 2, one about its 5, one about no picture."""

    def talk(number: str, image: str | None, *said: str) -> dict[str, Any]:
        turns = [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(said)]
        return {"id": number, **({"image": image} if image else {}), "conversations": turns}

    content = [
        talk("000000000002", "000000000002.jpg", "What is it?\n<image>", "A dog.", "Big?", "Yes."),
        talk("000000000005", "coco/train2017/000000000005.jpg", "<image>\nWhere?", "There."),
        talk("words", None, "Hello", "Hello."),
    ]
    write(root / "llava" / "llava_instruct_150k.json", content)


def vqa(root: Path) -> None:
    """Two questions, about 2 and 5, in train and in val, of VQAv2 and OK-VQA."""
    for folder, prefix in (("vqav2", "v2_"), ("okvqa", "")):
        for split in ("train2014", "val2014"):
            questions = [
                {"image_id": 2, "question": "What colour is it?", "question_id": 21},
                {"image_id": 5, "question": "How many?", "question_id": 51},
            ]
            answers = [["red"] * 6 + ["dark red"] * 4, ["2"] * 3 + ["3"] * 7]
            annotations = [
                {
                    "question_id": q["question_id"],
                    "image_id": q["image_id"],
                    "question_type": "what" if n == 0 else "how many",
                    "answer_type": "other" if n == 0 else "number",
                    "answers": [
                        {"answer": a, "answer_confidence": "yes", "answer_id": i} for i, a in enumerate(answers[n], 1)
                    ],
                }
                for n, q in enumerate(questions)
            ]
            write(root / folder / f"{prefix}OpenEnded_mscoco_{split}_questions.json", {"questions": questions})
            write(root / folder / f"{prefix}mscoco_{split}_annotations.json", {"annotations": annotations})


def everything(root: Path) -> Path:
    """All of the above."""
    for make in (coco, refcoco, grefcoco, flickr30k, visual_genome, llava, vqa):
        make(root)
    return root


def karpathy(root: Path) -> None:
    """COCO's 1 in train, 2 in restval, 3 and 4 in test; Flickr30k's first picture in train, another in test."""

    def entry(number: int, split: str, name: str, *captions: str, **more: int) -> dict[str, Any]:
        sentences = [
            {"raw": raw, "tokens": raw.lower().split(), "imgid": 0, "sentid": i} for i, raw in enumerate(captions)
        ]
        return {"imgid": number, "split": split, "filename": name, "sentences": sentences, **more}

    coco = [
        entry(n, split, f"COCO_val2014_{n:012d}.jpg", *captions, cocoid=n)
        for n, split, captions in (
            (1, "train", ["A dog."]),
            (2, "restval", ["A cat."]),
            (3, "test", ["A man rides a red bike.", "A man on a bike in the street."]),
            (4, "test", ["Two dogs play in the green grass.", "Some dogs run over a lawn."]),
        )
    ]
    flickr = [
        entry(0, "train", "1000092795.jpg", "Two young guys with shaggy hair."),
        entry(1, "test", "1009434119.jpg", "A black and white dog runs in a grassy garden."),
    ]
    write(root / "karpathy" / "dataset_coco.json", {"dataset": "coco", "images": coco})
    write(root / "karpathy" / "dataset_flickr30k.json", {"dataset": "flickr30k", "images": flickr})
