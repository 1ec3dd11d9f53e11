"""Masks from boxes with a small random SAM, saved locally: thresholds, provenance, resuming, and shards."""

from __future__ import annotations

import json
import shutil
import sqlite3
from functools import partial
from pathlib import Path

import big_layouts as layouts
import numpy as np
import pytest
import torch
from transformers import SamConfig, SamModel, SamProcessor
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

from pgpt_lib.cli import main
from pgpt_lib.data import sam_labels
from pgpt_lib.data.sam_labels import Labeller, Thresholds, label_source
from pgpt_lib.data.sam_masks import SamMasks
from pgpt_lib.data.sources import open_source
from pgpt_lib.errors import InputError
from pgpt_lib.regions import mask_bounds, rle_to_mask

ALL = Thresholds(-1e9, 0)  # a random SAM's opinion of its masks means nothing


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> str:
    """SAM of two thin layers on 64 x 64 pixels."""
    folder = tmp_path_factory.mktemp("sam")
    config = SamConfig(
        vision_config={
            "hidden_size": 16, "output_channels": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 64, "patch_size": 8, "window_size": 4, "global_attn_indexes": [1],
            "mlp_dim": 32, "num_pos_feats": 8,
        },
        prompt_encoder_config={
            "hidden_size": 16, "image_size": 64, "patch_size": 8, "image_embedding_size": 8, "mask_input_channels": 4,
        },
        mask_decoder_config={"hidden_size": 16, "mlp_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                             "iou_head_hidden_dim": 16},
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SamModel(config)
        for parameter in model.parameters():  # away from zero, so that masks differ from box to box
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    sizes = {"size": {"longest_edge": 64}, "pad_size": {"height": 64, "width": 64}}
    SamProcessor(SamImageProcessorPil(**sizes)).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    layouts.flickr30k(tmp_path)
    layouts.visual_genome(tmp_path)
    return tmp_path


def rows(root: Path, source: str) -> list[tuple]:
    return [
        row
        for path in sorted((root / source).glob("sam_masks*.sqlite"))
        for row in sqlite3.connect(path).execute("select * from masks order by picture, box")
    ]


def test_weights_are_told_apart_wherever_they_come_from(sam: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a hub's name as by a folder: the same weights have the same digest, others another."""
    for loaded in (SamModel, SamProcessor):
        monkeypatch.setattr(loaded, "from_pretrained", partial(_from_folder, loaded.from_pretrained, sam))
    by_name, again = (Labeller("facebook/sam-vit-huge").identity for _ in range(2))
    assert by_name == again and by_name["weights"] == Labeller(sam).identity["weights"]
    other = Labeller(sam).model
    torch.nn.init.ones_(next(other.parameters()))
    assert sam_labels._weights(other) != by_name["weights"]


def _from_folder(load, folder: str, name: str, **options):
    return load(folder, **options)


def test_every_box_gets_a_mask_of_its_picture(root: Path, sam: str) -> None:
    done = label_source(root, "flickr30k", sam, ALL)
    assert (done["pictures"], done["boxes"], done["kept"], done["before"]) == (2, 4, 4, 0)
    found = SamMasks(root / "flickr30k").of("flickr30k/1000092795")
    assert set(found) == {"30.0 5.0 10.0 10.0", "0.0 0.0 10.0 20.0", "4.0 4.0 4.0 4.0"}
    assert all(rle_to_mask(rle).shape == (40, 60) for rle in found.values()), "at the picture's own size"
    regions = open_source("flickr30k", root).sample(0).turns[1].regions
    assert all(region.mask is not None for region in regions), "the reader gives them out"


def test_masks_equal_those_of_transformers(root: Path, sam: str) -> None:
    """The kept bitmap is what the library's own three calls give for that box alone."""
    labeller = Labeller(sam, torch.device("cpu"))
    picture = open_source("flickr30k", root).pictures.load_image("flickr30k/1000092795")
    boxes = [(0.0, 0.0, 10.0, 20.0), (30.0, 5.0, 10.0, 10.0)]
    ours = labeller.masks(picture, boxes, ALL)
    for box, mask in zip(boxes, ours, strict=True):
        corners = [box[0], box[1], box[0] + box[2], box[1] + box[3]]
        inputs = labeller.processor(images=picture, input_boxes=[[corners]], return_tensors="pt")
        with torch.no_grad():
            out = labeller.model(
                pixel_values=inputs["pixel_values"].float(),
                input_boxes=inputs["input_boxes"].float(),
                multimask_output=False,
            )
        sizes = inputs["original_sizes"], inputs["reshaped_input_sizes"]
        theirs = labeller.processor.post_process_masks(out.pred_masks, *sizes)[0][0, 0].numpy()
        assert np.mean(rle_to_mask(mask.rle) == theirs) > 0.999
        assert mask.predicted_iou == pytest.approx(float(out.iou_scores[0, 0, 0]), abs=1e-4)
        bounds = mask_bounds(theirs)
        assert 0 <= mask.box_iou <= 1 and (bounds is not None or mask.box_iou == 0)


def test_refused_masks_are_noted_but_not_used(root: Path, sam: str) -> None:
    done = label_source(root, "visual_genome", sam, Thresholds(-1e9, 1.1))
    assert done["boxes"] == 2 and done["kept"] == 0
    assert [row[2] for row in rows(root, "visual_genome")] == [None, None], "noted, so that they are not drawn again"
    assert open_source("visual_genome", root).sample(0).turns[1].regions[0].mask is None
    assert label_source(root, "visual_genome", sam, Thresholds(-1e9, 1.1))["pictures"] == 0


def test_the_judgement() -> None:
    bitmap = np.zeros((40, 60), np.uint8)
    bitmap[10:20, 10:20] = 1
    fits, half, empty = (10.0, 10.0, 10.0, 10.0), (10.0, 10.0, 20.0, 10.0), np.zeros((40, 60), np.uint8)
    limits = Thresholds(0.8, 0.6)
    assert sam_labels._judge(fits, bitmap, 0.9, limits).rle is not None
    assert sam_labels._judge(fits, bitmap, 0.7, limits).rle is None, "SAM doubts it"
    refused = sam_labels._judge(half, bitmap, 0.9, limits)
    assert refused.rle is None and refused.box_iou == pytest.approx(0.5), "it does not fill the box"
    assert sam_labels._judge(fits, empty, 0.9, limits) == (fits, None, 0.9, 0.0)


def test_it_goes_on_where_it_was_killed(root: Path, sam: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = root / "whole"
    shutil.copytree(root / "flickr30k", whole / "flickr30k")
    label_source(whole, "flickr30k", sam, ALL)
    drawn: list[int] = []
    original = Labeller.masks

    def dies_at_the_second(self, image, boxes, thresholds):
        drawn.append(len(boxes))
        if len(drawn) == 2:
            raise KeyboardInterrupt
        return original(self, image, boxes, thresholds)

    monkeypatch.setattr(Labeller, "masks", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        label_source(root, "flickr30k", sam, ALL)
    done = label_source(root, "flickr30k", sam, ALL)
    assert (done["before"], done["pictures"]) == (1, 1)
    assert rows(root, "flickr30k") == rows(whole, "flickr30k")


def test_shards_share_the_pictures(root: Path, sam: str) -> None:
    parts = [label_source(root, "flickr30k", sam, ALL, shard=f"{i}/2") for i in range(2)]
    assert [part["pictures"] for part in parts] == [1, 1] and len(rows(root, "flickr30k")) == 4
    assert len(SamMasks(root / "flickr30k").finished()) == 2
    assert label_source(root, "flickr30k", sam, ALL)["pictures"] == 0, "whoever drew them"
    for bad in ("2/2", "1", "a/b", "-1/2"):
        with pytest.raises(InputError, match="PART/PARTS"):
            label_source(root, "flickr30k", sam, ALL, shard=bad)


def test_eight_shards_take_eight_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sam_labels.device_of(3).type == ("cpu" if not torch.accelerator.is_available() else "cuda")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    for cards, taken in ((8, [0, 1, 7]), (4, [0, 1, 3]), (1, [0, 0, 0])):
        monkeypatch.setattr(torch.accelerator, "device_count", lambda cards=cards: cards)
        assert [sam_labels.device_of(part) for part in (0, 1, 7)] == [torch.device("cuda", card) for card in taken]


def test_provenance_binds_a_file_to_its_model(root: Path, sam: str) -> None:
    label_source(root, "flickr30k", sam, ALL, limit=1)
    (made,) = SamMasks(root / "flickr30k").provenance()
    assert made["model"] == sam and len(made["weights"]) == 16 and made["thresholds"]["box_iou"] == 0
    assert made["source"] == "flickr30k" and set(made["versions"]) == {"torch", "transformers"}
    with pytest.raises(InputError, match="made otherwise .thresholds changed"):
        label_source(root, "flickr30k", sam, Thresholds(0.5, 0.5))


def test_all_files_of_a_source_are_made_alike(root: Path, sam: str) -> None:
    """A shard of another number writes another file; readers take both, and pictures are finished in either."""
    label_source(root, "flickr30k", sam, ALL, shard="0/2")
    before = rows(root, "flickr30k")
    for shard in ("1/2", "0/1", "1/3"):
        with pytest.raises(InputError, match=r"sam_masks\.0-of-2\.sqlite was made otherwise .thresholds changed"):
            label_source(root, "flickr30k", sam, Thresholds(0.5, 0.5), shard=shard)
    assert rows(root, "flickr30k") == before and len(SamMasks(root / "flickr30k").provenance()) == 1
    assert label_source(root, "flickr30k", sam, ALL, shard="1/2")["pictures"] == 1


def test_a_file_that_another_process_just_made_is_empty(root: Path, sam: str) -> None:
    (root / "flickr30k" / "sam_masks.1-of-2.sqlite").touch()
    assert label_source(root, "flickr30k", sam, ALL, shard="0/2")["pictures"] == 1


def test_bad_input_is_named(root: Path, sam: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'llava' is none of those with boxes alone: flickr30k, visual_genome"):
        label_source(root, "llava", sam, ALL)
    with pytest.raises(InputError, match="cannot be loaded"):
        label_source(root, "flickr30k", str(tmp_path), ALL)


def test_the_command(root: Path, sam: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["data", "sam-labels", "--root", str(root), "--source", "visual_genome", "--model", sam]
    with pytest.raises(SystemExit) as end:
        main([*command, "--predicted-iou", "0", "--box-iou", "0", "--limit", "1", "--json"])
    assert not end.value.code and json.loads(capsys.readouterr().out)["pictures"] == 1
