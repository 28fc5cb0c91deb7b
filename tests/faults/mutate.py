"""Good files made bad: pure functions of a file's bytes and a seeded `random.Random`.

`bytes_` knows nothing of what it changes. The others know a format well enough to break it where a reader looks: an
entry of a TIFF's directory, a value of a JSON file, a row of a GeoPackage, a member's header in an archive.
"""

from __future__ import annotations

import io
import json
import re
import sqlite3
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from typing import Any

Mutator = Callable[[bytes, Random], bytes]

NUMBERS = [0, 1, 2, 3, 7, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 10**6, 2**31 - 1, 2**31, 2**32 - 1, 2**40]
NUMBERS += [2**63 - 1, 2**64 - 1, 10**12, -1, -2, -(2**31)]
FLOATS = [0.0, -0.0, -1.0, 1e-300, 1e300, 1.7e308, float("inf"), float("-inf"), float("nan"), 0.1, 1e9, -1e9]
TEXTS = ["", " ", "x", "nan", "-", "0", "../../x", "/etc/passwd", "/vsimem/x", "a\0b", "é\u202e\ufeff", "%s%n", "{}"]
TEXTS += ["[", "1e999", "9" * 5000, "x" * 100_000, "None", "true", "EPSG:4326", "EPSG:99999999", "2024-13-45", "\ud800"]


def bytes_(content: bytes, rng: Random) -> bytes:
    """One to four changes anywhere, half of them near the beginning or the end."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not data:
            return bytes(data)
        at = rng.choice(
            (rng.randrange(len(data)), rng.randrange(min(len(data), 1024)), -rng.randrange(min(512, len(data))) - 1)
        )
        at %= len(data)
        kind = rng.randrange(9)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2:
            size, order = rng.choice((2, 4, 8)), rng.choice(("little", "big"))
            data[at : at + size] = (rng.choice(NUMBERS) % 256**size).to_bytes(size, order)
        elif kind == 3:
            del data[at:]
        elif kind == 4:
            del data[at : at + rng.choice((1, 2, 16, 512, 4096))]
        elif kind == 5:
            data[at:at] = rng.randbytes(rng.choice((1, 2, 16, 512)))
        elif kind == 6:
            data[at : at + rng.choice((16, 512, 4096))] = bytes(rng.choice((16, 512, 4096)))
        elif kind == 7:
            start, size = rng.randrange(len(data)), rng.choice((4, 64, 1024))
            data[at : at + size] = data[start : start + size]
        else:
            data[at : at + 16] = rng.randbytes(16)
    return bytes(data)


# ---- TIFF ----

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
# width, height, bits, compression, photometric, offsets, samples, rows, counts, planar, predictor, tile sizes, ...
TOLD = [256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 338, 339, 33550, 33922, 34264]
TOLD += [34735, 34736, 34737, 42112, 42113]
COMPRESSIONS = [1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34712, 34887, 34925, 50000, 50001, 50002, 0, 65535]


def tiff(content: bytes, rng: Random) -> bytes:
    """One to three entries of a TIFF's directories changed: a tag, a type, a count, or what the entry says."""
    data = bytearray(content)
    entries = _entries(data)
    if not entries:
        return bytes_(content, rng)
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    wide = "Q" if big else "I"
    for _ in range(rng.choice((1, 1, 2, 3))):
        at, tag, kind, count, where = rng.choice(
            [e for e in entries if e[1] in TOLD] if rng.random() < 0.8 else entries
        )
        what = rng.randrange(10)
        if what == 0:
            struct.pack_into(order + "H", data, at, rng.choice([*TOLD, 34665, 330, 65535]))
        elif what == 1:
            struct.pack_into(order + "H", data, at + 2, rng.choice([*SIZES, 0, 99]))
        elif what == 2:
            limit = 64 if big else 32
            struct.pack_into(order + wide, data, at + 4, rng.choice([0, count + 1, count - 1, *NUMBERS]) % 2**limit)
        elif what == 3 and len(data) > 64:
            limit = 64 if big else 32
            place = rng.choice([0, 4, 8, len(data) - 1, len(data), at, *NUMBERS]) % 2**limit
            struct.pack_into(order + wide, data, at + (12 if big else 8), place)
        else:
            _say(data, order, (tag, kind, count, where), rng)
    return bytes(data)


