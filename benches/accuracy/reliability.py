"""Draws what a track's score promises against the IoU that its mask had.

Reads what the example `calibrate` prints:

    cargo run --release --example calibrate 8 DAVIS MODEL.onnx OUTPUT > reliability.md
    python3 benches/accuracy/reliability.py reliability.md docs/accuracy/reliability.svg

Needs matplotlib.
"""

import re
import sys


def tables(text):
    """Yields each table's title and its rows: masks, mean score, mean IoU."""
    for part in text.split("## ")[1:]:
        title, _, rest = part.partition("\n")
        rows = re.findall(r"^\| [\d.]+ to [\d.]+ \| (\d+) \| ([\d.]+) \| ([\d.]+) \|$", rest, re.MULTILINE)
        yield title.strip(), [(int(masks), float(said), float(was)) for masks, said, was in rows]


def main(source, target):
    import matplotlib

    matplotlib.use("SVG")
    # The same input draws the same bytes.
    matplotlib.rcParams["svg.hashsalt"] = "tagalong"
    from matplotlib import pyplot

    with open(source, encoding="utf-8") as file:
        held_out = [(title, rows) for title, rows in tables(file.read()) if "fitted" in title]
    if not held_out:
        sys.exit(f"{source}: there is no table in it; it should hold what the example `calibrate` prints")
    figure, axes = pyplot.subplots(figsize=(5.5, 5), layout="constrained")
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, label="as promised")
    for title, rows in held_out:
        most = max(masks for masks, _, _ in rows)
        points = axes.scatter(
            [said for _, said, _ in rows], [was for _, _, was in rows],
            [15 + 150 * masks / most for masks, _, _ in rows], alpha=0.7, label=title.split(",")[0],
        )
        axes.plot([said for _, said, _ in rows], [was for _, _, was in rows],
                  color=points.get_facecolor()[0], linewidth=1)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="score", ylabel="mean IoU of the masks with that score")
    axes.set_title("each film scored by what was fitted to the others", fontsize=9)
    axes.legend(loc="upper left")
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
