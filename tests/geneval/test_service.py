"""The reward service, as a client meets it: uvicorn on loopback, floods, clients that leave, bombs, large bodies."""

import base64
import contextlib
import io
import json
import pickle
import socket
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from geneval.judge import Judge
from geneval.prompts import TASKS, prompt_suite

httpx = pytest.importorskip("httpx")
uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("fastapi")

from geneval.service import ServiceConfig, create_app  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
ICONS = Path(__file__).parents[2] / "ablations" / "icons" / "components"
PROMPTS = prompt_suite(["cup", "car", "airplane", "umbrella"], colors=("red", "blue", "yellow"), num_prompts=1)


@pytest.fixture(scope="module")
def judge():
    return Judge.from_pretrained(ICONS / "detector", ICONS / "clip", device="cpu", batch_size=4)


@pytest.fixture(scope="module")
def pictures():
    from ablations.icons.teacher import IconTeacher
    from ablations.icons.world import WORLDS

    return IconTeacher(WORLDS["components"])([prompt.prompt for prompt in PROMPTS], range(len(PROMPTS)))


@contextlib.contextmanager
def serving(judge, **config):
    settings = ServiceConfig(port=0, **config)
    server = uvicorn.Server(uvicorn.Config(create_app(judge, settings), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=20)


@pytest.fixture(scope="module")
def url(judge):
    with serving(judge, max_megabytes=1, read_seconds=1.0, max_images=8) as address:
        yield address


def encoded(picture, kind="PNG"):
    buffer = io.BytesIO()
    picture.save(buffer, format=kind)
    return base64.b64encode(buffer.getvalue()).decode()


def body(pictures, asked=PROMPTS, **more):
    return {"images": [encoded(p) for p in pictures], "meta_datas": [p.metadata() for p in asked], **more}


def post(url, record, **more):
    return httpx.post(url, json=record, timeout=60, **more)


def test_a_client_of_flow_grpos_fields_gets_them(url, judge, pictures):
    """The five fields of the published server, in JSON; the answers are the judge's."""
    answer = post(url, body(pictures, only_strict=False)).json()
    plain, strict = judge(pictures, PROMPTS), judge(pictures, PROMPTS, strict=True)
    assert answer["rewards"] == [float(v.correct) for v in plain]
    assert answer["strict_rewards"] == [float(v.correct) for v in strict]
    assert answer["scores"] == [v.grade for v in strict]
    assert answer["grades"] == [v.grade for v in plain] and answer["reasons"] == [v.reason for v in plain]
    assert sum(answer["rewards"]) >= 4
    for name, values in (("group_rewards", "rewards"), ("group_strict_rewards", "strict_rewards")):
        assert list(answer[name]) == list(TASKS)
        for task, found in answer[name].items():
            assert found == [v if p.tag == task else -10 for p, v in zip(PROMPTS, answer[values])]
    assert answer["comparable"] is False and "not comparable" in answer["note"]
    only = post(url, body(pictures, only_strict=True)).json()
    assert only["rewards"] == [0.0] * len(PROMPTS) and only["strict_rewards"] == answer["strict_rewards"]
    texts = body(pictures) | {"meta_datas": [prompt.prompt for prompt in PROMPTS]}
    assert post(f"{url}/judge", texts).json()["scores"] == answer["scores"]
    jpeg = body(pictures) | {"images": [encoded(p, "JPEG") for p in pictures]}
    assert post(url, jpeg).status_code == 200


def test_a_pickle_is_not_read(url, pictures):
    for kind in ("application/octet-stream", "", "text/plain"):
        data = pickle.dumps({"images": [], "meta_datas": [], "only_strict": False})
        answer = httpx.post(url, content=data, headers={"content-type": kind}, timeout=60)
        assert answer.status_code == 415 and "unpickling" in answer.json()["error"]
    assert post(url, body(pictures)).status_code == 200


def files(pictures, kind="PNG"):
    buffers = [io.BytesIO() for _ in pictures]
    for picture, buffer in zip(pictures, buffers):
        picture.save(buffer, format=kind)
    return [("images", ("x.png", buffer.getvalue())) for buffer in buffers]


def test_a_form_of_image_files_gets_the_same_answer(url, pictures):
    """Files and their prompts in order, as curl -F sends them: text of a template, or metadata in JSON."""
    pytest.importorskip("python_multipart")
    asked = {"meta_datas": [PROMPTS[0].prompt, *(prompt.line() for prompt in PROMPTS[1:])]}
    answer = httpx.post(url, files=files(pictures), data=asked, timeout=60)
    assert answer.status_code == 200 and answer.json() == post(url, body(pictures)).json()
    only = httpx.post(url, files=files(pictures), data={**asked, "only_strict": "true"}, timeout=60).json()
    assert only["rewards"] == [0.0] * len(PROMPTS)
    for data, sent, said in (
        ({"meta_datas": CUP}, files(pictures[:2]), "2 images and 1 meta_datas"),
        ({"meta_datas": "{"}, files(pictures[:1]), "meta_datas"),
        ({"meta_datas": CUP, "x": "1"}, files(pictures[:1]), "'x' is no field"),
        ({"meta_datas": CUP, "only_strict": "yes"}, files(pictures[:1]), "'only_strict' is no field"),
        ({"meta_datas": "a" * 200_000}, files(pictures[:1]), "cannot be read"),
        ({"meta_datas": CUP}, files(pictures[:1], "GIF"), "images[0]: not a readable picture"),
        ({"meta_datas": [CUP] * 9}, files([Image.new("RGB", (8, 8))] * 9), "cannot be read"),
    ):
        answer = httpx.post(url, data=data, files=sent, timeout=60)
        assert answer.status_code == 422 and said in answer.json()["error"], answer.text
    for head, data in (("multipart/form-data", b"--x"), ("multipart/form-data; boundary=x", b"\xff" * 100)):
        answer = httpx.post(url, content=data, headers={"content-type": head}, timeout=60)
        assert answer.status_code == 422, answer.text
    refused = httpx.post(url, files=files(pictures), data=asked, headers={"origin": "https://evil.example"}, timeout=60)
    assert refused.status_code == 403
    assert post(url, body(pictures)).status_code == 200


def _bomb():
    """A PNG of 2,400 x 2,400 px in a few kilobytes, more than one image may have."""
    rows = zlib.compress(b"\0" * (2400 * 3 + 1) * 2400, 9)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 2400, 2400, 8, 2, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n"
    for name, content in chunks:
        data += struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return base64.b64encode(data).decode()


GOOD = encoded(Image.new("RGB", (32, 32)))
GIF = encoded(Image.new("RGB", (8, 8)), "GIF")
CUP = "a photo of a cup"


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ([], "JSON object"),
        ({"images": [GOOD], "meta_datas": [CUP], "x": 1}, "unknown 'x'"),
        ({"images": GOOD, "meta_datas": [CUP]}, "must be lists"),
        ({"images": [GOOD], "meta_datas": [CUP], "only_strict": 1}, "true or false"),
        ({"images": [GOOD], "meta_datas": [CUP, CUP]}, "1 images and 2 meta_datas"),
        ({"images": [GOOD] * 9, "meta_datas": [CUP] * 9}, "at most 8"),
        ({"images": ["?"], "meta_datas": [CUP]}, "images[0]: not base64"),
        ({"images": [3], "meta_datas": [CUP]}, "base64 text, not int"),
        ({"images": [GOOD, GIF], "meta_datas": [CUP, CUP]}, "images[1]: not a readable picture"),
        ({"images": [_bomb()], "meta_datas": [CUP]}, "2400x2400 pixels"),
        ({"images": [GOOD], "meta_datas": ["a photo of a bench"]}, "does not know: bench"),
        ({"images": [GOOD], "meta_datas": ["a cup on the moon"]}, "templates"),
        ({"images": [GOOD], "meta_datas": [{"tag": "x", "prompt": "y", "include": [{"class": "cup"}]}]}, "'count'"),
        (
            {"images": [GOOD], "meta_datas": [{"tag": "x", "prompt": "y", "include": [{"class": "cup", "count": 0}]}]},
            "count of 1 or more",
        ),
    ],
)
def test_a_wrong_request_is_one_clear_error(url, record, said):
    answer = post(url, record)
    assert answer.status_code == 422 and said in answer.json()["error"], answer.text


