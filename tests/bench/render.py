# SPDX-License-Identifier: Apache-2.0
"""The benchmark's report in Markdown."""
import moving
import serving
import tracking


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(c) for c in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def serving_tables(results):
    rows, details = [], []
    for row in serving.summarise(results):
        ratios = [f"{row['ratios'][p]:.2f}" if p in row["ratios"] else "-"
                  for p in ("qemu-nbd", "nbdkit")]
        better = f"**{row['against_better']:.2f}**" if "against_better" in row else "-"
        rows.append([row["cell"], *ratios, better])
        for name, s in row["servers"].items():
            details.append([row["cell"], name, f"{s['iops']:,.0f}", f"{s['mb_per_second']:,.0f}",
                            f"{s['p50_us']:.0f}", f"{s['p99_us']:.0f}",
                            f"{s['server_cpu_us_per_request']:.2f}"])
    return (table(["work", "blockmig / qemu-nbd", "blockmig / nbdkit", "blockmig / better of the two"],
                  rows) + "\nMedians of the same runs:\n\n" +
            table(["work", "server", "IOPS", "MB/s", "p50 us", "p99 us", "server CPU us/request"],
                  details))


def markdown(data):
    """The whole report."""
    out = ["# Benchmark", "", f"`{data['command']}`", ""]
    out += [f"- {key}: {value}" for key, value in data["environment"].items()]
    out += ["", f"{data['pairs']} rounds; servers take turns within a round; a ratio is the median of "
            "the rounds' ratios. Absolute values move with the machine's neighbours.", ""]
    if "serving" in data:
        out += ["## Serving a page-cached raw file, unix socket, one connection", "",
                "Server on processor 0, client (`nbdload`) on processor 1, "
                f"{data['seconds']} s a run. Above 1: blockmig is faster.", "",
                serving_tables(data["serving"])]
    if data.get("tracking"):
        out += ["## Dirty tracking", "", tracking.sentence(data["tracking"]), ""]
    if "moving" in data:
        gib = data["move_bytes"] / (1 << 30)
        rows = [[r["who"], f"{r['seconds']:.2f}", f"{gib * 1024 / r['seconds']:,.0f}",
                 f"{r['to cp']:.2f}", f"{r['to qemu-storage-daemon']:.2f}"]
                for r in moving.summarise(data["moving"])]
        out += [f"## Moving an idle, fully allocated disk of {gib:g} GiB, file to file", "",
                f"On {data['move_filesystem']}, source in the page cache, time until the target is "
                "flushed. Below 1: faster.", "",
                table(["who", "seconds", "MiB/s", "time / cp", "time / qemu-storage-daemon"], rows)]
    return "\n".join(out)
