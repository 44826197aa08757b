"""The chapter's snippet that publishes a model, run against a hub of this test's own on loopback."""

import base64
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


class Hub(http.server.BaseHTTPRequestHandler):
    """What the client asks of a hub for an upload of small files, and nothing more."""

    committed: dict

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path.endswith("/api/repos/create"):
            return self._answer({"url": f"http://{self.headers['host']}/me/my-lightgen"})
        if "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            return self._answer({"files": files})
        if "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.committed[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"http://{self.headers['host']}/me/my-lightgen/commit/{'0' * 40}"
            return self._answer({"commitUrl": url, "commitOid": "0" * 40})
        return self._answer({"errors": [], "warnings": []})  # of the card's header

    def do_GET(self):
        self._answer({"id": "me/my-lightgen", "siblings": []})

    def _answer(self, record):
        data = json.dumps(record).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hub():
    handler = type("ThisHub", (Hub,), {"committed": {}})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler.committed
    server.shutdown()
    server.server_close()


def test_the_chapter_s_snippet_uploads_the_whole_folder_and_its_card(hub, tmp_path):
    url, committed = hub
    text = (ROOT / "lightgen" / "README.md").read_text(encoding="utf-8")
    (snippet,) = [s for s in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "upload_folder" in s]
    names = ("README.md", "model_index.json", "transformer/config.json", "transformer/model.safetensors")
    for name in names:
        (tmp_path / "pipeline" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pipeline" / name).write_text(f"{name}\n")
    told = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": url, "HF_TOKEN": "hf_none", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", snippet], cwd=tmp_path, env=os.environ | told, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert committed == {name: f"{name}\n".encode() for name in names}
