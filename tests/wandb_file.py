"""Read the file of an offline run: LevelDB's log format around wandb's own protobuf records."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEADER, INTRODUCTION = 32768, 7, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(path: Path) -> Iterator[Record]:
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    place, whole = INTRODUCTION, b""
    while place + HEADER <= len(data):
        left = BLOCK - place % BLOCK
        if left < HEADER:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + HEADER])
        if kind == 0:
            place += left
            continue
        part = data[place + HEADER : place + HEADER + length]
        place += HEADER + length
        whole = part if kind in (FULL, FIRST) else whole + part
        if kind in (FULL, LAST):
            record = Record()
            record.ParseFromString(whole)
            yield record


class OfflineRun:
    """History rows, summary and metric definitions of one offline run."""

    def __init__(self, folder: Path) -> None:
        (path,) = folder.glob("wandb/offline-run-*/*.wandb")
        self.history, self.summary = [], {}
        self.axes = {}
        for record in records(path):
            if record.HasField("history"):
                self.history.append(
                    {_key(i): json.loads(i.value_json) for i in record.history.item}
                )
            if record.HasField("summary"):
                self.summary |= {_key(i): json.loads(i.value_json) for i in record.summary.update}
            if record.HasField("metric"):
                metric = record.metric
                self.axes[metric.name or metric.glob_name] = metric.step_metric

    def curve(self, name: str, axis: str) -> list[tuple[float, float]]:
        return [(row[axis], row[name]) for row in self.history if name in row and axis in row]


def _key(item) -> str:
    return item.key or "/".join(item.nested_key)