def _say(data: bytearray, order: str, entry: tuple[int, int, int, int], rng: Random) -> None:
    """Write another value where an entry keeps one of its own."""
    tag, kind, count, where = entry
    size = SIZES.get(kind, 1)
    at = where + size * rng.randrange(max(1, min(count, 2000)))
    if kind == 12:
        value = struct.pack(order + "d", rng.choice(FLOATS))
    elif kind == 2:
        text = rng.choice(["nan", "-", "1e999", "<GDALMetadata>", "]]>", "\0", "%", "é", "9" * 40]).encode()
        value = text[: max(1, where + count - at)]
    else:
        value = ((rng.choice(COMPRESSIONS) if tag == 259 else rng.choice(NUMBERS)) % 256**size).to_bytes(
            size, "little" if order == "<" else "big"
        )
    if at + len(value) <= len(data):
        data[at : at + len(value)] = value


def _entries(data: bytes | bytearray) -> list[tuple[int, int, int, int, int]]:
    """(place, tag, type, count, place of its value) of every entry of every directory."""
    found: list[tuple[int, int, int, int, int]] = []
    with suppress(struct.error, IndexError):
        order = "<" if data[:2] == b"II" else ">"
        big = struct.unpack_from(order + "H", data, 2)[0] == 43
        at = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
        for _ in range(20):
            if not at:
                break
            count = struct.unpack_from(order + ("Q" if big else "H"), data, at)[0]
            at += 8 if big else 2
            for _ in range(min(count, 100)):
                tag, kind, n = struct.unpack_from(order + ("HHQ" if big else "HHI"), data, at)
                room, inside = (8, at + 12) if big else (4, at + 8)
                small = SIZES.get(kind, 1) * n <= room
                where = inside if small else struct.unpack_from(order + ("Q" if big else "I"), data, inside)[0]
                found.append((at, tag, kind, n, where))
                at += 20 if big else 12
            at = struct.unpack_from(order + ("Q" if big else "I"), data, at)[0]
    return found


# ---- JSON ----


def odd(rng: Random, depth: int = 0) -> Any:
    """A value that is seldom meant."""
    kind = rng.randrange(7 if depth < 2 else 4)
    if kind == 0:
        return rng.choice(NUMBERS)
    if kind == 1:
        return rng.choice(FLOATS)
    if kind == 2:
        return rng.choice(TEXTS)
    if kind == 3:
        return rng.choice((None, True, False, 10**18, [], {}))
    if kind == 4:
        return [odd(rng, depth + 1) for _ in range(rng.choice((1, 2, 5)))]
    if kind == 5:
        return {rng.choice(("", "path", "name", "x")): odd(rng, depth + 1)}
    value: Any = 1
    for _ in range(rng.choice((3, 50, 200))):
        value = [value] if rng.random() < 0.5 else {"a": value}
    return value


