"""What the towers' training stands on: labels, the optimizer, and the language model's first weights."""

import numpy as np
import torch
from transformers import (
    LlamaForCausalLM,
)

from dynfocus.world.pixels import THING_RGB, render
from dynfocus.world.towers.frames import CATEGORIES, SIDE, patch_labels
from dynfocus.world.towers.muon import Muon, orthogonalize
from dynfocus.world.towers.tokenizer import train_tokenizer
from dynfocus.world.towers.tower_settings import LanguageSettings
from dynfocus.world.towers.train import CORPUS_SEED
from dynfocus.world.towers.train_language import language_config, look_back
from dynfocus.world.videos import PLACES, sample_video


def test_patches_are_labelled_where_the_pixels_are() -> None:
    for index in range(12):
        video = sample_video(13, index)
        pixels = render(video).astype(float)
        for scene in video.eventful:
            frame = scene.event.frames[0]
            labels = patch_labels(video, frame).reshape(SIDE, SIDE, 4)
            for row, column in np.ndindex(3, 3):
                cell = labels[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].reshape(4, 4)
                assert (cell == cell[0]).all()
                shown = pixels[frame, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
                for name, rgb in THING_RGB.items():
                    area = (np.abs(shown - rgb).max(-1) < 25).sum()
                    if cell[0, 0] < 8 and CATEGORIES["color"][cell[0, 0]] == name:
                        assert area > 20, (name, area)
                assert cell[0, 2] == (3 * row + column if cell[0, 0] < 8 else 9)
        glitch = video.glitches[0]
        assert (patch_labels(video, glitch)[:, 0] == 8).all()
        assert (patch_labels(video, glitch)[:, 3] == -100).all()
        plain = next(t for t in range(20) if t not in video.glitches)
        assert {PLACES[p] for p in patch_labels(video, plain)[:, 3]} == {video.scene_at(plain).place}


def test_the_first_heads_begin_by_looking_back() -> None:
    torch.manual_seed(0)
    config = language_config(LanguageSettings(), train_tokenizer(CORPUS_SEED))
    model = LlamaForCausalLM._from_config(config, attn_implementation="eager")
    look_back(model)
    x = torch.randn(2, 90, 64) * 0.1
    attention = model.model(inputs_embeds=x, output_attentions=True).attentions[0]
    for head, offset in enumerate((1, 2)):
        by_distance = [attention[:, head].diagonal(-distance, 1, 2)[:, 40:].mean().item() for distance in range(30)]
        assert int(np.argmax(by_distance)) == offset
        assert by_distance[offset] > 5 * np.median(by_distance)


def test_orthogonal_is_the_polar_factor_nearly() -> None:
    torch.manual_seed(0)
    for shape in ((64, 64), (128, 64), (64, 128)):
        matrices = torch.randn(3, *shape)
        factors = orthogonalize(matrices)
        u, _, v = torch.linalg.svd(matrices, full_matrices=False)
        sizes = torch.linalg.svdvals(factors)
        assert sizes.max() < 1.3
        assert sizes.median() > 0.6
        cosine = torch.nn.functional.cosine_similarity(factors.flatten(1), (u @ v).flatten(1))
        assert (cosine > 0.95).all()


def test_muon_descends() -> None:
    torch.manual_seed(0)
    goal, weight = torch.randn(16, 8), torch.nn.Parameter(torch.zeros(16, 8))
    optimizer = Muon([weight], lr=0.1)
    losses = []
    for _ in range(200):
        loss = (weight - goal).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]
