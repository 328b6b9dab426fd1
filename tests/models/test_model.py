"""The transformers model: what an answer and a loss may depend on, and folders that it comes back from."""

from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from dynfocus.errors import CheckpointError, FeatureError, PromptError
from dynfocus.models.collate import Example
from dynfocus.models.model import DynFocusConfig, DynFocusModel, place
from dynfocus.settings import ConnectorSettings
from dynfocus.types import Batch, VideoTokens

NEW = 5


def per_row(net: DynFocusModel, batch: Batch) -> torch.Tensor:
    """The summed loss of each row, by the model's own call on labels of that row alone."""
    out = []
    for row in range(len(batch.labels)):
        labels = batch.labels.clone()
        labels[torch.arange(len(labels)) != row] = -100
        out.append(net(replace(batch, labels=labels))[0] * labels[row, 1:].ne(-100).sum())
    return torch.stack(out)


def test_the_loss_is_the_mean_cross_entropy_of_the_answers() -> None:
    net, batch = tiny.model(), tiny.batch([3, 0], answers=True)
    with torch.no_grad():
        embeds, _ = net.embed(batch)
        total, targets = 0.0, 0
        for row, labels in enumerate(batch.labels):
            real = batch.attention_mask[row].bool()
            logits = net.language_model(inputs_embeds=embeds[row][real][None]).logits[0].log_softmax(-1)
            for n, label in enumerate(labels[real].tolist()):
                if label != -100:
                    total, targets = total - logits[n - 1, label].item(), targets + 1
        assert net(batch)[0].item() == pytest.approx(total / targets, rel=1e-5)


def test_batch_and_padding_change_neither_loss_nor_answer() -> None:
    net, counts = tiny.model(), [9, 0, 1, 4]
    for slots in ("every", "first"):
        many = [tiny.example(n, t or 1, media="v.mp4" if t else None, turns=1 + n % 2) for n, t in enumerate(counts)]
        taught, asked = (tiny.processor(answers=answers, slots=slots) for answers in (True, False))
        with torch.no_grad():
            losses = per_row(net, taught(many))
            answers, video = net.answer(asked(many), max_new_tokens=NEW, min_new_tokens=NEW)
            for n, one in enumerate(many):
                torch.testing.assert_close(losses[n], per_row(net, taught([one]))[0], atol=1e-4, rtol=1e-5)
                alone, _ = net.answer(asked([one]), max_new_tokens=NEW, min_new_tokens=NEW)
                assert alone[0].tolist() == answers[n].tolist()
        assert len({tuple(answer) for answer in answers.tolist()}) > 1
        assert video.mask.any(1).all()


