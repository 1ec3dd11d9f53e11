"""RefCOCO's other forms, turned once into the REFER layout that `refcoco.RefCOCO` reads.

- Parquet as on the Hugging Face hub (`jxu124/refcoco` and its sisters): a row is a ref with its sentences, and its
  annotation and image as JSON text.
- MDETR's JSON, one file a split: an image entry is a sentence (`caption`, `original_id`), with one annotation
  (`original_id`, `bbox`). The published files have no masks and no `flickr_url`, by which the leakage guard knows
  Flickr30k's pictures: both come from COCO's `instances_train2014.json`, by number. REFER's own numbers of refs and
  sentences are not in them, so that ours count from 1.
- RefCOCO-M (`moondream/refcoco-m`): a row is a picture with its bytes, redrawn masks and sentences.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import replacing, write_bytes, write_text
from .json_files import naming, read_json, records_of
from .refcoco import FLICKR, SPLIT_BY

_HUB = {"validation": "val", "test": "testA"}  # the hub's names of splits
_SPLITS = {"refcoco": _HUB, "refcoco+": _HUB, "refcocog": {"validation": "val"}}
M_FOLDER = "refcoco_m"


def from_parquet(files: Sequence[Path], dataset: str, root: Path) -> dict[str, int]:
    """Write ROOT/DATASET from the hub's parquet files.

    Args:
        files: of all splits.
        dataset: refcoco, refcoco+ or refcocog.
        root: the data folder.

    Returns:
        Refs by split.

    Raises:
        InputError: a file that is no parquet, or has other columns; the message names it.
    """
    refs: list[dict[str, Any]] = []
    images: dict[int, Any] = {}
    annotations: dict[int, Any] = {}
    for path in files:
        for row in _rows(path, ("ref_id", "ann_id", "image_id", "split", "sentences", "raw_anns", "raw_image_info")):
            with naming(path):
                split = _SPLITS[dataset].get(str(row["split"]), str(row["split"]))
                sentences = [{"sent_id": int(s["sent_id"]), "sent": str(s["sent"])} for s in row["sentences"]]
                numbers = {key: int(row[key]) for key in ("ref_id", "ann_id", "image_id")}
                refs.append({**numbers, "split": split, "sentences": sentences})
                images.setdefault(numbers["image_id"], json.loads(row["raw_image_info"]))
                annotations.setdefault(numbers["ann_id"], json.loads(row["raw_anns"]))
    return _write(root / dataset, SPLIT_BY[dataset], refs, list(images.values()), list(annotations.values()))


def from_mdetr(files: Sequence[Path], dataset: str, root: Path) -> dict[str, int]:
    """Write ROOT/DATASET from MDETR's `finetune_DATASET_SPLIT.json` files; arguments and errors as of `from_parquet`.

    Raises:
        InputError: also where COCO's instances, which have the masks, are missing or lack an annotation.
    """
    segmentations, addresses = _from_coco(root)
    refs: list[dict[str, Any]] = []
    images: dict[int, Any] = {}
    annotations: dict[int, Any] = {}
    for path in files:
        split = path.stem.rpartition("_")[2]
        sentences = {int(e["id"]): e for e in records_of(path, "images", ("id", "original_id", "caption"))}
        of_object: dict[tuple[int, int], list[str]] = {}
        for entry in records_of(path, "annotations", ("image_id", "original_id", "bbox")):
            with naming(path):
                said = sentences[int(entry["image_id"])]
                ann_id, image_id = int(entry["original_id"]), int(said["original_id"])
                if ann_id not in segmentations:
                    raise InputError(f"COCO's instances have no annotation {ann_id}")
                of_object.setdefault((ann_id, image_id), []).append(str(said["caption"]))
                size = {"height": said["height"], "width": said["width"]}
                image = {"id": image_id, "file_name": said["file_name"], **size, **addresses.get(image_id, {})}
                images.setdefault(image_id, image)
                annotation = {"id": ann_id, "image_id": image_id, "bbox": entry["bbox"]}
                annotations.setdefault(ann_id, {**annotation, "segmentation": segmentations[ann_id]})
        for (ann_id, image_id), texts in of_object.items():
            first = 1 + sum(len(ref["sentences"]) for ref in refs)
            spoken = [{"sent_id": first + i, "sent": text} for i, text in enumerate(texts)]
            ref = {"ref_id": len(refs) + 1, "ann_id": ann_id, "image_id": image_id, "split": split}
            refs.append({**ref, "sentences": spoken})
    return _write(root / dataset, SPLIT_BY[dataset], refs, list(images.values()), list(annotations.values()))


def from_refcoco_m(files: Sequence[Path], root: Path) -> dict[str, int]:
    """Write ROOT/refcoco_m in the REFER layout, with its pictures: a root of its own for `score` and `evaluate`.

    Its instance numbers become `ann_id` and `ref_id`; its sentences are counted from 1.
    """
    folder = root / M_FOLDER
    refs: list[dict[str, Any]] = []
    images, annotations = [], []
    said = 0
    for path in files:
        for row in _rows(path, ("image", "image_id", "file_name", "samples")):
            with naming(path):
                name, number = Path(str(row["file_name"])).name, int(row["image_id"])
                write_bytes(folder / "images" / "train2014" / name, row["image"]["bytes"])
                height, width = 0, 0
                for sample in row["samples"]:
                    height, width = (int(v) for v in sample["mask"]["size"])
                    ann_id, box = int(sample["id"]), [float(v) for v in sample["bbox"]]
                    mask = {"size": [height, width], "counts": str(sample["mask"]["counts"])}
                    annotations.append({"id": ann_id, "image_id": number, "bbox": box, "segmentation": mask})
                    spoken = [{"sent_id": said + i, "sent": str(s)} for i, s in enumerate(sample["sentences"], 1)]
                    said += len(spoken)
                    ref = {"ref_id": ann_id, "ann_id": ann_id, "image_id": number, "split": "val"}
                    refs.append({**ref, "sentences": spoken})
                if height:
                    images.append({"id": number, "file_name": name, "height": height, "width": width})
    return _write(folder / "refcoco", "unc", refs, images, annotations)


def _rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A parquet file's rows, a few hundred at a time."""
    import pyarrow  # here: no other reader needs it, and it is slow to load
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        missing = [name for name in columns if name not in file.schema_arrow.names]
        if missing:
            raise InputError(f"{path} has no column {missing[0]!r}; it has {', '.join(file.schema_arrow.names)}")
        for batch in file.iter_batches(batch_size=256, columns=list(columns)):
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as parquet: {error}") from None


