"""The published data sets, as they lie when unpacked, through the real command line: alone, mixed, and in shards."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from published_layouts import ROWS, copy_broken_set, data, quarantine, write_published_sets
from safetensors.torch import load_file
from tiny_world import call

from datamodules.mixture import CC3M, Mixture
from dynfocus.cli import main
from dynfocus.errors import ConfigError, DataError
from dynfocus.records.skipped import read_notes
from dynfocus.settings import FrameRule

BRIEF = ("--trainer.max_steps", "2", "--trainer.limit_val_batches", "0")
STAGE2 = ["llava665k", "scienceqa", "videochatgpt", "webvid_qa", "nextqa", "clevrer_qa", "clevrer_mc"]


@pytest.fixture(scope="module")
def root(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_published_sets(tmp_path_factory.mktemp("published"), place / "data")


def init_options(trained_runs: Path) -> tuple[str, str]:
    return "--model.init_from", str(trained_runs / "stage1" / "projectors.safetensors")


@pytest.mark.parametrize(
    ("kind", "stage"), [("CC3M", "stage1"), ("WebVid", "stage1"), ("LLaVA665K", "stage2"), ("VideoChat2", "stage2")]
)
def test_each_trains_alone(place: Path, trained_runs: Path, root: Path, tmp_path: Path, kind: str, stage: str) -> None:
    more = init_options(trained_runs) if stage == "stage2" else ()
    assert call(place, "fit", stage, tmp_path / "run", *BRIEF, *more, *data(tmp_path, root, f"mixture.{kind}")) == 0
    assert json.loads((tmp_path / "run" / "fit.json").read_text())["steps"] == 2
    assert not (tmp_path / "run" / "quarantine.jsonl").exists()


def test_stage_2_mixes_text_images_and_videos(place: Path, trained_runs: Path, root: Path, tmp_path: Path) -> None:
    """One epoch of all of them, a set twice and a set by half; every row is there as often as its weight says."""
    mixed = data(tmp_path, root, sets=STAGE2, weights={"nextqa": 2.0, "llava665k": 0.5}, batch_size=1)
    assert call(place, "fit", "stage2", tmp_path / "run", *init_options(trained_runs), *mixed) == 0
    rows = {"llava665k": 7 * ROWS, "scienceqa": 2 * ROWS, "videochatgpt": ROWS, "webvid_qa": 2 * ROWS}
    rows |= dict.fromkeys(("nextqa", "clevrer_qa", "clevrer_mc"), 2 * ROWS)
    epoch = sum(rows.values()) + rows["nextqa"] - rows["llava665k"] // 2
    assert json.loads((tmp_path / "run" / "fit.json").read_text())["steps"] == epoch
    assert not (tmp_path / "run" / "quarantine.jsonl").exists()


def test_the_recipes_name_the_papers_data() -> None:
    """What stage1.yaml, stage2.yaml and posttune.yaml mix, and that an overlay's list takes the place of another."""
    import yaml
    from tiny_world import CONFIGS

    sets = {
        name: yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["data"]["init_args"]["sets"]
        for name in ("stage1", "stage2", "posttune")
    }
    assert sets == {"stage1": ["cc3m", "webvid"], "stage2": STAGE2, "posttune": ["videochatgpt"]}


