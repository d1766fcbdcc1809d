"""Addresses: `s3://bucket/key`, `https://host/path` and `http://host/path`, without anything secret in them."""
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from vit.errors import UserError

SCHEMES = ("s3", "https", "http")
_BEGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")
# What makes an address a key: of presigned ones (Amazon's, Google's, Azure's), and of tokens.
_SECRET = re.compile(r"sig|signature|token|key|password|secret|credential|x-amz-.*|x-goog-.*", re.IGNORECASE)
WAY_OUT = ("credentials are taken from where Amazon's own tools look for them (AWS_ACCESS_KEY_ID, AWS_PROFILE, "
           "~/.aws, the machine's role), for the web from ~/.netrc")


def is_address(value: object) -> bool:
    """Tell whether a text is an address, and not a path."""
    return isinstance(value, str) and _BEGIN.match(value) is not None


@dataclass(frozen=True, slots=True)
class Address:
    """Where a file, or a folder of files, is.

    Args:
        scheme: "s3", "https" or "http".
        place: The bucket, or the host.
        path: The key, or the path on the host, without a / at either end.
        query: What comes behind a ?, of the web.
    """
    scheme: str
    place: str
    path: str
    query: str = ""

    def __str__(self) -> str:
        """The address as it is printed: without its query, which nobody needs to see."""
        return f"{self.scheme}://{self.place}/{self.path}".rstrip("/")

    @property
    def full(self) -> str:
        """The address as it is asked for."""
        return str(self) + (f"?{self.query}" if self.query else "")

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> "Address":
        """The folder that it is in."""
        return Address(self.scheme, self.place, self.path.rpartition("/")[0])

    def __truediv__(self, name: str) -> "Address":
        return Address(self.scheme, self.place, f"{self.path}/{name}".strip("/"))


def parse(text: str) -> Address:
    """Read an address.

    Raises:
        UserError: It is none that is read here, or has something secret in it, which the message does not repeat.
    """
    try:
        parts = urlsplit(text)
        scheme, host = parts.scheme.lower(), parts.netloc.rpartition("@")[2]
    except ValueError:
        raise UserError("an address cannot be read: it is written like s3://bucket/key or https://host/path") from None
    shown = f"{scheme}://{host}{parts.path}"
    if not shown.isprintable() or " " in host:
        raise UserError(f"{shown!a}: is no address; one is written like s3://bucket/key or https://host/path")
    if scheme not in SCHEMES:
        raise UserError(f"{shown}: addresses begin with {', '.join(f'{one}://' for one in SCHEMES)}")
    if "@" in parts.netloc:
        raise UserError(f"{shown}: an address must not hold a name or a password; {WAY_OUT}")
    if any(_SECRET.fullmatch(name) for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
        raise UserError(f"{shown}: an address must not hold a signature or a token, for a run writes down what it was "
                        f"given; {WAY_OUT}")
    if scheme == "s3" and (parts.query or parts.fragment or "?" in text or "#" in text):
        raise UserError(f"{shown}: an address in S3 has no ? and no #")
    if host and scheme == "s3" and not _BUCKET.fullmatch(host):
        raise UserError(f"{shown}: {host} cannot be the name of a bucket")
    if not host:
        raise UserError(f"{shown}: names no {'bucket' if scheme == 's3' else 'host'}")
    return Address(scheme, host, parts.path.strip("/"), parts.query)
