"""What the commands of this folder have in common: options, the machine, rows that grow case by case."""

import argparse
import dataclasses
import os
import sys

import engines
import environment


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long to measure."""

    seconds: float
    """Of rounds for each case."""
    rounds: int
    """For each case at least."""
    loads: int
    """How often each engine loads each case."""


def words(text):
    return text.split(",")


def parser(doc, thing, names, effort):
    """Options that all commands take; `thing` is what one measures, `names` the engines that it knows."""
    numbers = lambda text: [int(word) for word in words(text)]
    found = argparse.ArgumentParser(description=doc.splitlines()[0])
    found.add_argument("--engines", type=words, default=names, help=f"default: {','.join(names)}")
    found.add_argument("--threads", type=numbers, default=[1, 2], help="default: 1,2")
    for name, kind, what in [
        ("seconds", float, f"of rounds for each {thing}"),
        ("rounds", int, f"at least so many for each {thing}"),
        ("loads", int, f"how often each {thing} is loaded"),
    ]:
        default = getattr(effort, name)
        found.add_argument(f"--{name}", type=kind, default=default, help=f"{what} (default: {default})")
    found.add_argument("--quick", action="store_true", help="a glance: fewer seconds, rounds and loads")
    found.add_argument("--nnc", help="the nnc to use, instead of building it")
    found.add_argument("--runtime", help="nnc's runtime library to use, instead of building it")
    found.set_defaults(names=names)
    return found


def parse(parser, quick, turn=0.0, resources=True):
    """The settings of the command line. `turn`: seconds that a worker's turn may fill with more runs than the least;
    `resources`: whether loading, memory and disk are measured, too."""
    settings = parser.parse_args()
    if settings.quick:
        vars(settings).update(dataclasses.asdict(quick))
    if min(settings.rounds, settings.loads, *settings.threads) < 1:
        parser.error("rounds, loads and threads start at 1")
    unknown = set(settings.engines) - set(settings.names)
    if unknown:
        parser.error(f"there is no engine {', '.join(sorted(unknown))}; there are {', '.join(settings.names)}")
    settings.turn, settings.resources = turn, resources
    settings.precision = getattr(settings, "precision", "f32")
    return settings


class Bench:
    """The machine, made ready, and the rows measured so far. Making one may start the command again, in its own environment."""

    def __init__(self, settings):
        environment.enter_venv()
        self.settings = settings
        self.tools = environment.tools(settings.nnc, settings.runtime, {"tract", "rten"} & set(settings.engines))
        self.cores = sorted(os.sched_getaffinity(0))
        self.threads = [count for count in settings.threads if count <= len(self.cores)]
        for count in set(settings.threads) - set(self.threads):
            print(f"there are no {count} cores for {count} threads", file=sys.stderr)
        if not self.threads:
            sys.exit("nothing to measure")
        self.peak = self._peak()
        self.rows = []
        environment.OUTPUT.mkdir(parents=True, exist_ok=True)

    def compare(self, case):
        """Measures a case; its rows."""
        import rounds

        found = rounds.compare(case, self.settings.engines, self.threads, self.cores, self.tools, self.settings, self.peak)
        self.rows += found
        if self.peak:
            share_of_limit(self.rows, self.peak)
        return found

    def _peak(self):
        from peak import Peak

        try:
            return Peak(self.cores[-max(self.threads) :], self.settings.precision)
        except OSError as error:
            print(f"no shares of the limit: {error}", file=sys.stderr)
            return None


def share_of_limit(rows, peak):
    """The limit is that each multiply-accumulate takes two operations at the best peak seen in this run."""
    for row in rows:
        row |= {"peak_flops": peak.best, "scaling": peak.scaling()}
        if "min_s" in row:
            row["share"] = 2 * row["macc"] / (row["threads"] * peak.best) / row["min_s"]
