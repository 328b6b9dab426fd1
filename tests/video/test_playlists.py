"""Files that name other files or addresses are refused: only what a file holds itself is read."""

import re
from pathlib import Path

import av
import pytest
from make_videos import write_video
from PIL import Image

from dynfocus.errors import VideoError
from dynfocus.settings import FrameRule
from dynfocus.video import read_clip, read_media
from dynfocus.video.containers import ALONE, open_container
from dynfocus.video.packets import count_stored_frames, holds_video, read_packets
from dynfocus.video.thumbnails import display_size

RULE = FrameRule(size=16, fps=None)
MPD = """<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"
 profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" mediaPresentationDuration="PT2S"><Period><AdaptationSet
 mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{0}/v.mp4</BaseURL></Representation>
</AdaptationSet></Period></MPD>"""
SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 5004 RTP/AVP 31\r\n"
SVG = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="32" height="32">
<image xlink:href="file://{0}/1.png" width="32" height="32"/></svg>"""
HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{0}\n#EXT-X-ENDLIST\n"
FILES = {
    "hls.m3u8": HLS.format("{0}/v.ts"),
    "hls.mp4": HLS.format("{0}/v.ts"),
    "part.m3u8": HLS.format("subfile,,start,0,end,0,,:{0}/v.ts"),
    "address.m3u8": HLS.format("http://127.0.0.1:9/v.ts"),
    "list.mp4": "ffconcat version 1.0\nfile '{0}/v.mp4'\n",
    "near.mp4": "ffconcat version 1.0\nfile 'v.mp4'\n",
    "data.mkv": "ffconcat version 1.0\nfile 'data:video/mp4;base64,AAAA'\n",
    "dash.mpd": MPD,
    "stream.sdp": SDP,
    "picture.svg": SVG,
    "%d.png": "a number",
    "script.avs": 'FFmpegSource2("{0}/v.mp4")',
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of files that name others, beside a real video, and another folder with a real video and images."""
    inside, outside = tmp_path_factory.mktemp("inside"), tmp_path_factory.mktemp("outside")
    for folder in (inside, outside):
        for name in ("v.mp4", "v.ts"):
            write_video(folder / name, 3)
        for number in (1, 2):
            Image.new("RGB", (32, 32), (9, 9, 9)).save(folder / f"{number}.png")
    for name, text in FILES.items():
        (inside / name).write_text(text.format(outside))
    return inside, outside


@pytest.mark.parametrize("name", FILES)
def test_what_names_other_files_is_refused_by_every_reader(name: str, places: tuple[Path, Path]) -> None:
    file = places[0] / name
    for reader in (
        lambda: read_media(file, RULE),
        lambda: read_clip(file, RULE, "pyav"),
        lambda: read_clip(file, RULE),
    ):
        with pytest.raises(VideoError, match=re.escape(str(file))):
            reader()
    for part in (display_size, count_stored_frames, lambda file: read_packets(file, RULE)):
        with pytest.raises((VideoError, av.FFmpegError)):
            part(file)
    assert not holds_video(file)


@pytest.mark.parametrize("name", ["hls.m3u8", "list.mp4", "%d.png", "picture.svg"])
def test_a_refused_file_is_said_to_be_a_playlist(name: str, places: tuple[Path, Path]) -> None:
    with pytest.raises(VideoError, match=r"it is a playlist, a numbered image or another description of files"):
        read_clip(places[0] / name, RULE)


def test_what_holds_its_own_pictures_is_read(places: tuple[Path, Path]) -> None:
    for name in ("v.mp4", "v.ts"):
        assert len(read_media(places[1] / name, RULE).frames) == 3
    with open_container(places[1] / "1.png") as container:
        assert container.format.name == "png_pipe"
    assert not {"hls", "concat", "dash", "sdp", "image2", "lavfi"} & set(ALONE.split(","))
