"""A real S3 server on 127.0.0.1, moto's, behind a door that can be shut in the middle of a transfer.

moto keeps objects in memory, so a server that were killed itself would forget them. Of one behind a door that is shut
clients see what they see of one that was killed: their connections break, and new ones are refused.
"""
import contextlib
import socket
import struct
import threading

BUCKET = "bucket"


class Server:
    """The server, and its door.

    Attributes:
        variables: What a process needs in its environment to find it.
    """

    def __init__(self) -> None:
        from moto.server import ThreadedMotoServer
        self._moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._moto.start()
        self._listener, self._ends, self._left = None, set(), {}
        self._port = 0
        self.open()
        self.variables = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "very-secret",
                          "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._port}"}

    def empty(self) -> None:
        """Begin anew, with a bucket that holds nothing."""
        self.bucket().objects.all().delete()

    def bucket(self):
        """Give the bucket, by another door, as boto3 has it."""
        import boto3
        host, port = self._moto.get_host_and_port()
        self.open()
        names = {"AWS_ACCESS_KEY_ID": "aws_access_key_id", "AWS_SECRET_ACCESS_KEY": "aws_secret_access_key",
                 "AWS_DEFAULT_REGION": "region_name"}
        s3 = boto3.resource("s3", endpoint_url=f"http://{host}:{port}",
                            **{names[name]: value for name, value in self.variables.items() if name in names})
        return s3.create_bucket(Bucket=BUCKET)

    def open(self) -> None:
        """Let clients in."""
        self._left = {}
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self._port))
            self._port = self._listener.getsockname()[1]
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    @property
    def is_shut(self) -> bool:
        """Whether clients are refused."""
        return self._listener is None

    def shut(self) -> None:
        """Break all connections, and refuse new ones."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # else a thread in accept() would keep it listening
            listener.close()
        for end in list(self._ends):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
                end.close()
        self._ends.clear()

    def shut_after(self, way: str, count: int) -> None:
        """Shut the door once some bytes more have passed: on their way "in" to the server, or "out" of it."""
        self._left = {way: count}

    def stop(self) -> None:
        """End it."""
        self.shut()
        self._moto.stop()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(self._moto.get_host_and_port())
                self._ends |= {client, server}
                for source, end, way in ((client, server, "in"), (server, client, "out")):
                    threading.Thread(target=self._pass, args=(source, end, way), daemon=True).start()

    def _pass(self, source: socket.socket, end: socket.socket, way: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            while data := source.recv(1 << 16):
                if way in self._left:
                    self._left[way] -= len(data)
                    if self._left[way] < 0:
                        self.shut()
                        return
                end.sendall(data)
        for one in (source, end):
            self._ends.discard(one)
            with contextlib.suppress(OSError):
                one.close()
