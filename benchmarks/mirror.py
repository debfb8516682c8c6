"""Copies between a run folder and a mirror: seconds to fill it, to find nothing new, and to fetch it whole.

    OMP_NUM_THREADS=1 python benchmarks/mirror.py --shards 10000

Shards of verdicts on `--rows` answers, on a disk and in an S3-speaking server of this machine that keeps all in memory
(moto, of the development tools; one process, so that its own work bounds the copies). Beside it, copying the same
folder on the same disk by shutil: what no mirror can go below.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from spillover.errors import UserError
from spillover.progress import Progress
from spillover.records.base import Judgment
from spillover.store.mirror import Mirror, fetch
from spillover.store.store import Store


def fill(store: Store, shards: int, rows: int) -> None:
    """So many finished shards, written as the stages write them."""
    store.create()
    for number in range(shards):
        with store.shard("judge", f"{number:016x}", Judgment) as shard:
            shard.append(
                *(
                    Judgment(completion=f"{number:08x}{row:012x}", judge="fake:0", aspect="alignment", score=row % 101)
                    for row in range(rows)
                )
            )
            shard.finish(seconds=0.0, tokens=0)


def timed(act: Callable[[], object]) -> float:
    """Seconds that it takes."""
    start = time.perf_counter()
    act()
    return round(time.perf_counter() - start, 2)


def measure(store: Store, url: str, out: Path) -> dict[str, float]:
    """The seconds of each kind of copy."""
    quiet = Progress(lambda event: None)

    def opened() -> Mirror:
        mirror = Mirror(store, url)
        mirror.open(create=True)
        return mirror

    return {
        "push": timed(lambda: opened().push(quiet)),
        "nothing new": timed(lambda: (opened().pull(quiet), opened().push(quiet))),
        "pull": timed(lambda: copied(url, out, quiet)),
    }


def copied(url: str, out: Path, quiet: Progress) -> None:
    """The shards of a mirror; `fetch` ends in an error where no stage of a study is finished, after it copied them."""
    with suppress(UserError):
        fetch(url, out, quiet)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    from moto.server import ThreadedMotoServer

    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        store = Store(place / "run")
        made = timed(lambda: fill(store, args.shards, args.rows))
        found["shutil.copytree"] = {"push": timed(lambda: shutil.copytree(store.path, place / "copy"))}
        found["disk"] = measure(store, str(place / "mirror"), place / "from-disk")
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "key",
        }
        import boto3

        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="mirrors")
        found["s3 (moto)"] = measure(store, "s3://mirrors/run", place / "from-s3")
        server.stop()
        assert Store(place / "from-s3").content("judge", f"{1:016x}") == store.content("judge", f"{1:016x}")
    if args.json:
        print(json.dumps({"shards": args.shards, "rows": args.rows, "made": made, **found}))
        return
    print(f"{args.shards:,} shards of {args.rows} rows, written in {made} s. Seconds:")
    for name, row in found.items():
        print(f"{name:<16}" + "".join(f"{kind:>14}{seconds:>8.2f}" for kind, seconds in row.items()))


if __name__ == "__main__":
    main()