def test_the_noise_of_a_row_does_not_hang_on_its_batch() -> None:
    net = tiny.model(replace(tiny.SETTINGS, sigma=1.0))
    net.connector.train()
    many = [tiny.example(n, 9 + n, turns=2) for n in range(3)]
    taught = tiny.processor(answers=True, prompt="plain")  # in which the row's number moves nothing but the noise
    with torch.no_grad():
        losses = per_row(net, taught(many))
        backwards = per_row(net, taught(many[::-1])).flip(0)
        alone = torch.stack([per_row(net, taught([one]))[0] for one in many])
        moved = per_row(net, taught([replace(one, row=replace(one.row, index=50 + n)) for n, one in enumerate(many)]))
    torch.testing.assert_close(losses, backwards, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(losses, alone, atol=1e-4, rtol=1e-5)
    assert (losses - moved).abs().max() > 1e-3


def test_the_placeholder_may_be_a_token_that_the_language_model_never_had() -> None:
    net, batch = tiny.model(), tiny.batch([3, 0], answers=True)
    with torch.no_grad():
        loss, _ = net(batch)
        new = net.language_model.get_input_embeddings().num_embeddings
        ids = torch.where(batch.input_ids == net.config.image_token_id, new, batch.input_ids)
        net.config.image_token_id = new
        assert torch.equal(net(replace(batch, input_ids=ids))[0], loss)


def test_an_answer_hangs_on_the_video() -> None:
    net, batch = tiny.model(), tiny.batch([9], answers=True)
    other = replace(batch, sketch=tiny.sketch(9, seed=55))
    with torch.no_grad():
        assert abs(net(batch)[0] - net(other)[0]) > 1e-3


@pytest.mark.parametrize("answers", [True, False])
def test_blind_is_the_same_prompt_with_the_placeholders_taken_out(answers: bool) -> None:
    net = tiny.model()
    batch = tiny.batch([6, 0, 2], answers=answers)
    blind = net.without_video(batch)
    image = net.config.image_token_id
    with torch.no_grad():
        for row, ids in enumerate(batch.input_ids):
            real = batch.attention_mask[row].bool() & ids.ne(image)
            words = net.language_model.get_input_embeddings()(ids[real][None])
            if answers:
                logits = net.language_model(inputs_embeds=words).logits[0, :-1]
                targets = batch.labels[row][real][1:]
                exact = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
                torch.testing.assert_close(per_row(net, blind)[row], exact, atol=1e-4, rtol=1e-5)
            else:
                options = {"do_sample": False, "max_new_tokens": NEW, "min_new_tokens": NEW}
                exact = net.language_model.generate(
                    inputs_embeds=words, attention_mask=torch.ones(1, words.shape[1]).long(), **options
                )
                result, _ = net.answer(blind, **options)
                assert result[row].tolist() == exact[0].tolist()


def test_text_rows_touch_the_visual_path_by_zero() -> None:
    """Alone, they give every parameter of the connector a gradient, of zeros; and no visual token."""
    net, batch = tiny.model(), tiny.batch([0, 0], answers=True)
    loss, video = net.train()(batch)
    loss.backward()
    assert batch.input_ids.ne(net.config.image_token_id).all()
    assert video.mask.any()
    for name, weight in net.connector.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.eq(0).all(), name
    with torch.no_grad():
        exact = net.language_model(
            inputs_embeds=net.language_model.get_input_embeddings()(batch.input_ids),
            attention_mask=batch.attention_mask,
            position_ids=(batch.attention_mask.cumsum(-1) - 1).clamp(min=0),
        ).logits
        torch.testing.assert_close(
            torch.nn.functional.cross_entropy(exact[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten()), loss
        )


def test_the_frozen_towers_get_no_gradient_and_the_rest_does() -> None:
    net = tiny.model().train()
    batch = tiny.processor(answers=True)([Example(tiny.row(0), frames=tiny.frames(7))])
    net(batch, step=1)[0].backward()
    assert all(p.grad is None for p in [*net.vision.parameters(), *net.instruction.parameters()])
    silent = [name for name, p in net.connector.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    assert not silent
    assert net.language_model.lm_head.weight.grad is not None


def test_sketches_made_before_and_frames_give_the_same() -> None:
    net, clips = tiny.model(), [tiny.frames(5, 1), tiny.frames(2, 2)]
    fresh = tiny.processor(answers=True)([Example(tiny.row(n), frames=clip) for n, clip in enumerate(clips)])
    cached = tiny.processor(answers=True)([Example(tiny.row(n), net.sketch(clip)) for n, clip in enumerate(clips)])
    with torch.no_grad():
        (a, connected), (b, read) = net(fresh), net(cached)
    assert torch.equal(a, b)
    assert torch.equal(connected.tokens, read.tokens)


def tokens(counts: list[int]) -> VideoTokens:
    size = max(counts)
    mask = torch.arange(size) < torch.tensor(counts)[:, None]
    values = torch.arange(len(counts))[:, None] * 10 + torch.arange(size) + 1.0
    return VideoTokens((values * mask)[..., None].expand(-1, -1, 3), mask)


def test_visual_tokens_stand_in_their_places_in_reading_order() -> None:
    slots = torch.tensor([[0, 1, 1, 0, 1], [0, 0, 0, 0, 0], [1, 1, 0, 0, 1]]).bool()
    video = tokens([2, 1, 3, 3])
    result = place(torch.full((3, 5, 3), -1.0), slots, video, torch.tensor([0, 0, -1, 2]))
    assert result[..., 0].tolist() == [[-1, 1, 2, -1, 11], [-1] * 5, [31, 32, -1, -1, 33]]


@pytest.mark.parametrize(("counts", "have"), [([2, 2], 2), ([3, 4], 4), ([4, 2], 4)])
def test_another_number_of_tokens_than_places_is_refused(counts: list[int], have: int) -> None:
    slots = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 0]]).bool()
    row = next(n for n, count in enumerate(counts) if count != 3)
    output = f"row {row} with room for 3 visual tokens and features for {have}.*Whoever builds the batch must expand"
    with pytest.raises(PromptError, match=output):
        place(torch.zeros(2, 4, 3), slots, tokens(counts), torch.tensor([0, 1]))


def test_a_batch_expanded_for_other_settings_is_refused() -> None:
    other = replace(tiny.SETTINGS, keep=0.2)
    with pytest.raises(PromptError, match="row 1 "):
        tiny.model()(tiny.batch([1, 9], other))


def test_half_precision_sums_do_not_reach_infinity() -> None:
    video = VideoTokens(torch.full((1, 4, 3), 6e4).half(), torch.ones(1, 4, dtype=torch.bool))
    result = place(torch.zeros(1, 4, 3).half(), torch.zeros(1, 4).bool(), video, torch.tensor([-1]))
    assert result.eq(0).all()


