"""Downloads from a server that fails in every way: what arrives is whole and right, or nothing does."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import random
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from flaky_server import FlakyServer

from pgpt_lib.cli import main
from pgpt_lib.data import fetch as fetching
from pgpt_lib.data.datasets import obtain, table
from pgpt_lib.data.fetch import Download, fetch
from pgpt_lib.data.unpack import unpack
from pgpt_lib.errors import InputError, RunError


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip archive whose bytes do not compress, so that half of it is half of its files, and do not tell the time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


NOISE = random.Random(0).randbytes(3_000_000)
CONTENT = zipped({"a/one.json": b"[1]", "a/two.bin": NOISE})
SHA = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
BAD = ("drop", "dropplain", "liar", "wrong", "page", "gone", "plain", "moved")


@pytest.fixture
def server() -> Iterator[FlakyServer]:
    running = FlakyServer()
    running.files["x.zip"] = CONTENT
    yield running
    running.close()


def download(server: FlakyServer, *hows: str, known: str | None = SHA) -> Download:
    return Download("x.zip", tuple(f"{server.address}/{how}/x.zip" for how in hows), known)


def left(root: Path) -> list[str]:
    """What a download left under names that are not hidden."""
    return sorted(p.name for p in (root / "downloads").iterdir() if not p.name.startswith("."))


@pytest.mark.parametrize("known", [SHA, None, "md5:" + hashlib.md5(CONTENT).hexdigest()])
@pytest.mark.parametrize("how", ["ok", "plain", "drop"])
def test_a_download_is_whole_and_recorded(server: FlakyServer, tmp_path: Path, how: str, known: str | None) -> None:
    path = fetch(download(server, how, known=known), tmp_path)
    assert path.read_bytes() == CONTENT and left(tmp_path) == ["hashes.json", "x.zip"]
    record = json.loads((tmp_path / "downloads" / "hashes.json").read_text())["x.zip"]
    assert record["sha256"] == SHA[7:] and record["bytes"] == len(CONTENT) and record["from"].endswith(f"/{how}/x.zip")
    assert record["checked_against"] == (known or "nothing: first use")
    before = sum(server.requests.values())
    assert fetch(download(server, how, known=known), tmp_path) == path
    assert sum(server.requests.values()) == before, "what is there is not fetched again"


def test_what_arrived_is_not_asked_for_again(server: FlakyServer, tmp_path: Path) -> None:
    fetch(download(server, "drop"), tmp_path)
    assert resumed(server)


def resumed(server: FlakyServer) -> bool:
    """Whether one range was asked for, near the place where the connection broke off."""
    (asked,) = server.ranges
    return 0 <= len(CONTENT) // 2 - int(asked.removeprefix("bytes=").rstrip("-")) <= 1 << 16


def test_resuming_across_processes(server: FlakyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "ATTEMPTS", 1)
    with pytest.raises(RunError, match="broke off"):
        fetch(download(server, "drop"), tmp_path)
    assert left(tmp_path) == []
    assert fetch(download(server, "drop"), tmp_path).read_bytes() == CONTENT
    assert resumed(server)


def test_a_process_killed_before_the_last_step(server: FlakyServer, tmp_path: Path) -> None:
    """Everything has arrived, but not under its name: the server has nothing left to send and says 416."""
    url, folder = f"{server.address}/ok/x.zip", tmp_path / "downloads"
    folder.mkdir()
    (folder / ".x.zip.part").write_bytes(CONTENT)
    (folder / ".x.zip.part.json").write_text(json.dumps({"url": url, "tag": '"ok"'}))
    (folder / ".fetch-dead").mkdir()
    assert fetch(download(server, "ok"), tmp_path).read_bytes() == CONTENT
    assert sorted(p.name for p in folder.iterdir()) == ["hashes.json", "x.zip"], "and nothing else is left"


def test_a_file_that_changed_in_between_is_fetched_from_the_start(server: FlakyServer, tmp_path: Path) -> None:
    content = CONTENT[::-1]
    with pytest.raises(RunError):  # its other half never came of the first file
        fetch(download(server, "moved"), tmp_path)
    known = "sha256:" + hashlib.sha256(content).hexdigest()
    server.requests.clear()
    assert fetch(Download("y", (f"{server.address}/moved/x.zip",), known), tmp_path).read_bytes() == content


@pytest.mark.parametrize("known", [SHA, None])
@pytest.mark.parametrize("how", ["dropplain", "liar", "page", "gone", "wrong"])
def test_nothing_half_written_survives(server: FlakyServer, tmp_path: Path, how: str, known: str | None) -> None:
    with pytest.raises(RunError) as problem:
        fetch(download(server, how, known=known), tmp_path)
    assert left(tmp_path) == [] and not list((tmp_path / "downloads").glob(".fetch-*"))
    said = str(problem.value)
    assert f"/{how}/x.zip" in said and str(tmp_path / "downloads" / "x.zip") in said
    assert ("hash" in said) and ("HTTP status 404" in said) == (how == "gone")


def test_mirrors_are_tried_in_order(server: FlakyServer, tmp_path: Path) -> None:
    assert fetch(download(server, "gone", "wrong", "liar", "dropplain", "page", "ok"), tmp_path).read_bytes() == CONTENT
    assert fetch(download(server, "gone"), tmp_path / "b", [f"{server.address}/ok/"]).read_bytes() == CONTENT
    assert not server.requests["/gone/x.zip"] > 1, "one's own mirror comes first"


def test_a_dead_server_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"http://127\.0\.0\.1:9/x\.zip: no answer"):
        fetch(Download("x.zip", ("http://127.0.0.1:9/x.zip",), SHA), tmp_path)


def test_a_file_put_there_by_hand_is_taken_and_checked(server: FlakyServer, tmp_path: Path) -> None:
    place = tmp_path / "downloads" / "x.zip"
    place.parent.mkdir()
    place.write_bytes(CONTENT)
    assert fetch(download(server), tmp_path) == place
    place.write_bytes(b"something else")
    with pytest.raises(RunError, match="another hash"):
        fetch(download(server, "gone"), tmp_path)
    assert fetch(download(server, "ok"), tmp_path).read_bytes() == CONTENT, "and replaced where a mirror has it"


def test_the_hash_of_first_use_binds_later_downloads(server: FlakyServer, tmp_path: Path) -> None:
    fetch(download(server, "ok", known=None), tmp_path).unlink()
    server.files["x.zip"] = zipped({"another": b"release"})
    with pytest.raises(RunError, match="hash"):
        fetch(download(server, "ok", known=None), tmp_path)
    assert left(tmp_path) == ["hashes.json"]


def test_a_cut_off_file_without_a_known_hash_is_not_whole(tmp_path: Path) -> None:
    rows = json.dumps([{"a": [n]} for n in range(999)]).encode()
    for name, content, length in (
        ("x.json", rows, rows.index(b"}", 5000) + 1),  # behind a "}", as a whole file may end
        ("y.json", rows, rows.index(b"]", 5000) + 1),  # and behind a "]"
        ("x.tar.gz", tarred({"a": NOISE}), 1_000_000),
        ("x.zip", CONTENT, len(CONTENT) // 2),
    ):
        (tmp_path / name).write_bytes(content)
        assert fetching.looks_whole(tmp_path / name)
        (tmp_path / name).write_bytes(content[:length])
        assert not fetching.looks_whole(tmp_path / name), name


def test_a_damaged_archive_of_first_use_does_not_bind(server: FlakyServer, tmp_path: Path) -> None:
    """Its hash was noted when it came; the whole one, which comes after it was removed, has another."""
    damaged = bytearray(CONTENT)
    damaged[len(CONTENT) // 2] ^= 255
    server.files["x.zip"] = bytes(damaged)
    way = [{"name": "x.zip", "urls": [f"{server.address}/ok/x.zip"], "unpack": "."}]
    with pytest.raises(RunError, match="remove it and call this again"):
        obtain("set", tmp_path, entries=entries(server, way))
    (tmp_path / "downloads" / "x.zip").unlink()
    server.files["x.zip"] = CONTENT
    assert obtain("set", tmp_path, entries=entries(server, way))["files"] == 2


def test_a_file_put_there_by_hand_must_be_whole(server: FlakyServer, tmp_path: Path) -> None:
    place = tmp_path / "downloads" / "x.zip"
    place.parent.mkdir()
    place.write_bytes(CONTENT[:-100])
    with pytest.raises(RunError, match="no whole file of its kind"):
        fetch(download(server, "gone", known=None), tmp_path)
    place.write_bytes(CONTENT)
    assert fetch(download(server, "gone", known=None), tmp_path) == place


def test_a_full_disk_is_not_blamed_on_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "x.zip").write_bytes(CONTENT)
    monkeypatch.setattr(zipfile.ZipFile, "extract", full)
    with pytest.raises(RunError, match=r"could not be unpacked below .*: No space left") as problem:
        unpack(tmp_path / "x.zip", tmp_path / "root")
    assert "remove" not in str(problem.value)


# ---------------------------------------------------------------------------------------------- unpacking, laying out
def tarred(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize("make", [zipped, tarred])
def test_unpacking(tmp_path: Path, make) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(make({"d/a.txt": b"a", "d/b.txt": b"b", "c.txt": b"c"}))
    root = tmp_path / "root"
    assert unpack(archive, root, "in") == 3 and (root / "in" / "d" / "b.txt").read_bytes() == b"b"
    assert unpack(archive, root, "some", lambda name: name.endswith("c.txt")) == 1
    assert sorted(p.name for p in root.iterdir()) == ["in", "some"]
    with pytest.raises(RunError, match="none of the files"):
        unpack(archive, root, "in", lambda name: False)


@pytest.mark.parametrize("make", [zipped, tarred])
def test_a_damaged_archive_leaves_nothing(tmp_path: Path, make) -> None:
    whole = bytearray(make({"a": NOISE[:50_000], "b": NOISE[50_000:100_000]}))
    whole[70_000:70_020] = bytes(20)  # in the second file: the first would have come out well
    archive = tmp_path / "archive"
    archive.write_bytes(whole)
    with pytest.raises(RunError, match="archive cannot be unpacked"):
        unpack(archive, tmp_path / "root")
    assert list((tmp_path / "root").iterdir()) == []


@pytest.mark.parametrize("make", [zipped, tarred])
def test_an_archive_cannot_write_outside(tmp_path: Path, make) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(make({"../evil": b"x", "good": b"y"}))
    try:
        unpack(archive, tmp_path / "root")
    except RunError:
        pass
    assert not (tmp_path / "evil").exists()


def entries(server: FlakyServer, *ways: list[dict]) -> dict:
    return {"set": {"provides": ["a/one.json"], "ways": [{"name": str(i), "files": f} for i, f in enumerate(ways)]}}


def test_laying_out_tries_one_way_after_the_other(server: FlakyServer, tmp_path: Path) -> None:
    server.files["empty.zip"] = zipped({"b": b""})
    server.files["one.json"] = b"[1]"
    address = server.address
    gone = [{"name": "x.zip", "urls": [f"{address}/gone/x.zip"], "unpack": "."}]
    lacking = [{"name": "empty.zip", "urls": [f"{address}/ok/empty.zip"], "unpack": "."}]
    plain = [{"name": "one.json", "urls": [f"{address}/ok/one.json"], "put": "a/one.json"}]
    done = obtain("set", tmp_path, entries=entries(server, gone, lacking, plain))
    assert done["way"] == "2" and (tmp_path / "a" / "one.json").read_text() == "[1]"
    assert obtain("set", tmp_path, entries=entries(server, gone, lacking, plain))["way"] is None, "nothing to do"
    with pytest.raises(RunError, match=r"(?s)0: x\.zip could not be.*1: it lacked a/one\.json"):
        obtain("set", tmp_path / "another", entries=entries(server, gone, lacking))
    two = [*gone, {"name": "y.zip", "urls": [f"{address}/gone/y.zip"], "unpack": "."}]
    with pytest.raises(RunError, match=r"x\.zip could not be(?s:.*)It also needs, beside it: y\.zip"):
        obtain("set", tmp_path / "another", entries=entries(server, two))
    with pytest.raises(InputError, match="unknown data set 'sets'; there are set"):
        obtain("sets", tmp_path, entries=entries(server, gone))


def test_pictures_can_be_left_out(server: FlakyServer, tmp_path: Path) -> None:
    server.files["p.zip"] = zipped({"p/1.jpg": b"x"})
    files = [
        {"name": "x.zip", "urls": [f"{server.address}/ok/x.zip"], "unpack": "."},
        {"name": "p.zip", "urls": [f"{server.address}/ok/p.zip"], "unpack": "images", "pictures": True},
    ]
    assert obtain("set", tmp_path, pictures=False, entries=entries(server, files))["files"] == 2
    assert not (tmp_path / "images").exists()
    assert obtain("set", tmp_path, entries=entries(server, files))["files"] == 3
    (tmp_path / ".p.zip.unpacking").touch()  # as a process leaves it that is killed while files take their places
    (tmp_path / "images" / "p" / "1.jpg").unlink()
    assert obtain("set", tmp_path, entries=entries(server, files))["files"] == 3
    assert (tmp_path / "images" / "p" / "1.jpg").exists() and not (tmp_path / ".p.zip.unpacking").exists()


def test_the_table_is_well_formed() -> None:
    for name, entry in table().items():
        assert entry["about"] and entry["provides"] and "licence" in entry, name
        for way in entry["ways"]:
            names = [f["name"] for f in way["files"]]
            assert len(set(names)) == len(names) > 0
            for file in way["files"]:
                assert file["urls"] and all(url.startswith(("https://", "http://")) for url in file["urls"])
                assert "/" not in file["name"] and ("unpack" in file) + ("put" in file) + ("convert" in way) >= 1


def test_the_command_uses_a_mirror_of_ones_own(
    server: FlakyServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files["llava_instruct_150k.json"] = b"[]"
    with pytest.raises(SystemExit) as end:
        main(["data", "llava", "--root", str(tmp_path), "--json", "--mirror", f"{server.address}/ok"])
    assert not end.value.code and json.loads(capsys.readouterr().out)["way"] == "file"
    assert (tmp_path / "llava" / "llava_instruct_150k.json").exists()


def test_the_command_fails_with_the_file_to_put_where(
    server: FlakyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [{"name": "x.zip", "urls": [f"{server.address}/gone/x.zip"], "unpack": "."}]
    monkeypatch.setattr("pgpt_lib.data.datasets.table", lambda: {"llava": entries(server, files)["set"]})
    with pytest.raises(SystemExit) as end:
        main(["data", "llava", "--root", str(tmp_path), "--json"])
    out, err = capsys.readouterr()
    assert end.value.code == 1 and not out and f"put it at {tmp_path / 'downloads' / 'x.zip'}" in err
