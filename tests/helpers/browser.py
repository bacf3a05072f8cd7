"""Chromium without a window, driven over the WebDriver protocol by the standard library alone."""

import base64
import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element in the protocol
#: Names of keys to the characters that the protocol sends for them.
KEYS = {"ArrowLeft": "\ue012", "ArrowRight": "\ue014", "Home": "\ue011", "End": "\ue010", "Space": " ", "Tab": "\ue004"}


def missing() -> str | None:
    """Why no browser can be driven here; None if one can."""
    absent = [name for name in ("chromedriver", "chromium") if shutil.which(name) is None]
    return f"needs a browser: {' and '.join(absent)} not found (Debian: chromium-driver)" if absent else None


class Browser:
    """A session of a browser."""

    def __init__(self, url: str):
        self._url = url
        options = {"args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]}
        capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        self._session = ""
        session = self._call("POST", "session", {"capabilities": {"alwaysMatch": capabilities}})
        self._session = f"session/{session['sessionId']}/"

    def _call(self, method: str, path: str, body: dict | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        url = f"{self._url}/{self._session}{path}".rstrip("/")
        request = urllib.request.Request(url, data, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def open(self, page: Path, *, width: int, height: int, **media: str) -> None:
        """Opens a file at a size of the screen; ``media`` are features such as ``prefers-color-scheme``."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", **metrics)
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self.command("Emulation.setEmulatedMedia", features=features)
        self._call("POST", "url", {"url": page.resolve().as_uri()})

    def command(self, name: str, **parameters: Any) -> Any:
        """Sends a command of the DevTools protocol."""
        return self._call("POST", "goog/cdp/execute", {"cmd": name, "params": parameters})

    def run(self, script: str, *arguments: Any) -> Any:
        """The value that a script returns."""
        return self._call("POST", "execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, script: str, seconds: float = 30) -> None:
        """Waits until a script returns something true."""
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, f"still not true: {script}"
            time.sleep(0.05)

    def press(self, *keys: str) -> None:
        """Presses keys one after the other."""
        actions = [{"type": kind, "value": KEYS.get(key, key)} for key in keys for kind in ("keyDown", "keyUp")]
        self._call("POST", "actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def find(self, selector: str) -> dict:
        """The first element of a CSS selector."""
        return self._call("POST", "element", {"using": "css selector", "value": selector})

    def click(self, selector: str) -> None:
        """Clicks an element."""
        self._call("POST", f"element/{self.find(selector)[_ELEMENT]}/click", {})

    def point(self, selector: str, x: float, y: float = 0.5) -> None:
        """Moves the pointer over an element; both positions are fractions of its size."""
        self.run("arguments[0].scrollIntoView({block: 'center'})", self.find(selector))
        box = self.run(
            "const b = arguments[0].getBoundingClientRect(); return [b.x, b.y, b.width, b.height]", self.find(selector)
        )
        move = {"type": "pointerMove", "duration": 0, "x": round(box[0] + x * box[2]), "y": round(box[1] + y * box[3])}
        self._call("POST", "actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": [move]}]})

    def messages(self) -> list[str]:
        """What was written to the console since the last call: errors, refused requests."""
        return [entry["message"] for entry in self._call("POST", "se/log", {"type": "browser"})]

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Writes a picture of the screen, or of the whole page, as PNG."""
        picture = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(picture["data"]))

    def close(self) -> None:
        """Ends the session."""
        self._call("DELETE", "")


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Starts a browser for the duration of a block."""
    with subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True) as driver:
        try:
            assert driver.stdout is not None
            port = next(line.split()[-1].rstrip(".") for line in driver.stdout if "successfully on port" in line)
            session = Browser(f"http://127.0.0.1:{port}")
            try:
                yield session
            finally:
                session.close()
        finally:
            driver.terminate()