def test_a_saved_model_comes_back_the_same(tmp_path: Path) -> None:
    net = tiny.model(replace(tiny.SETTINGS, keep=0.375, spatial_prototypes=(5, 2)))
    net.config.reading = {"frame_rule": {"size": 24}, "slots": "first"}
    net.save_pretrained(tmp_path)
    taught, asked = (tiny.batch([7, 0, 2], net.settings, answers=answers) for answers in (True, False))
    config = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(config, DynFocusConfig)
    assert config.settings == net.settings
    for again in (DynFocusModel.from_folder(tmp_path).eval(), AutoModel.from_pretrained(tmp_path).eval()):
        assert isinstance(again, DynFocusModel)
        assert again.settings == net.settings
        assert again.config.reading == net.config.reading
        assert again.state_dict().keys() == net.state_dict().keys()
        assert all(torch.equal(again.state_dict()[name], value) for name, value in net.state_dict().items())
        with torch.no_grad():
            assert torch.equal(again(taught)[0], net(taught)[0])
        assert torch.equal(again.answer(asked)[0], net.answer(asked)[0])
        assert torch.equal(again.sketch(tiny.frames(2)).grains, net.sketch(tiny.frames(2)).grains)


def test_a_saved_model_takes_other_settings_of_the_same_sizes(tmp_path: Path) -> None:
    tiny.model().save_pretrained(tmp_path)
    fewer = DynFocusModel.from_folder(tmp_path, replace(tiny.SETTINGS, events=3, selector="uniform"))
    assert fewer.settings.events == 3
    with pytest.raises(CheckpointError, match=r"connector\.fine\.0\.bias is absent"):
        DynFocusModel.from_folder(tmp_path, replace(tiny.SETTINGS, encoder="average_pooling"))


@pytest.mark.parametrize("damage", ["no folder", "no weights", "cut off", "one absent", "another shape"])
def test_a_damaged_folder_is_refused(tmp_path: Path, damage: str) -> None:
    tiny.model().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    state, name = load_file(file), "connector.rods.f_q.weight"
    if damage == "no weights":
        file.unlink()
    elif damage == "cut off":
        file.write_bytes(file.read_bytes()[:5000])
    elif damage == "one absent":
        save_file({key: value for key, value in state.items() if key != name}, file, {"format": "pt"})
    elif damage == "another shape":
        save_file(state | {name: torch.zeros(2, 2)}, file, {"format": "pt"})
    with pytest.raises(CheckpointError):
        DynFocusModel.from_folder(tmp_path / "nothing" if damage == "no folder" else tmp_path)


@pytest.mark.parametrize("encoder", ["dynfocus", "average_pooling"])
def test_projectors_are_handed_over_and_nothing_else(tmp_path: Path, encoder: str) -> None:
    settings = replace(tiny.SETTINGS, encoder=encoder)
    first, second = tiny.model(settings, seed=1), tiny.model(settings, seed=2)
    before = {name: value.clone() for name, value in second.state_dict().items()}
    path = tmp_path / "projectors.safetensors"
    save_file(first.projectors(), path)
    second.load_projectors(path)
    handed = {name for name, value in second.state_dict().items() if not torch.equal(value, before[name])}
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert handed == set(load_file(path)) == set(first.projectors())
    parts = {name.rsplit(".", 2)[0] for name in handed}
    assert parts == ({"connector.cones.fine", "connector.rods.coarse"} if encoder == "dynfocus" else {"connector.fine"})
    assert all(torch.equal(second.state_dict()[name], first.state_dict()[name]) for name in handed)


@pytest.mark.parametrize("damage", ["no file", "cut off", "one absent", "one more", "another shape", "another encoder"])
def test_foreign_projectors_are_refused(tmp_path: Path, damage: str) -> None:
    net, path = tiny.model(), tmp_path / "projectors.safetensors"
    state = {name: value.clone() for name, value in net.projectors().items()}
    name = next(iter(state))
    if damage == "one absent":
        del state[name]
    elif damage == "one more":
        state["connector.select.x"] = torch.zeros(2)
    elif damage == "another shape":
        state[name] = torch.zeros(2, 2)
    elif damage == "another encoder":
        state = tiny.model(replace(tiny.SETTINGS, encoder="average_pooling")).projectors()
    if damage != "no file":
        save_file(state, path)
    if damage == "cut off":
        path.write_bytes(path.read_bytes()[:300])
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(CheckpointError):
        net.load_projectors(path)
    assert all(torch.equal(net.state_dict()[key], value) for key, value in before.items())


def test_a_model_cast_to_bfloat16_answers() -> None:
    net = tiny.model().to(torch.bfloat16)
    with torch.no_grad():
        loss, _ = net(tiny.batch([7, 0], answers=True))
        exact, _ = tiny.model()(tiny.batch([7, 0], answers=True))
    assert loss.item() == pytest.approx(exact.item(), rel=0.2)
    assert net.answer(tiny.processor()([Example(tiny.row(0), frames=tiny.frames(4))]))[0].shape[0] == 1


def test_frames_of_another_size_and_defaults() -> None:
    with pytest.raises(FeatureError, match="12 x 12"):
        tiny.model().sketch(torch.zeros(2, 12, 12, 3, dtype=torch.uint8))
    assert DynFocusConfig().settings == ConnectorSettings()
