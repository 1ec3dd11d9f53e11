from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import BOX_ONLY, LEFT, MASK_ONLY, RIGHT, dialogue
from torch import Tensor

from pgpt_lib import checkpoint
from pgpt_lib.batch import Batch, drop_parts
from pgpt_lib.chat import IGNORE
from pgpt_lib.errors import InputError
from pgpt_lib.model import PerceptionGPT, locate_positions
from pgpt_lib.regions import Region

REC, WORDS, GIVEN, TWO, SPOT, TEXT = range(6)  # places in the fixture `samples`


@pytest.fixture(scope="module")
def model(make_model) -> PerceptionGPT:
    return make_model().eval()


@pytest.fixture
def batch(model: PerceptionGPT, samples: list, features: Callable) -> Batch:
    return model.collate(samples, features)


def gradients(model: PerceptionGPT, batch: Batch) -> dict[str, Tensor | None]:
    model.zero_grad(set_to_none=True)
    model(batch).loss.backward()
    return {name: p.grad for name, p in model.trainable_parameters().items()}


def test_losses_and_counts(model: PerceptionGPT, batch: Batch) -> None:
    output = model(batch)
    assert set(output.losses) == {"language", "l1", "giou", "bce", "dice", "depth"}
    assert output.counts == {"tokens": int((batch.labels != IGNORE).sum()), "regions": 6}
    assert output.states.shape == (6, 64) and output.states.dtype == torch.float32
    assert torch.isclose(output.loss, sum(output.losses.values()))
    assert output.emitted.shape == (6,)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("tuning", ["lora", "full", "frozen"])
def test_every_trainable_parameter_receives_gradient(make_model, samples, features, tied: bool, tuning: str) -> None:
    model = make_model(tied, llm__tuning=tuning)
    for name, p in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p)  # starts at zero, which would leave lora_A without gradient for one step
    for name, grad in gradients(model, model.collate(samples, features)).items():
        assert grad is not None and grad.abs().sum() > 0, name


def test_only_the_promised_weights_are_trained(make_model) -> None:
    model = make_model()
    names = list(model.trainable_parameters())
    inside = [n for n in names if n.startswith("llm.")]
    assert len(inside) == 2 + 2 * 2 * 2  # rows of both tables; A and B of q and v in two layers
    outside = {n.split(".")[0] if not n.startswith("signals") else n.split(".")[1] for n in names if n not in inside}
    assert outside == {"fusion", "mask_fusion", "projector", "box", "mask", "depth"}
    assert not any("tower" in n for n in names)
    assert set(model.perception_state()) == set(names) - set(inside)
    assert len(model.adapter_state()) == len(inside)


@pytest.mark.parametrize("rows", [[REC], [TEXT], [WORDS], [GIVEN], [WORDS, TEXT]], ids=str)
def test_batches_without_regions_or_images_train(make_model, samples, features, rows: list[int]) -> None:
    model = make_model()
    grads = gradients(model, model.collate([samples[r] for r in rows], features))
    assert all(g is not None and g.isfinite().all() for g in grads.values())


@pytest.mark.parametrize(("region", "idle"), [(BOX_ONLY, "mask"), (MASK_ONLY, "box")], ids=["no mask", "no box"])
def test_batches_without_masks_or_boxes_train(make_model, features, region, idle: str) -> None:
    model = make_model()
    batch = model.collate([dialogue("a", "one", ("where is <vis> ?", (region,)), ("<vis>", (region,)))], features)
    output = model(batch)
    assert output.loss.isfinite()
    assert all(output.losses[term] == 0 for term in model.signals[idle].loss_names)
    grads = gradients(model, batch)
    assert all(g is not None and g.isfinite().all() for g in grads.values())
    assert all(g.abs().sum() == 0 for n, g in grads.items() if n.startswith(f"signals.{idle}."))


def test_batch_loss_is_the_mean_over_its_dialogues_targets(model, samples, features) -> None:
    """Also catches a loss that pairs regions with another row's image (as the released code did) or skips a row."""
    batch = model.collate(samples, features)
    whole = model(batch)
    sums = dict.fromkeys(whole.losses, 0.0)
    counts = dict.fromkeys(whole.losses, 0)
    for sample in samples:
        single = model.collate([sample], features)
        output = model(single)
        number = {"language": output.counts["tokens"]}
        for name, signal in model.signals.items():
            present = int((single.targets[name][1] & single.vis_is_answer).sum())
            number |= dict.fromkeys(signal.loss_names, present)
        for name, term in output.losses.items():
            sums[name] += term.item() * number[name]
            counts[name] += number[name]
    for name, term in whole.losses.items():
        assert term.item() == pytest.approx(sums[name] / counts[name], rel=1e-4), name


