"""CIFAR's published files from their images: heads and tails as Python 2 wrote them, the order of copies, parts."""
import hashlib
import pickle
import pickletools

import cv2
import numpy as np
import pytest

from benchmarks import cifar_archives
from vit.data import unpickle
from vit.errors import UserError

# The pickle of an array as Python 2's cPickle and NumPy wrote it, up to its bytes.
ARRAY = (b"U\x04dataq\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\t(K\x01"
         b"K\x02M\x00\x0c\x86cnumpy\ndtype\nq\nU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff"
         b"\xffK\x00tb\x89T\x00\xc0\x00\x00")
BEGIN = b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x01xq\x03U\x06labelsq\x04]q\x05(K\x06K\x09e" + ARRAY


def _pixels(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), np.uint8)


def test_a_head_ends_where_the_images_begin_and_holds_the_labels():
    begin, content = cifar_archives.head(BEGIN + bytes(100), "x")
    assert begin == BEGIN
    assert content["labels"] == [6, 9]
    for data in (BEGIN[:60], b"", bytes(200)):
        with pytest.raises(UserError, match=r"^x: is not the beginning"):
            cifar_archives.head(data, "x")


def test_the_names_behind_the_images_make_the_file_whole():
    """49,152 bytes are 16 images: the head above says so."""
    x = _pixels(16)
    begin = BEGIN.replace(b"K\x01K\x02M\x00\x0c", b"K\x01K\x10M\x00\x0c")
    names = [b"name_%d.png" % i for i in range(2500)]
    data = begin + x.tobytes() + cifar_archives.names_tail(names, memo=12)
    content = unpickle.load(data, "x")
    assert content["filenames"] == names
    assert (content["data"] == x).all()
    assert pickle.loads(data, encoding="bytes")[b"filenames"] == names
    codes = [(code.name, argument) for code, argument, _ in pickletools.genops(data)]
    assert [argument for name, argument in codes if "BINPUT" in name] == list(range(1, 12 + 2 + 2500))
    assert [name for name, _ in codes].count("APPENDS") == 1 + 3  # by the thousand


def test_copies_are_found_again_though_jpeg_has_changed_them(tmp_path):
    rng = np.random.default_rng(0)
    smooth = [cv2.resize(rng.integers(0, 256, (4, 4, 3), np.uint8), (32, 32)) for _ in range(30)]
    smooth[7] = np.clip(smooth[6].astype(int) + 1, 0, 255).astype(np.uint8)  # a near twin
    order = rng.permutation(30)
    for i, image in enumerate(smooth):
        cv2.imwrite(str(tmp_path / f"p{i:02d}.png"), image)
        cv2.imwrite(str(tmp_path / f"c{np.flatnonzero(order == i)[0]:02d}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 100])
    images, copies = (cifar_archives.rows(sorted(tmp_path.glob(name))) for name in ("p*.png", "c*.jpg"))
    assert (images[3].reshape(3, 32, 32)[0] == smooth[3][:, :, 2]).all()  # red first
    assert cifar_archives.counterparts(images, copies).tolist() == order.tolist()
    copies[1] = copies[0]
    with pytest.raises(UserError, match="nearest to one image"):
        cifar_archives.counterparts(images, copies)


def test_other_files_than_the_published_are_not_written(tmp_path):
    for name in ("train", "test", "meta"):
        (tmp_path / "cifar-100-python").mkdir(exist_ok=True)
        (tmp_path / "cifar-100-python" / name).write_bytes(pickle.dumps({"fine_label_names": ["a"]}, 2))
    with pytest.raises(UserError, match=r"cifar-100-python/meta: has the MD5 .*: not written"):
        cifar_archives.build(tmp_path, None, tmp_path, None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_parts_make_the_file_again_and_only_the_right_one(tmp_path, monkeypatch):
    data, name = bytes(_pixels(3)), "cifar-100-python/train"
    monkeypatch.setattr(cifar_archives, "PUBLISHED", {name: hashlib.md5(data).hexdigest()})
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    (whole / name).parent.mkdir(parents=True)
    (whole / name).write_bytes(data)
    cifar_archives.split(whole, parts, 4000)
    assert len(list(parts.glob("*/*"))) == 3
    second = parts / f"{name}.part001"
    kept = second.read_bytes()
    second.unlink()
    with pytest.raises(UserError, match=r"its 2 parts .* do not make the published file"):
        cifar_archives.joined(parts)
    assert not (parts / name).exists()
    second.write_bytes(kept)
    assert (cifar_archives.joined(parts) / name).read_bytes() == data
    assert cifar_archives.sums(parts) == {name: "published"}
    assert cifar_archives.sums(tmp_path) == {name: "missing"}


def test_a_thousand_parts_and_more_come_in_their_order(tmp_path, monkeypatch):
    data, name = bytes(_pixels(1)), "cifar-100-python/train"
    monkeypatch.setattr(cifar_archives, "PUBLISHED", {name: hashlib.md5(data).hexdigest()})
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_bytes(data)
    cifar_archives.split(tmp_path, tmp_path / "parts", 3)
    assert (cifar_archives.joined(tmp_path / "parts") / name).read_bytes() == data


def test_classes_with_too_few_images_are_named(tmp_path):
    for folder, count in (("pngs", 2), ("jpegs", 3)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            cv2.imwrite(str(tmp_path / folder / f"{number}.png"), np.zeros((32, 32, 3), np.uint8))
    for wanted, told in ((2, "jpegs: has 3 images, not the 2"), (3, "pngs: has 2 images, not the 3")):
        with pytest.raises(UserError, match=told):
            next(cifar_archives._in_order(tmp_path / "pngs", tmp_path / "jpegs", wanted))
