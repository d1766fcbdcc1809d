"""Addresses: which are read, and that nothing secret is in one, or in what is said of one."""
import pytest

from vit.errors import UserError
from vit.remote.address import is_address, parse


@pytest.mark.parametrize(("text", "shown"), [
    ("s3://bucket/a/b.tar", "s3://bucket/a/b.tar"),
    ("s3://bucket/a/", "s3://bucket/a"),
    ("s3://bucket", "s3://bucket"),
    ("S3://bucket/A", "s3://bucket/A"),
    ("https://host:80/a/b.safetensors?download=true", "https://host:80/a/b.safetensors"),
])
def test_an_address_is_read_and_shown(text, shown):
    assert is_address(text)
    assert str(parse(text)) == shown


def test_parts_of_an_address():
    address = parse("https://host/a/b.tar?download=true")
    assert (address.name, str(address.parent)) == ("b.tar", "https://host/a")
    assert str(address.parent / "c") == "https://host/a/c"
    assert address.full == "https://host/a/b.tar?download=true"
    assert str(parse("s3://bucket") / "a") == "s3://bucket/a"


@pytest.mark.parametrize("value", ["runs/x", "/a", "a:b", "", None, 3, "C:\\a", "://x"])
def test_paths_are_no_addresses(value):
    assert not is_address(value)


@pytest.mark.parametrize(("text", "fragment"), [
    ("gs://bucket/a", "gs://bucket/a: addresses begin with s3://, https://, http://"),
    ("file:///a", "addresses begin with"),
    ("s3://id:geheim@bucket/a", "s3://bucket/a: an address must not hold a name or a password"),
    ("https://me:geheim@host/a", "https://host/a: an address must not hold a name or a password"),
    ("https://host/a?X-Amz-Signature=geheim", "https://host/a: an address must not hold a signature or a token"),
    ("https://host/a?x=1&sig=geheim", "must not hold a signature"),
    ("https://host/a?TOKEN=geheim", "must not hold a signature"),
    ("s3://bucket/a?geheim", "an address in S3 has no ?"),
    ("s3:///a", "names no bucket"),
    ("https:///a", "names no host"),
    ("s3://buck et/a", "is no address"),
    ("s3://buck\x1bet/a", "is no address"),
    ("s3://b(u)cket/a", "cannot be the name of a bucket"),
    ("http://[::1/a", "an address cannot be read"),
])
def test_other_addresses_are_refused_and_no_secret_is_repeated(text, fragment):
    with pytest.raises(UserError, match=r"^(?!.*geheim)") as caught:
        parse(text)
    assert fragment in str(caught.value)
    assert str(caught.value).isprintable()
