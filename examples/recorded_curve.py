"""Measure once, decide later: a saved range test gives the learning rate of other plans, without model or data."""

import lrfinder
from lrfinder.demo import make

training = make("digits-mlp")  # your own model, optimizer, data and criterion
curve = lrfinder.range_test(training["model"], training["optimizer"], training["data"], training["criterion"], end_lr=100.0, num_iter=150)
curve.save("curve.json")  # .csv and .png work too

recorded = lrfinder.load("curve.json")  # another day, another machine
print(recorded)
for total_steps in (200, 2000):
    for schedule in ("constant", "onecycle"):
        found = lrfinder.suggest_lr(recorded, total_steps=total_steps, schedule=schedule)
        print(f"{total_steps:5} steps, {schedule:8}: lr {found.lr:.2g}, good range {found.interval[0]:.2g} to {found.interval[1]:.2g}")
