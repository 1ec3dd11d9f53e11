"""What each switch does: the mask head, the released code's differences one by one, and alignment in words."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import LEFT, MASK_ONLY, RIGHT, dialogue
from safetensors.torch import load_file
from torch import Tensor

from pgpt_lib.backbones import load_vision
from pgpt_lib.boxes import box_cxcywh_to_xyxy, box_xyxy_to_cxcywh
from pgpt_lib.config import load_profile
from pgpt_lib.errors import InputError
from pgpt_lib.files import read_json
from pgpt_lib.fusion import LayerFusion
from pgpt_lib.generation import generate
from pgpt_lib.losses import dice_loss, giou_loss, l1_loss
from pgpt_lib.model import build_model
from pgpt_lib.pretraining import pixels
from pgpt_lib.signals import BoxSignal, MaskSignal
from pgpt_lib.signals.two_way import position_code, scrambled_position_code
from pgpt_lib.sweeps import alignment, cell_run, switches
from pgpt_lib.sweeps.plans import load_plan, plan_names

H, C, GRID = 32, 24, 8


def cell_of(plan: str, **factors: object):
    return load_plan(plan).cell(factors, "smoke")


@pytest.mark.parametrize("plan", plan_names())
def test_every_cell_of_every_plan_can_be_run(plan: str) -> None:
    for cell in load_plan(plan).cells():
        assert switches.lacking(cell) == []
        cell.profile()


def test_a_setting_that_the_library_has_not_is_lacking() -> None:
    cell = cell_of("losses", terms="l1", seed=0)
    ahead = replace(cell, overrides={**cell.overrides, "released.white_padding": True})
    with pytest.raises(InputError, match=r"released.white_padding = True \(unknown\).*--available"):
        switches.require_all([cell, ahead])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"released.giou_misparsed": True, "signals": ["mask"]}, "giou_misparsed needs signal 'box'"),
        ({"released.dice_pooled": True, "signals": ["box"]}, "dice_pooled needs signal 'mask'"),
        ({"released.mask_encoder_unused": True, "signals": ["mask"]}, "mask_encoder_unused needs signal 'box'"),
        ({"released.dice_pooled": True, "representation": "numerical"}, "representation 'embedding'"),
        ({"mask_head": "dot_product", "signals": ["box"]}, "mask_head 'dot_product' needs signal 'mask'"),
        ({"mask_head": "dot_product", "released.position_scrambled": True}, "has no position codes"),
        ({"mask_head": "linear"}, "mask_head = 'linear'"),
        ({"released.state_at_vis": True, "llm.standardise": True}, "llm.standardise off"),
        ({"released.last_layer_excluded": True, "fusion.strategy": "last"}, "'last' takes one layer"),
        ({"released.white_padding": True}, "released.white_padding"),
    ],
)
def test_switches_that_would_do_nothing_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_profile("smoke", settings)


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


@pytest.mark.parametrize("grid", [4, 8, 28])
def test_scrambled_codes_do_not_tell_cells_apart(grid: int) -> None:
    code = scrambled_position_code(grid, 128)
    assert code.shape == (grid * grid, 128) and len(code.unique(dim=0)) < grid**2 == len(position_code(grid, 128))
    cells = code.view(grid, grid, 128)  # row, column, channel
    left, right = cells[:, : grid // 2], cells[:, grid // 2 :]
    assert torch.equal(left, left[:1].expand_as(left))  # nothing of the row
    assert torch.equal(right, right[..., :1].expand_as(right))  # constant over the channels
    assert left.std(2).min() > 0 and right[..., 0].std(0).min() > 0
    assert torch.equal(MaskSignal(H, C, grid, scrambled=True).decoder.position, code)


def test_pooled_dice_lets_a_large_mask_hide_a_small_one() -> None:
    target = torch.zeros(2, 16, 16)
    target[0, :12, :12], target[1, :2, :2] = 1, 1
    logits = torch.where(target > 0, 9.0, -9.0)
    logits[1] = -9.0  # the small one is missed
    pooled = dice_loss(logits, target, pooled=True)
    assert dice_loss(logits, target) > 0.45 and pooled < 0.05
    p, t = logits.sigmoid(), target
    assert pooled == pytest.approx((1 - 2 * (p * t).sum() / (p.sum() + t.sum())).item(), abs=1e-6)
    assert torch.equal(MaskSignal(H, C, 4, pooled=True).loss_terms(logits, target)["dice"], pooled)
    assert torch.equal(dice_loss(logits[:1], target[:1], pooled=True), dice_loss(logits[:1], target[:1]))


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
    model, plain = (build_model(load_profile("smoke", {"released.projector_frozen": on}), 0) for on in (True, False))
    lost = plain.trainable_parameters().keys() - model.trainable_parameters().keys()
    assert lost == {f"projector.{name}" for name in model.projector.state_dict()}
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(InputError, match="no projector is aligned with tiny and tiny"):
        make_model(released={"projector_frozen": True})


def test_the_dot_product_head_is_one(make_model, samples, features) -> None:
    """Linear in the state, and each pixel is made of its own cell alone."""
    torch.manual_seed(0)
    signal = MaskSignal(H, C, GRID, head="dot_product")
    a, b, image = torch.randn(1, H), torch.randn(1, H), torch.randn(1, GRID**2, C)
    zero = signal.decode(torch.zeros(1, H), image)
    both = signal.decode(a + b, image) - zero
    assert torch.allclose(both, signal.decode(a, image) + signal.decode(b, image) - 2 * zero, atol=1e-4)
    moved = image.clone()
    moved[0, 10] += 1
    change = (signal.decode(a, moved) - signal.decode(a, image))[0].view(GRID, 4, GRID, 4).abs().amax((1, 3))
    assert change.flatten().nonzero().flatten().tolist() == [10]
    two = torch.cat([image, moved])
    assert torch.allclose(signal.decode(torch.cat([a, b, a]), two, torch.tensor([1, 0, 0]))[2], signal.decode(a, image))
    with pytest.raises(InputError, match="49 visual tokens"):
        signal.decode(a, torch.randn(1, 49, C))
    model = make_model(mask_head="dot_product")
    model(model.collate(samples, features)).loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.signals["mask"].parameters())


def test_the_dot_product_head_learns_a_mask() -> None:
    """Features that say which cells an object covers, and a state that says which object."""
    torch.manual_seed(0)
    signal, owner = MaskSignal(H, 2, GRID, head="dot_product"), torch.arange(GRID**2) % GRID < 4
    features = torch.stack([owner, ~owner], -1).float()[None]
    states = torch.eye(2, H) * 4
    target = torch.stack([owner, ~owner]).view(2, GRID, GRID).float().repeat_interleave(4, 1).repeat_interleave(4, 2)
    optimizer = torch.optim.AdamW(signal.decoder.parameters(), 3e-3)
    for _ in range(60):
        loss = sum(
            signal.loss_terms(signal.decode(states, features, torch.zeros(2, dtype=torch.long)), target).values()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1


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


def small_cell(strategy: str, **run: object):
    cell = cell_of("fusion", strategy=strategy, seed=3)
    return replace(cell, run=cell.run.model_copy(update={"align_steps": 3, "align_scenes": 48, **run}))


def test_alignment_in_words_is_cached_resumed_and_loaded(tmp_path, monkeypatch) -> None:
    cell = small_cell("second_last")
    profile = cell.profile()
    assert profile.llm.name == "nano-words"
    whole, record = alignment.aligned_weights(cell, profile, tmp_path / "whole")
    assert record == read_json(whole.with_name("aligned.json")) and record["steps"] == 3 and record["loss"] > 0
    assert not list(whole.parent.glob("pixels-*/"))  # the training's state is gone
    monkeypatch.setattr(alignment, "train_pixels", lambda *_, **__: pytest.fail("aligned again"))
    shared = small_cell("second_last", expressions=7)
    assert alignment.aligned_weights(shared, profile, tmp_path / "whole")[0] == whole
    monkeypatch.undo()

    calls: list[int] = []
    answer_loss = pixels.answer_loss
    monkeypatch.setattr(alignment, "SAVE_EVERY", 1)
    monkeypatch.setattr(
        pixels, "answer_loss", lambda *given: calls.append(1) or (answer_loss(*given) if len(calls) < 3 else 1 / 0)
    )
    with pytest.raises(ZeroDivisionError):
        alignment.aligned_weights(cell, profile, tmp_path / "killed")
    monkeypatch.setattr(pixels, "answer_loss", lambda *given: calls.append(1) or answer_loss(*given))
    calls.clear()
    again, _ = alignment.aligned_weights(cell, profile, tmp_path / "killed")
    assert len(calls) == 1 and again.read_bytes() == whole.read_bytes()

    saved = load_file(whole)
    model, plain = build_model(profile, 3, aligned=whole), build_model(profile, 3)
    for name, value in model.projector.state_dict().items():
        assert torch.equal(value, saved[f"projector.{name}"])
    assert not torch.equal(model.projector.fc1.weight, plain.projector.fc1.weight)


def test_each_strategy_seed_and_budget_has_its_own_alignment() -> None:
    cells = [
        small_cell("learned"),
        small_cell("learned_raw"),
        small_cell("mean"),
        small_cell("mean", seed=4),
        small_cell("mean", align_steps=5),
    ]
    names = {alignment.folder_name(alignment.settings(cell, cell.profile())) for cell in cells}
    assert len(names) == 5 and any(name.startswith("learned-raw-seed3-3x48-") for name in names)
    shared = cell_of("fusion", strategy="learned", weights="shared", seed=3)
    two = cell_of("fusion", strategy="learned", seed=3)
    assert alignment.settings(shared, shared.profile()) == alignment.settings(two, two.profile())
    swapped = cell_of("fusion", strategy="mean", start="swapped", seed=3)
    assert alignment.aligned_weights(swapped, swapped.profile(), None) is None
    assert swapped.profile().llm.name == "nano" and "cell.align_steps" not in swapped.asked()


def test_only_fusion_and_projector_are_aligned_and_raw_fusion_stays_raw(tmp_path, monkeypatch) -> None:
    met: dict[str, object] = {}
    train = alignment.train_pixels

    def spy(folder, tower, start, *given, aligned, **options):
        before = {k: v.clone() for k, v in start[0].state_dict().items()}
        first = aligned.fusion.logits.detach().clone()
        out = train(folder, tower, start, *given, aligned=aligned, **options)
        met["frozen"] = all(torch.equal(v, before[k]) for k, v in start[0].state_dict().items())
        met["moved"] = not torch.equal(first, aligned.fusion.logits)
        met["normalise"] = aligned.fusion.normalise
        return out

    monkeypatch.setattr(alignment, "train_pixels", spy)
    cell = small_cell("learned_raw", align_steps=1)
    path, _ = alignment.aligned_weights(cell, cell.profile(), tmp_path)
    assert met == {"frozen": True, "moved": True, "normalise": False}
    assert load_file(path).keys() >= {"fusion.logits", "projector.position"}


def test_alignment_needs_a_words_stage_and_its_grid() -> None:
    cell = cell_of("fusion", strategy="mean", seed=0)
    with pytest.raises(InputError, match="'nano' has met no words alone; nano-words has"):
        alignment.settings(cell, load_profile("smoke"))
    with pytest.raises(InputError, match="no positions of a words stage"):
        pixels.load_bundled_words("nano")
    tower = load_vision("nano-vit", 56)
    with pytest.raises(InputError, match=r"\[16, 128\], but the language model has met \[64, 128\]"):
        pixels.train_pixels(None, tower, pixels.load_bundled_words(), frozen=True)


def test_a_cell_starts_from_what_was_aligned_for_it(tmp_path, monkeypatch) -> None:
    """Through `run_cell`, without its training and scoring."""
    cell, built = small_cell("mean", align_steps=1), []

    class Reached(Exception):
        pass

    def build(profile, seed, aligned=None):
        built.append((profile.llm.name, seed, load_file(aligned)["projector.fc1.weight"].shape[1]))
        raise Reached

    monkeypatch.setattr(cell_run, "build_model", build)
    with pytest.raises(Reached):
        cell_run.run_cell(cell, tmp_path / "work", tmp_path, progress=False)
    assert built == [("nano-words", 3, load_vision("nano-vit", 112).hidden_size)]
