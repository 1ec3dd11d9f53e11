"""What each difference between paper and released code does, and that nothing else changes with it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import LEFT, MASK_ONLY, RIGHT, dialogue
from torch import Tensor

from pgpt_lib.boxes import box_cxcywh_to_xyxy, box_xyxy_to_cxcywh
from pgpt_lib.config import load_profile, profile_names
from pgpt_lib.errors import InputError
from pgpt_lib.fusion import LayerFusion
from pgpt_lib.generation import generate
from pgpt_lib.losses import dice_loss, giou_loss, l1_loss, pooled_dice_loss
from pgpt_lib.model import build_model
from pgpt_lib.optimisation import build_optimizer, set_learning_rate
from pgpt_lib.signals import BoxSignal, MaskSignal
from pgpt_lib.sweeps import alignment, plans, switches
from pgpt_lib.sweeps.plans import load_plan, plan_names

H, C, GRID = 32, 24, 8


def cell_of(plan: str, **factors: object):
    return load_plan(plan).cell(factors, "smoke")


SIZED = [name for name in profile_names() if plans.sized(name)]
NOT_ALIGNED = {"released.projector_frozen = True: no projector is aligned with smollm2-135m"}


@pytest.mark.parametrize("profile", SIZED)
@pytest.mark.parametrize("plan", plan_names())
def test_every_cell_of_every_plan_can_be_run_or_says_what_it_lacks(plan: str, profile: str) -> None:
    for cell in load_plan(plan).cells(profile):
        frozen = profile == "gpu" and cell.factors.get("switch") == "projector_frozen"
        assert set(switches.lacking(cell)) == (NOT_ALIGNED if frozen else set())
        if frozen:
            continue
        settings = cell.profile()
        assert cell.asked()["llm.name"] == settings.llm.name
        if cell.run.align == "words":
            known = "training" if profile == "gpu" else "weights"
            assert settings.llm.name == ("smollm2-135m" if profile == "gpu" else "nano-words")
            assert known in alignment.settings(cell, settings)


def test_the_profiles_that_have_sizes() -> None:
    assert set(SIZED) == {"cpu", "gpu", "smoke"}


def test_a_setting_that_the_library_has_not_is_lacking() -> None:
    cell = cell_of("losses", terms="l1", seed=0)
    ahead = replace(cell, overrides={**cell.overrides, "released.white_padding": True})
    with pytest.raises(InputError, match=r"released.white_padding = True\. --available"):
        switches.require_all([cell, ahead])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"released.giou_misparsed": True, "signals": ["mask"]}, "giou_misparsed needs signals box"),
        ({"released.dice_pooled": True, "signals": ["box"]}, "dice_pooled needs signals mask"),
        ({"released.mask_encoder_unused": True, "signals": ["mask"]}, "mask_encoder_unused needs signals mask, box"),
        ({"released.dice_pooled": True, "representation": "numerical"}, "representation 'embedding'"),
        ({"mask_head": "dot_product", "signals": ["box"]}, "mask_head 'dot_product' needs signals mask"),
        ({"mask_head": "dot_product", "released.position_scrambled": True}, "has no position codes"),
        ({"mask_head": "linear"}, "mask_head = 'linear'"),
        ({"released.state_at_vis": True, "llm.standardise": True}, "llm.standardise off"),
        ({"released.last_layer_excluded": True, "fusion.strategy": "last"}, "'last' takes one layer"),
        ({"released.projector_frozen": True, "training.aligned_lr": 0}, "aligned_lr 0 freezes it already"),
        ({"released.white_padding": True}, "released.white_padding"),
    ],
)
def test_switches_that_would_do_nothing_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_profile("smoke", settings)


TERMS = {"language", "l1", "giou", "bce", "dice", "depth"}


@pytest.mark.parametrize(
    ("switch", "moved"),
    [
        ("giou_misparsed", {"giou"}),
        ("position_scrambled", {"bce", "dice"}),
        ("dice_pooled", {"dice"}),
        ("last_layer_excluded", TERMS),
        ("state_at_vis", TERMS),
        ("mask_encoder_unused", TERMS),
    ],
)
def test_a_switch_moves_its_own_terms_from_the_same_weights(make_model, samples, features, switch, moved) -> None:
    """So that cells of a seed differ in nothing else; the other terms are the default's to the bit."""
    model, plain = make_model(released={switch: True}).eval(), make_model().eval()
    held = plain.state_dict()
    assert all(torch.equal(value, held[name]) for name, value in model.state_dict().items())
    there, here = (m(m.collate(samples, features)).losses for m in (model, plain))
    assert there.keys() == TERMS and {name for name in TERMS if not torch.equal(there[name], here[name])} == moved


def test_all_switches_are_off_unless_asked_for() -> None:
    for name in profile_names():
        on = {switch for switch, value in load_profile(name).released if value}
        assert on == ({"last_layer_excluded"} if name == "paper-7b-code" else set())


