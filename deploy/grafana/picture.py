#!/usr/bin/env python3
"""Draws the dashboard's main panels from what deploy/prometheus/try.py --data has written, readable on light and dark.

    deploy/grafana/picture.py DATA.json PICTURE.svg        needs matplotlib
"""

import json
import pathlib
import re
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter

PANELS = [
    ("Requests by outcome", "/s"), ("Refused, by reason", "/s"), ("Overhead", "s"),
    ("Requests by account and status", "/s"), ("Throttled", "/s"), ("Resting, by cause", ""),
    ("Under way", "tasks"), ("Polls, by where the answer came from", "/s"), ("Ends known late by", "s"),
]
# Colours that differ on white and on black alike.
COLOURS = ["#3b82f6", "#f59e0b", "#10b981", "#ef4444", "#8b5cf6", "#06b6d4", "#ec4899", "#84cc16"]
GREY = "#808080"
MOST = 7


def label(legend, metric):
    for name, value in metric.items():
        legend = legend.replace("{{" + name + "}}", value)
    return legend


def seconds(value, _):
    for unit, factor in (("s", 1), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= factor or unit == "µs":
            return f"{value / factor:g} {unit}" if value else "0"


def main(data, picture):
    with open(data) as file:
        data = json.load(file)
    plt.rcParams.update({"font.size": 8, "text.color": GREY, "axes.labelcolor": GREY, "xtick.color": GREY,
                         "ytick.color": GREY, "axes.edgecolor": GREY, "font.family": "sans-serif", "svg.fonttype": "none", "svg.hashsalt": "dashgate"})
    figure, axes = plt.subplots(3, 3, figsize=(12, 8), layout="constrained")
    figure.patch.set_alpha(0)
    times = [float(at) for targets in data.values() for t in targets for series in t["result"] for at, _ in series["values"]]
    start, end = min(times), max(times)
    for axis, (title, unit) in zip(axes.flat, PANELS):
        series = [(label(target["legend"], one["metric"]), one["values"]) for target in data[title] for one in target["result"]]
        points = [(name, [(float(t) - start, float(v)) for t, v in values if v != "NaN"]) for name, values in series]
        points = [(name, found) for name, found in points if found and any(v for _, v in found)]
        points.sort(key=lambda one: -max(v for _, v in one[1]))
        for (name, found), colour in zip(points[:MOST], COLOURS):
            axis.plot(*zip(*found), label=name, color=colour, linewidth=1.2)
        axis.set_title(title + (f" ({unit})" if unit else ""), fontsize=9, color=GREY)
        axis.patch.set_alpha(0)
        axis.set_xlim(0, end - start)
        if unit == "s":
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter(FuncFormatter(seconds))
            axis.set_ylim(top=axis.get_ylim()[1] * 10)
        else:
            axis.set_ylim(0, axis.get_ylim()[1] * 1.4)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} s"))
        axis.grid(color=GREY, alpha=0.25, linewidth=0.5)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
        axis.legend(fontsize=6.5, frameon=False, loc="upper left", ncols=2 if len(points) > 4 else 1)
    figure.savefig(picture, metadata={"Date": None})
    # A tenth of a pixel is fine enough, and half the bytes.
    path = pathlib.Path(picture)
    path.write_text(re.sub(r"(\d+\.\d)\d+", r"\1", path.read_text()))


main(*sys.argv[1:])
