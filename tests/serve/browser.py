"""Debian's Chromium without a window, driven over its DevTools protocol."""
import asyncio
import base64
import contextlib
import shutil
import subprocess

import aiohttp

CHROMIUM = shutil.which("chromium")


class Browser:
    """A page in a browser.

    Args:
        socket: The page's DevTools.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._number = socket, 0
        self.asked: list[str] = []  # addresses

    async def call(self, method: str, **parameters) -> dict:
        """Call a method of the protocol, and wait for its result."""
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            message = await self._socket.receive_json(timeout=20)
            if message.get("method") == "Network.requestWillBeSent":
                self.asked.append(message["params"]["request"]["url"])
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]

    async def value(self, expression: str):
        """The value of an expression of JavaScript; a promise's once it is there."""
        found = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        for _ in range(400):
            if await self.value(expression):
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"never: {expression}; {await self.value('document.body.innerText')}")

    async def press(self, key: str, code: int) -> None:
        """Press a key."""
        for kind in ("rawKeyDown", "char", "keyUp"):
            text = {"text": " "} if key == " " and kind == "char" else {}
            if kind != "char" or text:
                await self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)

    async def look(self, address: str, width: int, scheme: str = "light") -> None:
        """Open an address in a window of a width, with a color scheme."""
        await self.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1,
                        mobile=width < 500)
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        await self.call("Page.navigate", url=address)
        await self.until("document.readyState == 'complete' && document.getElementById('model').textContent != ''")

    async def choose(self, path: str) -> None:
        """Choose a file in the page's field."""
        root = (await self.call("DOM.getDocument"))["root"]["nodeId"]
        node = (await self.call("DOM.querySelector", nodeId=root, selector="#file"))["nodeId"]
        await self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    async def drop(self, path) -> None:
        """Drop a file on the page."""
        content = base64.b64encode(path.read_bytes()).decode()
        await self.value(f"""(() => {{
            const bytes = Uint8Array.from(atob('{content}'), (one) => one.charCodeAt(0));
            const moved = new DataTransfer();
            moved.items.add(new File([bytes], '{path.name}', {{type: 'image/png'}}));
            document.querySelector('.drop').dispatchEvent(
                new DragEvent('drop', {{bubbles: true, cancelable: true, dataTransfer: moved}}));
        }})()""")

    async def screenshot(self, path) -> None:
        """Write a screenshot of the whole page."""
        found = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))


@contextlib.asynccontextmanager
async def browser(folder):
    """Start Chromium with a profile in a folder; gives its one page."""
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
               "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port = folder / "DevToolsActivePort"
        for _ in range(400):
            if port.exists() and "\n" in port.read_text():
                break
            await asyncio.sleep(0.05)
        place = f"http://127.0.0.1:{port.read_text().split()[0]}"
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{place}/json/list") as answer:
                [page] = [one for one in await answer.json() if one["type"] == "page"]
            async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=1 << 26) as socket:
                made = Browser(socket)
                for domain in ("Page", "DOM", "Runtime", "Network"):
                    await made.call(f"{domain}.enable")
                yield made
    finally:
        process.kill()
        process.wait()