def _from_coco(root: Path) -> tuple[dict[int, Any], dict[int, dict[str, str]]]:
    """COCO's segmentations by annotation, and `{flickr_url: ...}` by image where it is given."""
    path = root / "coco" / "annotations" / "instances_train2014.json"
    if not path.is_file():
        raise InputError(
            f"MDETR's files have no masks, and there is no {path}: python -m pgpt_lib data coco --root {root}"
        )
    with naming(path):
        content = read_json(path)
        addresses = {int(e["id"]): {FLICKR: str(e[FLICKR])} for e in content["images"] if e.get(FLICKR)}
        return {int(entry["id"]): entry.get("segmentation") for entry in content["annotations"]}, addresses


def _write(folder: Path, by: str, refs: list, images: list, annotations: list) -> dict[str, int]:
    """instances.json, then the refs, whose presence makes the data set complete."""
    path = folder / f"refs({by}).json"
    path.unlink(missing_ok=True)  # of an earlier call: killed in between, this one must not look finished
    with replacing(folder / "instances.json") as temporary:
        content = {"images": images, "annotations": annotations, "categories": []}
        temporary.write_text(json.dumps(content), encoding="utf-8")
    write_text(path, json.dumps(refs))
    counts: dict[str, int] = {}
    for ref in refs:
        counts[ref["split"]] = counts.get(ref["split"], 0) + 1
    return counts