def test_post_tuning_reads_its_own_sets_alone(place: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Laid over stage 2, and with the root from the environment."""
    import yaml
    from tiny_world import CONFIGS

    flags = [part for name in ("stage2", "posttune") for part in ("--config", str(CONFIGS / f"{name}.yaml"))]
    folders = ("--model.encoders", str(place), "--model.language_model", str(place))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DYNFOCUS_DATA", str(root))
        with pytest.raises(SystemExit):
            main(["fit", *flags, *folders, "--trainer.default_root_dir", "runs", "--print_config"])
    options = yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]
    assert options["sets"] == ["videochatgpt"]
    assert options["root"] == str(root)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sets": ("cc4m",)}, "the data set 'cc4m'. Needed: one of cc3m"),
        ({"sets": ()}, "the data sets none"),
        ({"sets": ("cc3m",), "weights": {"webvid": 1.0}}, "weights of 'webvid'"),
        ({"sets": ("cc3m",), "folders": {"webvid": "x"}}, "folders of 'webvid'"),
        ({"sets": ("cc3m",), "media": {"webvid": "x"}}, "media of 'webvid'"),
        ({"sets": ("cc3m",), "files": {"train": "mine.json"}}, "mine.json beside data sets to mix"),
    ],
)
def test_wrong_mixtures_are_refused(place: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Mixture(place, encoders=place, language_model=place, **options)


def test_a_set_may_lie_elsewhere(place: Path, root: Path, tmp_path: Path) -> None:
    """All of it, or its videos alone."""
    folders = {"encoders": place / "towers/encoders", "language_model": place / "towers/language"}
    options = {**folders, "index": tmp_path / "index", "sets": ("videochatgpt",)}
    (tmp_path / "VideoChatGPT").mkdir()
    whole, annotations = root / "VideoChatGPT", tmp_path / "VideoChatGPT" / "VideoInstruct100K.json"
    for mixture in (
        Mixture(tmp_path, **options, folders={"videochatgpt": str(whole)}),
        Mixture(tmp_path, **options, media={"videochatgpt": str(whole / "videos")}),
    ):
        rows = mixture.dataset("train")
        assert {len(rows[n].frames) for n in range(len(rows))} == {20}
        annotations.write_bytes((whole / annotations.name).read_bytes())
    annotations.unlink()
    with pytest.raises(DataError, match="no annotation file at"):
        Mixture(tmp_path, **options).dataset("train")


def test_broken_rows_are_noted_once_and_stop_nothing(place: Path, root: Path, tmp_path: Path) -> None:
    """The others are learned from as if they were not there; a second epoch notes nothing anew."""
    bad = data(tmp_path / "data", copy_broken_set(root, tmp_path / "sets"), "mixture.CC3M", num_workers=2)
    run = tmp_path / "run"
    run.mkdir()
    (run / "quarantine.jsonl").write_text('{"source": "cc3')  # as a killed run may leave it
    assert call(place, "fit", "stage1", run, *bad, *quarantine(0.5), "--trainer.max_epochs", "2") == 0
    notes = read_notes(tmp_path / "run" / "quarantine.jsonl", mend=False)
    assert sorted((one.index, one.id, one.media) for one in notes) == [(3, "3", "3.jpg"), (11, "11", "11.jpg")]
    assert {one.source for one in notes} == {"cc3m"}


def test_too_many_broken_rows_end_the_run(
    place: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it names stays, also of a run that saved nothing yet."""
    bad = data(tmp_path / "data", copy_broken_set(root, tmp_path / "sets"), "mixture.CC3M")
    assert call(place, "fit", "stage1", tmp_path / "run", *bad, *quarantine(0.03)) == 1
    output = capsys.readouterr().err
    assert "rows that had to be skipped" in output
    assert "dynfocus doctor" in output
    assert "3.jpg" in output or "11.jpg" in output
    assert list(read_notes(tmp_path / "run" / "quarantine.jsonl", mend=False))


def test_without_a_quarantine_a_broken_row_is_an_error(
    place: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = data(tmp_path / "data", copy_broken_set(root, tmp_path / "sets"), "mixture.CC3M")
    assert call(place, "fit", "stage1", tmp_path / "run", *bad) == 1
    assert "add that callback to trainer.callbacks" in capsys.readouterr().err


def test_the_doctor_finds_them_and_training_leaves_them_out(
    place: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The run after it has no bad row, knows what rows cost, and may group them."""
    bad = data(tmp_path / "data", copy_broken_set(root, tmp_path / "sets"), "mixture.CC3M")
    assert call(place, "doctor", "stage1", tmp_path / "run", *bad, "--workers", "0", "--limit", "0.1") == 0
    assert "32" in capsys.readouterr().out
    assert call(place, "doctor", "stage1", tmp_path / "run", *bad, "--workers", "0", "--limit", "0.05") == 1
    assert "1 missing, 1 unreadable" in capsys.readouterr().err
    group = ("--data.init_args.group", "true", "--trainer.accumulate_grad_batches", "2")
    with caplog.at_level("INFO"):
        assert call(place, "fit", "stage1", tmp_path / "run", *bad, *group) == 0
    assert "2 rows of cc3m are left out" in caplog.text
    assert json.loads((tmp_path / "run" / "fit.json").read_text())["steps"] == 30 // 4


def test_grouping_needs_the_doctor(place: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mixed = data(tmp_path, root, sets=["cc3m", "webvid"], group=True)
    assert call(place, "fit", "stage1", tmp_path / "run", *mixed) == 1
    assert "dynfocus doctor" in capsys.readouterr().err


def test_a_run_over_shards_equals_the_run_over_files(place: Path, root: Path, tmp_path: Path) -> None:
    """Two shares of sketches, written apart; then the media are gone, and the same is learned to the bit."""
    cached = data(tmp_path / "files", root, sets=["cc3m", "webvid"], sketch_cache=str(tmp_path / "cache"))
    assert call(place, "fit", "stage1", tmp_path / "files" / "run", *cached) == 0
    for share in ("0/2", "1/2"):
        more = ("--shard", share, "--out", str(tmp_path / "shards"), "--workers", "0")
        assert call(place, "sketch", "stage1", tmp_path / "write" / "run", *cached, *more) == 0
    bare = tmp_path / "bare"
    for name in ("LLaVA-CC3M-Pretrain-595K/chat.json", "WebVid/results_2M_train.csv"):
        (bare / name).parent.mkdir(parents=True)
        (bare / name).write_bytes((root / name).read_bytes())
    stored = {"sketch_cache": str(tmp_path / "other"), "sketch_shards": str(tmp_path / "shards")}
    assert (
        call(
            place, "fit", "stage1", tmp_path / "run", *data(tmp_path / "bare", bare, sets=["cc3m", "webvid"], **stored)
        )
        == 0
    )
    one, other = (load_file(folder / "run" / "projectors.safetensors") for folder in (tmp_path / "files", tmp_path))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_rehearsal_takes_rows_that_can_be_read(place: Path, root: Path, tmp_path: Path) -> None:
    """The dearest row names no file; the next one is rehearsed, and what is rehearsed is no blank."""
    sets = copy_broken_set(root, tmp_path / "sets")
    file = sets / "LLaVA-CC3M-Pretrain-595K" / "chat.json"
    rows = json.loads(file.read_text())
    rows[3]["conversations"][1]["value"] = "blue " * 30
    rows[5]["conversations"][1]["value"] = "red " * 20
    file.write_text(json.dumps(rows))
    folders = {"encoders": place / "towers/encoders", "language_model": place / "towers/language"}
    made = CC3M(sets, **folders, connector=tiny.SETTINGS, frame_rule=FrameRule(24), index=tmp_path, batch_size=4)
    made.setup("fit")
    dearest = made.most_expensive_batch()
    assert dearest is not None
    assert not dearest.skipped
    assert "5" in {record.id for record in dearest.records}


@pytest.mark.parametrize("share", ["0of8", "8/8", "-1/2", "1/"])
def test_a_share_that_is_none_is_refused(share: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sketch", "--config", "x.yaml", "--out", "y", f"--shard={share}"]) == 2
    assert "such as 0/8" in capsys.readouterr().err