def test_bytes_that_are_no_json(url):
    headers = {"content-type": "application/json"}
    for data in (b"", b"{", b"\xff", b"[" * 100_000, b'{"images": NaN}'):
        assert httpx.post(url, content=data, headers=headers, timeout=60).status_code == 422


def _raw(url, data):
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    connection.sendall(data)
    return connection


def _head(url, length):
    return (
        f"POST / HTTP/1.1\r\nHost: {url.removeprefix('http://')}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def test_a_body_of_a_gigabyte_is_refused_before_it_is_read(url):
    with _raw(url, _head(url, 1_000_000_000)) as connection:
        assert b"413" in connection.recv(200)
    stream = httpx.post(url, content=(b" " * 100_000 for _ in range(20)), headers={"content-type": "application/json"})
    assert stream.status_code == 413


def test_a_slow_client_is_given_up(url):
    with _raw(url, _head(url, 1000) + b"{") as connection:
        assert b"408" in connection.recv(200)


def test_clients_that_leave_cost_nothing(url, pictures):
    data = json.dumps(body(pictures)).encode()
    for _ in range(4):
        _raw(url, _head(url, len(data)) + data).close()
        _raw(url, _head(url, len(data)) + data[:50]).close()
    assert post(url, body(pictures)).status_code == 200
    assert httpx.get(f"{url}/metrics").text.splitlines()[-1] == "geneval_images_waiting 0"


def test_a_flood_is_answered_to_the_last_request(judge, pictures):
    """Forty clients at once into a queue of twelve images: each is answered or told to come again, and gets through."""
    with serving(judge, max_waiting=12) as url:
        refused = []

        def client(i):
            for _ in range(600):
                answer = post(url, body([pictures[i % len(pictures)]], [PROMPTS[i % len(PROMPTS)]]))
                if answer.status_code == 200:
                    return answer.json()["scores"][0]
                assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
                refused.append(i)
                time.sleep(0.1)

        with ThreadPoolExecutor(40) as pool:
            scores = list(pool.map(client, range(40)))
        expected = [verdict.grade for verdict in judge(pictures, PROMPTS, strict=True)]
        assert scores == [expected[i % len(expected)] for i in range(40)]
        text = httpx.get(f"{url}/metrics").text
        assert 'geneval_requests_total{status="200"} 40' in text and "geneval_images_total 40" in text
        assert httpx.get(f"{url}/health").json()["status"] == "ready"


def test_one_failing_request_leaves_the_others_alone(judge, pictures, monkeypatch):
    whole = Judge.detect

    def failing(self, images, prompts):
        if any(image.size == (48, 48) for image in images):
            raise RuntimeError("out of memory")
        return whole(self, images, prompts)

    monkeypatch.setattr(Judge, "detect", failing)
    with serving(judge) as url, ThreadPoolExecutor(6) as pool:
        sizes = [(48, 48) if i == 2 else (32, 32) for i in range(6)]
        asked = [{"images": [encoded(Image.new("RGB", size))], "meta_datas": [CUP]} for size in sizes]
        answers = list(pool.map(lambda record: post(url, record), asked))
    assert [answer.status_code for answer in answers] == [200, 200, 500, 200, 200, 200]
    assert "out of memory" in answers[2].json()["error"]


def test_other_addresses_and_names_need_a_token(judge, url):
    with pytest.raises(ValueError, match="token-file"):
        ServiceConfig(host="0.0.0.0")
    answer = post(url, {"images": [], "meta_datas": []}, headers={"host": "evil.example:80"})
    assert answer.status_code == 403
    with serving(judge, token="secret") as other:
        empty = {"images": [], "meta_datas": []}
        assert post(other, empty).status_code == 401
        assert post(other, empty, headers={"authorization": "Bearer wrong"}).status_code == 401
        assert httpx.get(f"{other}/metrics").status_code == 401
        assert httpx.get(f"{other}/health").status_code == 200
        headers = {"authorization": "Bearer secret", "host": "gpu-7:18085"}
        answer = post(other, empty, headers=headers)
        assert answer.status_code == 200 and answer.json()["scores"] == [] and answer.json()["group_rewards"] == {}