def pairs_regions_with_their_images(model: PerceptionGPT, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the mask decoder looks at the image of each region's own row, which the released code mixed up."""
    seen = []
    decode = model.signals["mask"].decode

    def spy(states: Tensor, features: Tensor, image_index: Tensor) -> Tensor:
        seen.append(features[image_index])
        return decode(states, features, image_index)

    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(model.signals["mask"], "decode", spy)
        expected = model.mask_fusion(batch.features)
        model(batch)
    rows = batch.vis_row[batch.vis_is_answer].tolist()
    return all(torch.equal(seen[0][r], expected[batch.image_index[row]]) for r, row in enumerate(rows))


def test_masks_are_decoded_from_their_own_image(model, samples, features, monkeypatch) -> None:
    chosen = [samples[i] for i in (WORDS, GIVEN, REC, TWO, SPOT)]  # rows without a target come first
    batch = model.collate(chosen, features)
    assert pairs_regions_with_their_images(model, batch, monkeypatch)
    original = model._signal_losses

    def planted(batch: Batch, states: Tensor, images: Tensor, image_index: Tensor) -> dict[str, Tensor]:
        return original(batch, states, images, torch.arange(len(states)) % len(images))  # the regions' running number

    monkeypatch.setattr(model, "_signal_losses", planted)
    assert not pairs_regions_with_their_images(model, batch, monkeypatch)


def test_images_are_encoded_once(model, samples, monkeypatch, features) -> None:
    asked = []
    batch = model.collate(samples, lambda ids: asked.append(list(ids)) or features(ids))
    assert asked == [["one", "two", "three"]]
    assert batch.features.shape[0] == 3
    assert batch.image_index.tolist() == [0, 1, 0, 2, 1, -1]


def test_pixels_and_features_give_the_same(model, samples, tiny_tower) -> None:
    def pixels(image_ids: list[str]) -> Tensor:
        return torch.stack([torch.full((3, 32, 32), len(i) / 10) for i in image_ids])

    one = model(model.collate(samples, pixel_values=pixels))
    two = model(model.collate(samples, lambda ids: tiny_tower(pixels(ids))))
    assert torch.equal(one.loss, two.loss)


def test_padding_does_not_change_the_loss(model, batch: Batch) -> None:
    wider = replace(
        batch,
        input_ids=torch.nn.functional.pad(batch.input_ids, (0, 5), value=7),
        labels=torch.nn.functional.pad(batch.labels, (0, 5), value=IGNORE),
        image_mask=torch.nn.functional.pad(batch.image_mask, (0, 5)),
    )
    assert torch.allclose(model(wider).loss, model(batch).loss, rtol=1e-5)


def test_decoded_state_is_the_one_that_predicts_vis(model, batch: Batch) -> None:
    """It does not depend on its own `<vis>`'s embedding; a state *at* the token would."""
    where = batch.vis_position[batch.vis_is_answer]
    assert (batch.input_ids[batch.vis_row[batch.vis_is_answer], where] == model.chat.vis_id).all()
    assert torch.equal(locate_positions(where), where - 1)
    rec = replace(batch, visible={k: v & ~batch.vis_is_answer for k, v in batch.visible.items()})
    first = 0  # the first answer's `<vis>` of row REC: nothing before it changes
    assert torch.equal(model(rec).states[first], model(batch).states[first])


def state_leaks(model: PerceptionGPT, samples: list, features: Callable) -> bool:
    """Whether the decoded state changes with the true region that it is to predict."""
    one = dialogue("a", "one", ("where ?", ()), ("<vis>", (LEFT,)))
    other = dialogue("a", "one", ("where ?", ()), ("<vis>", (RIGHT,)))
    states = [model(model.collate([s], features)).states for s in (one, other)]
    return not torch.equal(*states)


def test_true_region_does_not_leak_into_its_state(model, samples, features, monkeypatch) -> None:
    assert not state_leaks(model, samples, features)
    monkeypatch.setattr("pgpt_lib.model.locate_positions", lambda positions: positions)  # plant: the token's own state
    assert state_leaks(model, samples, features)


def both_encoders_are_used(model: PerceptionGPT, features: Callable) -> bool:
    """Whether a region's embedding is the sum of its box code and its mask code, scaled, both different from zero."""

    def given(region: Region) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        batch = model.collate([dialogue("a", "one", ("what is <vis> ?", (region,)), ("a star", ()))], features)
        return {n: batch.targets[n][0] for n in batch.visible}, batch.visible

    values, visible = given(LEFT)
    codes = {name: model.signals[name].embed(values[name], visible[name])[0] for name in ("box", "mask")}
    box, mask, both = (
        model.region_codes(*given(region))[0] for region in (replace(LEFT, mask=None), replace(LEFT, box=None), LEFT)
    )
    expected = codes["box"], codes["mask"], codes["box"] + codes["mask"]
    pairs = zip((box, mask, both), expected, strict=True)
    alike = all(torch.allclose(code / code.norm(), part / part.norm(), atol=1e-5) for code, part in pairs)
    return alike and bool(box.any() and mask.any())


def test_absent_parts_are_left_out_and_no_code_is_lost(model, features, monkeypatch) -> None:
    assert both_encoders_are_used(model, features)
    embed = model.signals["mask"].embed
    monkeypatch.setattr(model.signals["mask"], "embed", lambda *given: 0 * embed(*given))  # plant: it is thrown away
    assert not both_encoders_are_used(model, features)


def test_an_encoders_error_is_not_taken_for_no_region(model, batch: Batch, monkeypatch) -> None:
    """In the released code a bare `except` turned every error into a batch without regions."""

    def broken(values: Tensor) -> Tensor:
        raise RuntimeError("wrong shape")

    monkeypatch.setattr(model.signals["mask"], "encode", broken)
    with pytest.raises(RuntimeError, match="wrong shape"):
        model(batch)


def test_dropout_of_parts_is_seeded_and_leaves_one(samples) -> None:
    present = {"box": torch.tensor([True, True, False] * 200), "mask": torch.tensor([True, False, True] * 200)}
    before = torch.get_rng_state()
    kept = [drop_parts(present, 0.3, torch.rand(600, 3, generator=torch.Generator().manual_seed(s))) for s in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(kept[0][n], kept[1][n]) for n in present)
    assert not torch.equal(kept[0]["box"], kept[2]["box"])
    assert (kept[0]["box"] | kept[0]["mask"]).all()
    assert (kept[0]["box"] <= present["box"]).all() and (kept[0]["mask"] <= present["mask"]).all()
    lost = (~kept[0]["box"] | ~kept[0]["mask"])[::3].float().mean()
    assert 0.2 < lost < 0.4
    assert (kept[0]["box"][1::3]).all() and (kept[0]["mask"][2::3]).all()


def test_a_batch_shows_its_regions_without_the_dropped_parts(model, samples, features) -> None:
    """What is to be decoded stays whole."""
    whole, halved = (model.collate(samples, features, input_dropout=rate) for rate in (0.0, 1.0))
    parts = [torch.stack([batch.visible["box"], batch.visible["mask"]]).sum(0) for batch in (whole, halved)]
    assert (parts[0] == 2).any() and (parts[1] == 1).all()
    for name in ("box", "mask"):
        assert torch.equal(halved.targets[name][1], whole.targets[name][1])
        assert torch.equal(whole.visible[name], whole.targets[name][1])


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("tuning", ["lora", "full", "frozen"])
def test_saved_and_reloaded_equals_original(
    make_model, samples, features, tmp_path: Path, tied: bool, tuning: str
) -> None:
    model = make_model(tied, llm__tuning=tuning)
    optimizer = torch.optim.AdamW(model.trainable_parameters().values(), lr=0.01)
    batch = model.collate(samples, features)
    for _ in range(2):
        model(batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    state = checkpoint.State(model.profile, 0, 2)
    path = checkpoint.save_checkpoint(tmp_path, model, optimizer, state)
    fresh = make_model(tied, llm__tuning=tuning)
    rows = sorted(model.chat.special_ids.values())
    assert not torch.equal(fresh.embedding_tables()[1][rows], model.embedding_tables()[1][rows])
    checkpoint.load_weights(path, fresh)
    for old, new in zip(model.embedding_tables(), fresh.embedding_tables(), strict=True):
        assert torch.equal(old, new)
    for name, p in model.trainable_parameters().items():
        assert torch.equal(p, fresh.trainable_parameters()[name]), name
    one, two = model.eval()(batch), fresh.eval()(batch)
    assert torch.equal(one.loss, two.loss) and torch.equal(one.states, two.states)


def test_same_seed_same_model_whatever_the_global_state(make_model) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = make_model(seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    two, other = make_model(seed=3), make_model(seed=4)
    for (name, p), (_, q) in zip(one.named_parameters(), two.named_parameters(), strict=True):
        assert torch.equal(p, q), name
    assert not torch.equal(one.projector.fc1.weight, other.projector.fc1.weight)


def test_new_rows_start_near_the_mean_and_differ(make_model) -> None:
    model = make_model()
    ids = sorted(model.chat.special_ids.values())
    for table in model.embedding_tables():
        base, new = table[: model.chat.base_vocabulary], table[ids]
        assert (new - base.mean(0)).abs().max() < base.std()
        assert len(new.unique(dim=0)) == len(ids)


def test_shared_fusion_and_fewer_signals(make_model, samples, features) -> None:
    model = make_model(fusion__shared=True, signals=("box",))
    assert model.mask_fusion is None and list(model.signals) == ["box"]
    assert all(g is not None for g in gradients(model, model.collate(samples, features)).values())


def test_errors_name_the_cause(model, samples, features) -> None:
    with pytest.raises(InputError, match="no loader"):
        model.collate(samples)
    with pytest.raises(InputError, match="sample blind"):
        model.collate([dialogue("blind", "", ("where ?", ()), ("<vis>", (LEFT,)))], features)
    with pytest.raises(InputError, match="at least one"):
        model.collate([], features)


def test_bf16_autocast_trains(model, batch: Batch) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        output = model(batch)
    assert output.states.dtype == torch.float32 and output.loss.isfinite()
    assert output.loss.item() == pytest.approx(model(batch).loss.item(), rel=0.05)


def test_parts_of_the_diagram_are_all_that_is_trained(make_model) -> None:
    from pgpt_lib.diagrams import model_parts

    model = make_model()
    trained = sum(p.numel() for p in model.trainable_parameters().values())
    assert sum(part.trainable for part in model_parts(model).values()) == trained