def test_giou_of_misparsed_boxes_is_another_number_with_the_same_optimum() -> None:
    torch.manual_seed(0)
    low = torch.rand(64, 2) * 0.6
    values = box_xyxy_to_cxcywh(torch.cat([low, low + 0.05 + 0.3 * torch.rand(64, 2)], 1))
    given = values.roll(1, 0)
    signal, plain = BoxSignal(H, C, GRID, misparsed=True), BoxSignal(H, C, GRID)
    terms, right = signal.loss_terms(given, values), plain.loss_terms(given, values)
    assert terms["l1"] == right["l1"] == l1_loss(given, values)
    by_hand = giou_loss(box_cxcywh_to_xyxy(given), box_cxcywh_to_xyxy(values))  # corners where cxcywh is expected
    assert torch.equal(terms["giou"], by_hand) and abs(terms["giou"] - right["giou"]) > 0.05
    assert signal.loss_terms(values, values)["giou"].abs() < 1e-6
    apart = torch.tensor([[0.4, 0.4, 0.1, 0.1]]), torch.tensor([[0.55, 0.55, 0.1, 0.1]])
    assert plain.loss_terms(*apart)["giou"] > 1 > signal.loss_terms(*apart)["giou"]  # disjoint, but taken to overlap


def test_pooled_dice_lets_a_large_mask_hide_a_small_one() -> None:
    target = torch.zeros(2, 16, 16)
    target[0, :12, :12], target[1, :2, :2] = 1, 1
    logits = torch.where(target > 0, 9.0, -9.0)
    logits[1] = -9.0  # the small one is missed
    pooled = pooled_dice_loss(logits, target)
    assert dice_loss(logits, target) > 0.45 and pooled < 0.05
    p, t = logits.sigmoid(), target
    assert pooled == pytest.approx((1 - 2 * (p * t).sum() / (p.sum() + t.sum())).item(), abs=1e-6)
    assert torch.equal(MaskSignal(H, C, 4, pooled=True).loss_terms(logits, target)["dice"], pooled)
    assert torch.equal(pooled_dice_loss(logits[:1], target[:1]), dice_loss(logits[:1], target[:1]))


@pytest.mark.parametrize("strategy", ["learned", "mean"])
def test_the_last_layer_can_be_excluded(strategy: str) -> None:
    layers = torch.randn(2, 4, 5, 8, generator=torch.Generator().manual_seed(0))
    fusion, short = LayerFusion(4, strategy, exclude_last=True), LayerFusion(3, strategy)
    if strategy == "learned":
        with torch.no_grad():
            fusion.logits.copy_(torch.tensor([0.3, -0.5, 1.0, 7.0]))
            short.logits.copy_(fusion.logits[:3])
    assert fusion.weights()[3] == 0 and fusion.weights().sum().item() == pytest.approx(1)
    assert torch.equal(fusion(layers), short(layers[:, :3]))
    with pytest.raises(InputError, match="'last'"):
        LayerFusion(4, "last", exclude_last=True)


def test_both_fusions_of_a_model_leave_it_out(make_model) -> None:
    model = make_model(released={"last_layer_excluded": True})
    assert [f.weights()[-1].item() for f in (model.fusion, model.mask_fusion)] == [0, 0]


def test_the_frozen_projector_keeps_its_aligned_weights(make_model) -> None:
    slow = {"aligned_lr": 0.1}
    model, plain = (build_model(load_profile("smoke", {"released.projector_frozen": on}), 0) for on in (True, False))
    lost = plain.trainable_parameters().keys() - model.trainable_parameters().keys()
    assert lost == {f"projector.{name}" for name in model.projector.state_dict()}
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)
    optimizer = build_optimizer(model.trainable_parameters(), model.profile.training.model_copy(update=slow))
    set_learning_rate(optimizer, 1.0)
    [aligned] = [group["params"] for group in optimizer.param_groups if group["lr"] == 0.1]
    assert [id(p) for p in aligned] == [id(model.fusion.logits)]  # a share of the rate is for the fusion alone then
    with pytest.raises(InputError, match="no projector is aligned with tiny and tiny"):
        make_model(released={"projector_frozen": True})


@pytest.fixture(scope="module")
def late(make_model):
    return make_model(released={"state_at_vis": True}).eval()


def test_the_state_at_vis_reads_the_token_but_not_the_true_region(late, make_model, features) -> None:
    samples = [dialogue("a", "one", ("where ?", ()), ("<vis>", (region,))) for region in (LEFT, RIGHT)]
    batches = [late.collate([sample], features) for sample in samples]
    states = [late(batch).states for batch in batches]
    assert torch.equal(*states)  # no leak
    seen: list[Tensor] = []
    handle = late.decoder.register_forward_hook(lambda _m, _i, out: seen.append(out.last_hidden_state))
    output = late(batches[0])
    handle.remove()
    where = batches[0].vis_position
    assert batches[0].input_ids[0, where] == late.chat.vis_id
    assert torch.equal(output.states, seen[0][0, where]) and not torch.equal(output.states, seen[0][0, where - 1])
    plain = make_model().eval()
    assert torch.equal(output.emitted, plain(batches[0]).emitted)  # what is emitted is still told one state earlier
    given = [dialogue("b", "one", ("what is <vis> ?", (region,)), ("<vis>", (LEFT,))) for region in (LEFT, RIGHT)]
    states = [late(late.collate([sample], features)).states for sample in given]
    assert not torch.equal(*states)  # a region in the question is still read