def json_(content: bytes, rng: Random) -> bytes:
    """One to three values of a JSON file changed, removed, moved or doubled; now and then its text."""
    if rng.random() < 0.03:
        opening = rng.choice(("[", '{"a":'))
        return (opening * rng.choice((1000, 100_000))).encode()
    if rng.random() < 0.15:
        return bytes_(content, rng)
    value = json.loads(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(_places(value))
        if not places:
            return json.dumps(odd(rng)).encode("utf-8", "surrogatepass")
        holder, key = rng.choice(places)
        what = rng.randrange(8)
        if what == 0:
            del holder[key]
        elif what == 1 and isinstance(holder, list):
            holder.insert(key, holder[key])
        elif what == 1:
            holder[rng.choice(TEXTS[:8]) + str(key)] = holder.pop(key)
        elif what == 2:
            other, theirs = rng.choice(places)
            with suppress(LookupError, TypeError):
                taken = json.loads(json.dumps(other[theirs]))
                holder[key] = taken
        elif what == 3 and type(holder[key]) in (int, float) and abs(holder[key]) < 1e300:  # not as odd already
            holder[key] = rng.choice(
                (-holder[key], holder[key] * 1e6, str(holder[key]), holder[key] + 0.5, [holder[key]])
            )
        else:
            holder[key] = odd(rng)
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _places(value: Any) -> list[tuple[Any, Any]]:
    """(holder, key) of every value in a JSON value."""
    found, left = [], [value]
    while left:
        one = left.pop()
        for key in list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ():
            found.append((one, key))
            left.append(one[key])
    return found


# ---- text: TOML, MTL, CSV, XML ----


def toml(content: bytes, rng: Random) -> bytes:
    """Lines of a TOML file with other values, other keys, doubled, gone or moved."""
    values = [*map(str, NUMBERS), "inf", "-inf", "nan", "1e400", "[]", "{}", '""', '"x"', "true", "2024-01-01", "'''"]
    values += ["[" * 5000, "[" * 100 + "]" * 100, '"' + "x" * 50_000 + '"', '"\\u0000"', '"../../../etc/passwd"', '"."']
    values += ["{ a = { a = 1 } }", '[1, "x"]', '["red", "red"]', '"EPSG:3857"', '"EPSG:0"', '"/dev/zero"', "9" * 5000]
    return _lines(content, rng, "=", values)


def mtl(content: bytes, rng: Random) -> bytes:
    """Lines of `KEY = value` changed so."""
    values = [*map(str, NUMBERS), *map(str, FLOATS), *(f'"{text}"' for text in TEXTS[:20]), '"', "GROUP", "", "END"]
    return _lines(content, rng, " = ", values)


def csv(content: bytes, rng: Random) -> bytes:
    """Cells of a CSV file changed so."""
    return _lines(content, rng, ",", [*map(str, NUMBERS), *map(str, FLOATS), *TEXTS[:20], '"', "\r", "a,b,c"])


def _lines(content: bytes, rng: Random, between: str, values: list[str]) -> bytes:
    if rng.random() < 0.15:
        return bytes_(content, rng)
    lines = content.decode().splitlines()
    for _ in range(rng.choice((1, 1, 2, 3))):
        i = rng.randrange(len(lines))
        parts = lines[i].split(between)
        what = rng.randrange(9)
        if what == 0:
            del lines[i]
        elif what == 1:
            lines.insert(rng.randrange(len(lines)), lines[i])
        elif what == 2 and len(parts) > 1:
            parts[0] = rng.choice((parts[0] + "x", parts[0][:-2], "", "path", "name", '"a b"'))
            lines[i] = between.join(parts)
        elif len(parts) > 1:
            parts[rng.randrange(1, len(parts)) if between == "," else -1] = rng.choice(values)
            lines[i] = between.join(parts)
        if not lines:
            break
    return "\n".join(lines).encode("utf-8", "surrogatepass") + b"\n"


def xml(content: bytes, rng: Random) -> bytes:
    """Texts, attributes and elements of an XML file changed, and what a parser must not follow."""
    text = content.decode()
    what = rng.randrange(8)
    if what == 0:
        many = "".join(f'<!ENTITY e{i + 1} "{f"&e{i};" * 10}">' for i in range(12))
        bomb = f'<!DOCTYPE x [<!ENTITY e0 "lol">{many}]>'
        head, _, rest = text.partition("?>")
        return (f"{head}?>{bomb}" + re.sub(r">[^<>\n]+</", ">&e12;</", rest, count=1)).encode()
    if what == 1:
        outside = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
        head, _, rest = text.partition("?>")
        return (f"{head}?>{outside}" + re.sub(r">[^<>\n]+</", ">&e;</", rest, count=1)).encode()
    if what == 2:
        return ("<a>" * rng.choice((500, 100_000))).encode()
    if what == 3:
        return bytes_(content, rng)
    found = list(re.finditer(r'(?<=")[^"<>]*(?=")|(?<=>)[^<>\n]+(?=</)', text))
    for match in rng.sample(found, min(len(found), rng.choice((1, 1, 2)))):
        # whatever was replaced before has moved the rest: only the last of several is where it was
        new = rng.choice([*map(str, NUMBERS), *map(str, FLOATS), *TEXTS[:20]]).replace("<", "").replace("&", "")
        text = text[: match.start()] + new + text[match.end() :]
    return text.encode("utf-8", "surrogatepass")


# ---- GeoPackage ----


def geopackage(content: bytes, rng: Random) -> bytes:
    """A GeoPackage whose tables say something else, or whose pages are changed."""
    if rng.random() < 0.3:
        return bytes_(content, rng)
    with tempfile.NamedTemporaryFile(suffix=".gpkg") as file:
        file.write(content)
        file.flush()
        with closing(sqlite3.connect(file.name, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = MEMORY")
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                connection.execute(f'DROP TRIGGER "{name}"')
            for _ in range(rng.choice((1, 1, 2, 3))):
                with suppress(sqlite3.Error, OverflowError):
                    _change(connection, rng)
        return Path(file.name).read_bytes()


def _change(connection: sqlite3.Connection, rng: Random) -> None:
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    tables = sorted(name for name in tables if not name.startswith(("rtree_", "sqlite_")))
    table = rng.choice(tables)
    columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
    if not columns:  # a change before took them
        return
    column = rng.choice(columns)
    where = f'WHERE rowid = (SELECT rowid FROM "{table}" ORDER BY rowid LIMIT 1 OFFSET {rng.randrange(4)})'
    what = rng.randrange(12)
    if what == 0:
        connection.execute(f'DROP TABLE "{table}"')
    elif what == 1:
        connection.execute(f'DELETE FROM "{table}" {rng.choice((where, ""))}')
    elif what == 2:
        connection.execute(f'ALTER TABLE "{table}" RENAME COLUMN "{column}" TO "{rng.choice(("x", "a b", "geom2"))}"')
    elif what == 3:
        connection.execute(f'ALTER TABLE "{table}" RENAME TO "{rng.choice(("x", "a b", "inventory"))}"')
    elif what in (4, 5, 6):
        found = connection.execute(f'SELECT "{column}" FROM "{table}" {where}').fetchone()
        if found and isinstance(found[0], bytes):
            connection.execute(f'UPDATE "{table}" SET "{column}" = ? {where}', (bytes_(found[0], rng),))
        else:
            connection.execute(f'UPDATE "{table}" SET "{column}" = ? {where}', (_cell(rng),))
    elif what == 7:
        connection.execute(f'UPDATE "{table}" SET "{column}" = ?', (_cell(rng),))
    elif what == 8:
        connection.execute(f"PRAGMA application_id = {rng.choice((0, 1, 2**31 - 1))}")
        connection.execute(f"PRAGMA user_version = {rng.choice((0, 1, 10400, 2**31 - 1))}")
    elif what == 9:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (rng.choice(("", "CREATE", None)), table))
    elif what == 10:
        geometries = [name for name in columns if name in ("geom", "geometry", "outline")]
        if geometries:
            shape = rng.choice(_shapes())
            header = b"GP\0\1" + struct.pack("<i", rng.choice((32649, 0, -1, 4326, 999999)))
            connection.execute(
                f'UPDATE "{table}" SET "{geometries[0]}" = ? {rng.choice((where, ""))}', (header + shape,)
            )
    else:
        connection.execute(f'INSERT INTO "{table}" DEFAULT VALUES')


def _cell(rng: Random) -> Any:
    numbers = [number for number in NUMBERS if -(2**63) <= number < 2**63]
    texts = [text for text in TEXTS if text != "\ud800"]
    return rng.choice((None, rng.choice(numbers), rng.choice(FLOATS), rng.choice(texts), b"", b"\xff\xfe", b"GP"))


def _shapes() -> list[bytes]:
    """Well-known binary of shapes that are seldom meant."""
    ring = struct.pack("<I8d", 4, 460_100, 3_429_900, 460_200, 3_429_900, 460_200, 3_429_800, 460_100, 3_429_900)
    nans = struct.pack("<I8d", 4, *[float("nan")] * 8)
    huge = struct.pack("<I8d", 4, 0, 0, 1e300, 0, 1e300, 1e300, 0, 0)
    corners = [(460_100, 3_429_900), (460_200, 3_429_800), (460_200, 3_429_900), (460_100, 3_429_800)]
    bow = struct.pack("<I10d", 5, *(part for corner in (*corners, corners[0]) for part in corner))
    polygons = [b"\1" + struct.pack("<II", 3, 1) + one for one in (ring, nans, huge, bow)]
    nested = b"".join(b"\1" + struct.pack("<II", 7, 1) for _ in range(3000)) + polygons[0]
    return [
        *polygons,
        b"\1" + struct.pack("<II", 3, 0),
        b"\1" + struct.pack("<II", 3, 2**31 - 1),
        b"\1" + struct.pack("<III", 3, 1, 2**31 - 1),
        b"\1" + struct.pack("<I2d", 1, 460_100, 3_429_900),
        b"\1" + struct.pack("<II4d", 2, 2, 460_100, 3_429_900, 460_200, 3_429_800),
        b"\1" + struct.pack("<II", 7, 1) + polygons[0],
        b"\1" + struct.pack("<II", 10, 1) + b"\1" + struct.pack("<II6d", 8, 3, 460_100, 3_429_900, 0, 0, 1, 1),
        nested,
        b"",
    ]


# ---- weights ----


def safetensors(content: bytes, rng: Random) -> bytes:
    """The header of a safetensors file changed as JSON is, with its length mended or not; or its bytes."""
    if rng.random() < 0.3:
        return bytes_(content, rng)
    size = int.from_bytes(content[:8], "little")
    header = json_(content[8 : 8 + size], rng)
    if rng.random() < 0.1:
        return rng.choice(NUMBERS[:-3]).to_bytes(8, "little") + header + content[8 + size :]
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


# ---- archives ----

NAMES = [
    "../x",
    "/tmp/x",
    "a/../../x",
    "",
    ".",
    "x\0y",
    "x" * 300,
    "C:\\x",
    "\udcff".encode("utf-8", "replace").decode(),
]


def tar(content: bytes, rng: Random) -> bytes:
    """One or two members of a tar with another name, size or type, their checksums mended."""
    if rng.random() < 0.3:
        return bytes_(content, rng)
    data = bytearray(content)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = [(member.offset, member.name) for member in archive]
    first = [member for member in members if "MTL" in member[1]] or members
    for _ in range(rng.choice((1, 2))):
        at, _ = rng.choice(rng.choice((members, first)))
        what = rng.randrange(5)
        if what == 0:
            data[at : at + 100] = rng.choice(NAMES).encode("utf-8", "replace")[:100].ljust(100, b"\0")
        elif what == 1:
            sizes = [
                b"00000000000\0",
                b"77777777777\0",
                b"\x80" + b"\xff" * 11,
                b"\xff" * 12,
                b"00000000001\0",
                b"zzz" * 4,
            ]
            data[at + 124 : at + 136] = rng.choice(sizes)
        elif what == 2:
            data[at + 156 : at + 157] = rng.choice((b"1", b"2", b"3", b"5", b"S", b"x", b"g", b"L", b"K", b"Z"))
            data[at + 157 : at + 257] = rng.choice((b"/etc/passwd", b"../../x", members[0][1].encode(), b"")).ljust(
                100, b"\0"
            )
        elif what == 3:
            data[at + 257 : at + 265] = rng.choice((b"ustar  \0", b"ustar\x0000", bytes(8)))
        else:
            data[at + 345 : at + 500] = rng.choice((b"../..", b"x" * 155)).ljust(155, b"\0")
        data[at + 148 : at + 156] = b" " * 8
        data[at + 148 : at + 156] = f"{sum(data[at : at + 512]):06o}\0 ".encode()
    return bytes(data)


def zip_(content: bytes, rng: Random) -> bytes:
    """A zip packed anew with one member changed, or its own records changed."""
    if rng.random() < 0.4:
        return bytes_(content, rng)
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(packed, "w") as new:
        names = old.namelist()
        chosen = rng.choice([name for name in names if name.endswith("xml")] + names)
        what = rng.randrange(7)
        for name in names:
            stored = old.read(name)
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if name == chosen and what == 0:
                info.filename = rng.choice(NAMES[:6]) or "x"
            elif name == chosen and what == 1:
                info.external_attr = 0o120777 << 16  # a symbolic link
                stored = rng.choice((b"/etc/passwd", b"../../x"))
            elif name == chosen and what == 2:
                stored = bytes(rng.choice((10**6, 5 * 10**7)))
            elif name == chosen and what == 3:
                info.compress_type = rng.choice((zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_STORED))
            new.writestr(info, stored)
    data = bytearray(packed.getvalue())
    if what in (4, 5, 6):  # flags (1: encrypted), method or sizes, in the local header or the central one
        signature, shift = rng.choice(((b"PK\1\2", 2), (b"PK\3\4", 0)))
        places = [match.start() for match in re.finditer(re.escape(signature), bytes(data))]
        at = rng.choice(places) + shift
        struct.pack_into("<H", data, at + 6, 1) if what == 4 else None
        struct.pack_into("<H", data, at + 8, rng.choice((1, 6, 9, 12, 14, 93, 99))) if what == 5 else None
        struct.pack_into(
            "<I", data, at + rng.choice((18, 22)), rng.choice((0, 1, 2**31, 2**32 - 1))
        ) if what == 6 else None
    return bytes(data)


# ---- pictures, HDF5 ----


def png(content: bytes, rng: Random) -> bytes:
    """A PNG with another header or other pixels, its CRCs mended; or its bytes changed."""
    if rng.random() < 0.4:
        return bytes_(content, rng)
    data, at, chunks = bytearray(content[:8]), 8, []
    while at + 8 <= len(content):
        length = int.from_bytes(content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    what, which = rng.randrange(4), rng.randrange(len(chunks))
    if what == 0:
        del chunks[which]
    elif what == 1:
        chunks.insert(which, chunks[rng.randrange(len(chunks))])
    elif what == 2:
        chunks[which] = chunks[which][0], bytes_(chunks[which][1] or b"x", rng)
    else:
        head = bytearray(chunks[0][1])
        place = rng.choice((0, 4))
        head[place : place + 4] = rng.choice((0, 1, 2**16, 10**6, 2**31 - 1)).to_bytes(4)
        head[8], head[9] = rng.choice((1, 2, 4, 8, 16, 3)), rng.choice((0, 2, 3, 4, 6, 5))
        chunks[0] = chunks[0][0], bytes(head)
    for name, held in chunks:
        data += len(held).to_bytes(4) + name + held + zlib.crc32(name + held).to_bytes(4)
    return bytes(data)


def hdf5(content: bytes, rng: Random) -> bytes:
    """An HDF5 file whose data sets are not what they should be; or its bytes changed."""
    if rng.random() < 0.5:
        return bytes_(content, rng)
    import h5py
    import numpy as np

    stored = io.BytesIO(content)
    with h5py.File(stored, "r+") as file:
        name = next(iter(file))
        side = file[name].shape[0]
        what = rng.randrange(9)
        kept = file[name][()]
        del file[name]
        if what == 0:
            file.create_dataset(name, data=rng.choice((1, "text", [1, 2, 3], np.zeros((0, 0)), np.zeros((side,) * 4))))
        elif what == 1:
            file.create_dataset(name, (10**6, 10**6, 14), "f8", chunks=(64, 64, 14), compression="gzip")
        elif what == 2:
            file.create_dataset(name, data=np.full(kept.shape, rng.choice(FLOATS)))
        elif what == 3:
            file.create_dataset(name, data=kept.astype(rng.choice(("S3", "c16", "f2", "i8", "?", "V8"))))
        elif what == 4:
            file[name] = h5py.ExternalLink("/etc/passwd", "x")
        elif what == 5:
            file[name] = h5py.SoftLink(rng.choice((f"/{name}", "/nothing", "/")))
        elif what == 6:
            file.create_dataset(name, kept.shape, "u1", external=[("/etc/passwd", 0, kept.size)])
        elif what == 7:
            file.create_group(name)
        else:
            file.create_dataset(name, data=kept[..., :1] if kept.ndim == 3 else kept[:-1])
    return stored.getvalue()
