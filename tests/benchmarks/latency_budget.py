"""Does ``--latency 60%`` give a network that runs in 60 % of the time, measured afresh?

    python -m tests.benchmarks.latency_budget [resnet18:1 resnet18:8 resnet18:1,8 ...]

Random weights, 224 px, L2 norms of the filters as scores. Beside each plan: what a plan with the
same number of parameters that was not made for latency measures, and what the plans of the same
latency lose that rank by MACs or by the score alone.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace

import torch
import torchvision

from nnslim.channels import channel_groups
from nnslim.channels.magnitude import magnitude
from nnslim.cli.output import Output
from nnslim.measure.layer_times import LayerTimes
from nnslim.measure.macs import weighted_positions
from nnslim.network import Network, trace_network
from nnslim.pruning import Constraints, Limit, make_plan
from nnslim.pruning.latency.alignment import AlignmentChoice, choose_alignment
from nnslim.pruning.latency.device import NetworkDevice, open_device, worst
from nnslim.pruning.latency.plan_for import plan_for_latency
from nnslim.pruning.latency.result import LatencyPlan, SearchSettings
from nnslim.pruning.scores.measured import Scores
from nnslim.report import Table
from nnslim.settings.budget import LatencyBudget
from nnslim.settings.session import SessionSettings

CASES = ("resnet18:1", "resnet18:8", "resnet18:1,8")
HEADS = (
    "network", ">batch", ">target %", ">measured %", ">interval", ">control", ">exports", ">s",
    ">params %", ">MACs %", ">ms before", ">ms after", ">same params, not for latency %",
)  # fmt: skip
LOSSES = (
    "network",
    ">batch",
    "ranked by score per",
    ">lost score at the target",
    ">measured %",
    ">exports",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=CASES)
    parser.add_argument("--latency", type=float, default=60.0, help="per cent")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--align", action="store_true", help="only what --align auto chooses")
    parser.add_argument("--no-rankings", action="store_true", help="only the first table")
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = SessionSettings(args.device, threads=args.threads)
    budget = LatencyBudget(args.latency / 100, relative=True)
    rows: list[list[str]] = []
    losses: list[list[str]] = []
    found: list[object] = []
    for case in args.cases:
        name, _, sizes = case.partition(":")
        torch.manual_seed(0)
        model = torchvision.models.get_model(name, weights=None).eval()
        network = trace_network(model, torch.zeros(2, 3, 224, 224))
        channels = channel_groups(network)
        scores = magnitude(network, channels)
        batches = tuple(int(size) for size in sizes.split(","))
        with open_device(network, channels, settings, batches) as device:
            start = time.perf_counter()
            if args.align:
                choice = choose_alignment(device, scores, Constraints({}), budget)
                seconds = time.perf_counter() - start
                Output().result(choice.to_json(), _alignments(name, sizes, choice, seconds))
                continue
            plan = plan_for_latency(device, scores, Constraints({}), budget)
            seconds = time.perf_counter() - start
            blind = _same_params(device, scores, plan)
            rows.append(_row(name, sizes, plan, seconds, blind))
            found.append({"case": case, "load": os.getloadavg()[0], **plan.to_json()})
            Output().info("  ".join(rows[-1]))
            if not args.no_rankings:
                losses += _rankings(name, sizes, device, network, scores, plan)
    if not rows:
        return
    title = f"--latency {budget} on {args.device}, {settings.n_threads} threads"
    Output().result({"plans": found}, Table.of(title, HEADS, rows))
    if losses:
        Output().result({}, Table.of("what the same latency costs", LOSSES, losses))


def _alignments(name: str, sizes: str, choice: AlignmentChoice, seconds: float) -> Table:
    """Every multiple that was tried: what it loses at the target, and what it measured."""
    rows: list[list[str]] = []
    for own in choice.candidates:
        cells = ["-", "-", "-", "-"]
        if own.plan is not None and own.search is not None:
            check = worst(own.ratios)
            interval = f"{100 * check.low:.1f} to {100 * check.high:.1f}"
            macs = own.plan.after.macs / own.plan.before.macs
            cells = [f"{100 * check.ratio:.1f}", interval, f"{100 * macs:.1f}"]
            cells.append(str(len(own.search.trials)))
        chosen = "chosen" if own is choice.chosen else (own.why_not or "")
        rows.append([str(own.align), f"{own.lost:.1f}", *cells, chosen])
    heads = [">multiple", ">lost score at the target", ">measured %", ">interval", ">MACs %"]
    title = f"{name}, batch {sizes}, --align auto: {seconds:.0f} s"
    return Table.of(title, [*heads, ">exports", ""], rows)


def _row(name: str, sizes: str, plan: LatencyPlan, seconds: float, blind: float) -> list[str]:
    check, control = worst(plan.check), worst(plan.control)
    before, after = plan.plan.before, plan.plan.after
    cells = (
        f"{100 * plan.target:.1f}",
        f"{100 * check.ratio:.1f}",
        f"{100 * check.low:.1f} to {100 * check.high:.1f}",
        f"{control.ratio:.3f} ({control.low:.3f} to {control.high:.3f})",
        str(len(plan.trials)),
        f"{seconds:.0f}",
        f"{100 * after.params / before.params:.1f}",
        f"{100 * after.macs / before.macs:.1f}",
        f"{check.parent_ms:.2f}",
        f"{check.candidate_ms:.2f}",
        f"{100 * blind:.1f}",
    )
    return [name, sizes, *cells]


def _same_params(device: NetworkDevice, scores: Scores, plan: LatencyPlan) -> float:
    """Measured ratio of the plan that a budget in parameters alone makes."""
    limit = Limit(plan.plan.after.params, relative=False)
    blind = make_plan(device.channels, device.costs, scores, Constraints({"params": limit}))
    return worst(device.measure(blind, SearchSettings().thorough)).ratio


class _Ranked:
    """A device that ranks channels by something other than its times."""

    def __init__(self, device: NetworkDevice, times: dict[int, LayerTimes]) -> None:
        self.channels, self.costs = device.channels, device.costs
        self.control, self.measure, self.facts = device.control, device.measure, device.facts
        self.layer_times = lambda: times


def _rankings(
    name: str,
    sizes: str,
    device: NetworkDevice,
    network: Network,
    scores: Scores,
    plan: LatencyPlan,
) -> list[list[str]]:
    """The same latency when channels go by score per microsecond, per MAC, or by score alone."""
    positions = {weight: float(uses) for weight, uses in weighted_positions(network).values()}
    macs = {t: uses * network.tensor(t).numel() for t, uses in positions.items()}
    by_macs = LayerTimes(sum(macs.values()), positions, macs, 0, ())
    plans = {
        "microsecond": plan,
        "MAC": plan_for_latency(
            _Ranked(device, dict.fromkeys(plan.check, by_macs)),
            scores, Constraints({}), LatencyBudget(plan.target, relative=True),
        ),
        "channel": plan_for_latency(
            device, scores, replace(Constraints({}), per_cost=False),
            LatencyBudget(plan.target, relative=True),
        ),
    }  # fmt: skip
    return [
        [name, sizes, by, f"{own.lost_at_target:.1f}", f"{100 * worst(own.check).ratio:.1f}",
         str(len(own.trials))]
        for by, own in plans.items()
    ]  # fmt: skip


if __name__ == "__main__":
    main()