@pytest.mark.parametrize("cached", [True, False])
def test_late_decoding_is_what_training_saw(late, features, monkeypatch, cached: bool) -> None:
    """A forced answer `<vis> <vis>` decodes from the states that a training batch of it has, the last token too."""
    prompt = dialogue("a", "one", ("where is the star ?", ()))
    answer = dialogue("a", "one", ("where is the star ?", ()), ("<vis> <vis>", (LEFT, RIGHT)))
    batch = late.collate([answer], features)
    wanted = late(batch).states
    vis, end = late.chat.vis_id, late.chat.end_id
    for script in ([vis, vis, end], [vis, vis]):
        steps = iter(script)

        def forced(states: Tensor, table: Tensor, steps=steps) -> Tensor:
            return torch.nn.functional.one_hot(torch.tensor([next(steps)] * len(states)), len(late.chat)).float()

        with monkeypatch.context() as patch:
            patch.setattr(late, "logits", forced)
            [given] = generate(late, [prompt], features, max_new_tokens=len(script), cached=cached)
        assert given.token_ids == script and len(given.regions) == 2
        torch.testing.assert_close(given.states, wanted, rtol=1e-4, atol=1e-4)


def test_late_decoding_does_not_depend_on_the_batch(late, features, monkeypatch) -> None:
    """Prompts of different lengths and images, padded on the left."""
    prompts = [
        dialogue("a", "one", ("where is the star ?", ())),
        dialogue("b", "two", ("what is <vis> ?", (RIGHT,)), ("a star", ()), ("where is the red circle ?", ())),
    ]
    vis, end = late.chat.vis_id, late.chat.end_id

    def answers(samples: list) -> list:
        steps = iter([vis, 9, vis, end])

        def forced(states: Tensor, table: Tensor) -> Tensor:
            return torch.nn.functional.one_hot(torch.tensor([next(steps)] * len(states)), len(late.chat)).float()

        with monkeypatch.context() as patch:
            patch.setattr(late, "logits", forced)
            return generate(late, samples, features)

    for together, prompt in zip(answers(prompts), prompts, strict=True):
        [alone] = answers([prompt])
        assert len(together.regions) == 2
        torch.testing.assert_close(together.states, alone.states, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(together.predictions["mask"], alone.predictions["mask"], rtol=1e-3, atol=1e-3)


def test_without_its_encoder_a_mask_is_read_as_its_box(make_model, features) -> None:
    model, plain = make_model(released={"mask_encoder_unused": True}), make_model()
    assert model.input_signals == ["box"]
    assert not any(name.startswith("signals.mask.encoder") for name in model.trainable_parameters())

    def code(of, region) -> Tensor:
        batch = of.collate([dialogue("a", "one", ("what is <vis> ?", (region,)), ("a star", ()))], features)
        return of.region_codes({n: batch.targets[n][0] for n in batch.visible}, batch.visible)

    box = code(plain, replace(LEFT, mask=None))
    assert torch.equal(code(model, LEFT), box) and torch.equal(code(model, MASK_ONLY), box)  # its bounds are LEFT's box
    assert not torch.allclose(code(plain, LEFT), box)
    batch = model.collate([dialogue("a", "one", ("where ?", ()), ("<vis>", (MASK_ONLY,)))], features)
    assert batch.targets["mask"][1].tolist() == [True] and batch.targets["box"][1].tolist() == [False]
    dropped = model.collate(
        [dialogue(f"{i}", "one", ("what is <vis> ?", (LEFT,)), ("a star", ())) for i in range(20)],
        features,
        input_dropout=1.0,
    )
    assert dropped.visible.keys() == {"box"} and dropped.visible["box"].all()
    model(dropped).loss.backward()


@pytest.mark.parametrize("forced", [True, False])
def test_the_mask_threshold_holds_for_both_ways_of_scoring(make_model, samples, features, monkeypatch, forced) -> None:
    from pgpt_lib.evaluation.scores import evaluate

    model, seen = make_model().eval(), []
    restore = model.signals["mask"].restore
    monkeypatch.setattr(
        model.signals["mask"], "restore", lambda p, place, threshold=0.5: seen.append(threshold) or restore(p, place)
    )
    vis = torch.nn.functional.one_hot(torch.tensor(model.chat.vis_id), len(model.chat)).float()
    monkeypatch.setattr(model, "logits", lambda states, table: vis.expand(len(states), -1))
    rec = replace(samples[0], task="rec")
    metrics = evaluate(model, [rec], None, features, teacher_forced=forced, threshold=0.35).metrics
    assert set(seen) == {0.35} and ("teacher_forced" in metrics) == forced
