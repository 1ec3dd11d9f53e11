"""Masks for data sets that have boxes only, drawn by SAM (paper, section 4.1; Kirillov et al., ICCV 2023).

The paper says no more than that SAM labels Visual Genome and Flickr30k. Here a box is the prompt, SAM gives one mask,
and it is kept when SAM itself expects a good IoU and the mask fills the box, that is, its bounds agree with it. Refused
masks are noted as such; their regions train the box alone.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tqdm import tqdm

from ..errors import InputError
from ..metrics import iou_xywh
from ..regions import mask_bounds, mask_to_rle
from .sam_masks import Mask, MaskFile, SamMasks
from .sources import open_source

BOXES_AT_ONCE = 64
LABELLED = ("flickr30k", "visual_genome")
Box = tuple[float, float, float, float]  # x, y, width, height in pixels


@dataclass(frozen=True)
class Thresholds:
    """What a mask must reach: SAM's own estimate of its IoU, and the IoU of its bounds with the box."""

    predicted_iou: float = 0.8
    box_iou: float = 0.5


class Labeller:
    """SAM with a box as prompt."""

    def __init__(self, model: str, device: torch.device | None = None) -> None:
        """Load SAM.

        Args:
            model: a folder in Hugging Face format, or a hub name such as facebook/sam-vit-huge.
            device: by default the first accelerator, where there is one.

        Raises:
            InputError: it cannot be loaded, or some of its weights are missing.
        """
        try:
            loaded: Any = transformers.SamModel.from_pretrained(model, output_loading_info=True)
            self.processor = transformers.SamProcessor.from_pretrained(model)
        except (OSError, ValueError) as error:
            raise InputError(f"SAM {model!r} cannot be loaded: {str(error).splitlines()[0]}") from None
        self.model, told = loaded
        if told["missing_keys"]:
            raise InputError(f"SAM {model!r} lacks weights, such as {sorted(told['missing_keys'])[0]}")
        self.device = device or device_of(0)
        self.model.to(self.device).eval()
        self.identity = {"model": model, "weights": _weights(self.model)}

    @torch.inference_mode()
    def masks(self, image: np.ndarray, boxes: Sequence[Box], thresholds: Thresholds) -> list[Mask]:
        """A mask for each box.

        Args:
            image: uint8 (height, width, 3), RGB.
            boxes: [x, y, width, height] in pixels, B of them.
            thresholds: what a mask must reach to be kept.
        """
        found: list[Mask] = []
        embedding = None
        for start in range(0, len(boxes), BOXES_AT_ONCE):
            some = boxes[start : start + BOXES_AT_ONCE]
            corners = [[x, y, x + width, y + height] for x, y, width, height in some]
            inputs = self.processor(images=image, input_boxes=[corners], return_tensors="pt")
            if embedding is None:
                embedding = self.model.get_image_embeddings(inputs["pixel_values"].float().to(self.device))
            prompts = inputs["input_boxes"].float().to(self.device)
            out = self.model(image_embeddings=embedding, input_boxes=prompts, multimask_output=False)
            bitmaps = self.processor.post_process_masks(
                out.pred_masks.float().cpu(), inputs["original_sizes"], inputs["reshaped_input_sizes"]
            )[0]
            scores = out.iou_scores.float().cpu()[0, :, 0].tolist()
            for box, bitmap, score in zip(some, bitmaps[:, 0].numpy(), scores, strict=True):
                found.append(_judge(box, bitmap, score, thresholds))
        return found


def device_of(part: int) -> torch.device:
    """Where a shard is worked on: shards take turns over the accelerators that are seen, or share the CPU."""
    kind = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return torch.device(kind.type, part % torch.accelerator.device_count()) if kind else torch.device("cpu")


def label_source(
    root: str | Path, source: str, model: str, thresholds: Thresholds, shard: str = "0/1", limit: int | None = None
) -> dict[str, Any]:
    """Draw the masks of a source's training boxes into ROOT/SOURCE/sam_masks*.sqlite, going on where it stopped.

    Args:
        root: the data folder.
        source: flickr30k or visual_genome.
        model: of `Labeller`.
        thresholds: what a mask must reach to be kept.
        shard: which part of the pictures, as "0/8", and so which accelerator.
        limit: stop after so many pictures.

    Returns:
        `pictures` and `boxes` dealt with now, `kept` masks of them, `before` (pictures finished earlier), `file`.

    Raises:
        InputError: an unknown source, a shard that is none, a model that cannot be loaded, or a file made otherwise.
    """
    if source not in LABELLED:
        raise InputError(f"source {source!r} is none of those with boxes alone: {', '.join(LABELLED)}")
    part, parts = _shard(shard)
    reader: Any = open_source(source, root)
    records: dict[str, list[int]] = {}
    for index in range(len(reader)):
        records.setdefault(reader.image_key(index), []).append(index)
    labeller = Labeller(model, device_of(part))
    folder = Path(root) / source
    path = folder / ("sam_masks.sqlite" if parts == 1 else f"sam_masks.{part}-of-{parts}.sqlite")
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    provenance = {**labeller.identity, "thresholds": asdict(thresholds), "source": source, "versions": versions}
    file = MaskFile(path, provenance)
    finished = SamMasks(folder).finished()
    mine = sorted(records)[part::parts]
    todo = [key for key in mine if key not in finished][:limit]
    boxes = kept = 0
    try:
        for key in tqdm(todo, desc=f"SAM on {source}", file=sys.stderr, mininterval=1):
            wanted = sorted({box for index in records[key] for box in reader.boxes(index)})
            masks = labeller.masks(reader.pictures.load_image(key), wanted, thresholds)
            file.add(key, masks)
            boxes, kept = boxes + len(masks), kept + sum(mask.rle is not None for mask in masks)
    finally:
        file.close()
    before = sum(key in finished for key in mine)
    return {"pictures": len(todo), "boxes": boxes, "kept": kept, "before": before, "file": str(path)}


def _judge(box: Box, bitmap: np.ndarray, score: float, thresholds: Thresholds) -> Mask:
    """A mask kept or refused."""
    bounds = mask_bounds(bitmap)
    agreement = 0.0
    if bounds is not None:
        agreement = iou_xywh((bounds[0], bounds[1], bounds[2] - bounds[0], bounds[3] - bounds[1]), box)
    good = score >= thresholds.predicted_iou and agreement >= thresholds.box_iou
    return Mask(box, mask_to_rle(bitmap) if good else None, score, agreement)


def _shard(text: str) -> tuple[int, int]:
    part, slash, parts = text.partition("/")
    if slash and part.isdigit() and parts.isdigit() and int(part) < int(parts):
        return int(part), int(parts)
    raise InputError(f"shard {text!r}: expected PART/PARTS, as 0/8 to 7/8")


def _weights(model: torch.nn.Module) -> str:
    """What tells weights apart, wherever they came from: a short sha256 over their names and values."""
    found = hashlib.sha256()
    for name, values in sorted(model.state_dict().items()):
        found.update(f"{name} {tuple(values.shape)} {values.dtype}".encode())
        found.update(values.cpu().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()[:16]
