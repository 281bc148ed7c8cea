"""Each check of a tier before it is run: pure, what the machine, the panel and earlier runs say is handed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from atft.config import MODES, Tier
from atft.experiment import estimates, rules, variables
from atft.experiment.checklist import Checklist, Material, Row
from atft.experiment.diff import Differences, differences
from atft.experiment.tiers import Resolved

USUAL_FEATURES = 100
"""Features that two networks' sizes are compared by where nobody says how many there are."""


def checklist(resolved: Resolved, material: Material) -> Checklist:
    """Hold a tier against every rule.

    Args:
        resolved: the tier and the sources of its values.
        material: what else is known.
    """
    return _Maker(resolved, material).made()


class _Maker:
    """Makes the rows of one tier; what several of them need is found once."""

    def __init__(self, resolved: Resolved, material: Material) -> None:
        self.tier, self.sources, self.known = resolved.tier, resolved.provenance, material
        panel = material.panel
        self.features = len(panel.features) if panel else self.tier.features
        self.parameters = estimates.parameters(self.tier, self.features) if self.features else None
        data = (panel.sha256, material.baseline.data) if panel and material.baseline.data else None
        self.found: Differences = differences(
            material.baseline.tier, self.tier, names=(material.baseline.name, self.tier.name), data=data
        )
        self.figures: dict[str, Any] = {
            "samples": self.tier.batch.samples, "features": self.features, "parameters": self.parameters
        }  # fmt: skip

    def made(self) -> Checklist:
        rows = (
            self.effective_batch(), self.counted(), self.batch_for_size(), self.rule_of_thumb(), self.learning_rate(),
            self.hidden_size(), self.loss_weights(), self.epochs(), self.precision(), self.mode(), self.memory(),
            self.run_time(), self.noise(), self.from_environment(), self.against_baseline(), self.batch_and_model(),
        )  # fmt: skip
        stated = "" if self.known.baseline.stated else ", as its file states it (no baseline is stated)"
        return Checklist(self.tier.name, f"{self.known.baseline.name}{stated}", rows, self.figures)

    def effective_batch(self) -> Row:
        batch = self.tier.batch
        value = (
            f"{batch.samples:,} stock-days = {batch.days} days × {batch.stocks_per_day} stocks, in {batch.blocks} "
            f"blocks of {batch.block_days} days"
        )
        paths = ("batch.days", "batch.stocks_per_day", "batch.block_days")
        return Row("effective batch", "pass", value, "stated; no mode and no worker changes it", self._source(*paths))

    def counted(self) -> Row:
        check, rule = "parameters", "counted on the network itself"
        if self.parameters is None:
            text = "not counted: neither a panel nor the tier's features say how many inputs the network has. "
            mend = "Mend: --data PANEL, or --set features=N."
            return Row(check, "warn", "not counted", rule, "", text=text + mend)
        value = f"{self.parameters:,} with {self.features} features"
        if self.known.panel is None:
            return Row(check, "pass", value, rule, self._source("features"))
        if self.tier.features not in (None, self.features):
            text = f"the panel has {self.features} features, and the tier is meant for {self.tier.features}."
            return Row(check, "warn", value, rule, "the panel", text=text)
        return Row(check, "pass", value, rule, "the panel")

    def batch_for_size(self) -> Row:
        check, samples = "batch for its size", self.tier.batch.samples
        source = self._source("batch.days", "batch.stocks_per_day")
        if self.parameters is None:
            text = "not judged: the parameters are not counted."
            return Row(check, "warn", f"{samples:,}", "the table by parameters", source, text=text)
        rule = rules.batch_rule(self.parameters)
        if samples < rule.least:
            days = rules.days_for(self.tier, rule.least)
            text = (
                f"batch.days × batch.stocks_per_day = {samples:,} stock-days ({source}), below {rule.least:,}, the "
                f"least for {self.parameters:,} parameters. Mend: --set batch.days={days}."
            )
            return Row(check, "fail", f"{samples:,}", str(rule), source, rules.BELOW_MINIMUM, text)
        if not rule.best[0] <= samples <= rule.best[1]:
            text = f"{samples:,} stock-days are outside the {rule.best[0]:,} to {rule.best[1]:,} said to be best."
            return Row(check, "warn", f"{samples:,}", str(rule), source, text=text)
        return Row(check, "pass", f"{samples:,}", str(rule), source)

    def rule_of_thumb(self) -> Row:
        check, told = "rule of thumb", "the original used √parameters and wrote 10·√parameters; neither refuses"
        if self.parameters is None:
            return Row(check, "warn", "not counted", told, "", text="not judged: the parameters are not counted.")
        samples, (used, written) = self.tier.batch.samples, rules.thumb(self.parameters)
        self.figures |= {"sqrt_parameters": used, "ten_sqrt_parameters": written}
        value = f"√parameters = {used:,.0f}, 10·√parameters = {written:,.0f}"
        table = rules.batch_rule(self.parameters).least
        held = {"√parameters": samples >= used, "10·√parameters": samples >= written, "the table": samples >= table}
        if len(set(held.values())) > 1:
            wide, narrow = ([name for name, holds in held.items() if holds is side] for side in (True, False))
            value += f"; the rules disagree: {samples:,} satisfies {' and '.join(wide)}, not {' and '.join(narrow)}"
        if samples < used:
            text = f"{samples:,} stock-days are fewer than √parameters = {used:,.0f}."
            return Row(check, "warn", value, told, "parameters", text=text)
        return Row(check, "pass", value, told, "parameters")

    def learning_rate(self) -> Row:
        rates = {name: phase.learning_rate for name, phase in self.tier.phases.items()}
        paths = [f"phases.{name}.learning_rate" for name in rates]
        return Row("learning rate", "pass", _by_phase(rates), "stated for each phase", self._source(*paths))

    def hidden_size(self) -> Row:
        value = f"{self.tier.model.hidden_size} ({self.tier.model.architecture})"
        return Row("hidden size", "pass", value, "stated", self._source("model.hidden_size"))

    def loss_weights(self) -> Row:
        weights = self.tier.objective.weights.model_dump()
        value = ", ".join(f"{name} {weight:g}" for name, weight in weights.items())
        paths = [f"objective.weights.{name}" for name in weights]
        return Row(
            "loss weights", "pass", f"{value}; {self.tier.objective.sharpe_kind}", "stated", self._source(*paths)
        )

    def epochs(self) -> Row:
        run = {name: phase.epochs for name, phase in self.tier.phases_to_run().items()}
        stated = sum(phase.epochs for phase in self.tier.phases.values())
        steps = sum(run.values()) * self.tier.steps_per_epoch
        value = f"{_by_phase(run)}; {self.tier.steps_per_epoch:,} steps each, {steps:,} in all"
        paths = [*(f"phases.{name}.epochs" for name in self.tier.phases), "max_epochs", "epoch_stock_days"]
        row = Row("epochs by phase", "pass", value, f"at most {self.tier.max_epochs} together", self._source(*paths))
        if sum(run.values()) == stated:
            return row
        text = f"max_epochs = {self.tier.max_epochs} leaves {sum(run.values())} of {stated} epochs: the last are cut."
        return replace(row, status="warn", text=text)

    def precision(self) -> Row:
        asked = self.tier.precision
        half = "float16 with a loss scale" if self.known.gpu else "bfloat16"
        used = {"32": "float32", "bf16-mixed": "bfloat16", "16-mixed": half}[asked]
        value = f"{asked}: {used} on this machine's {'GPU' if self.known.gpu else 'processors'}"
        return Row("precision", "pass", value, "stated", self._source("precision"))

    def mode(self) -> Row:
        tier, usual = self.tier, MODES[self.tier.mode]
        runtime = tier.runtime.model_dump()
        own = [name for name in ("deterministic", "loader_workers") if runtime[name] != usual[name]]
        told = "deterministic" if tier.runtime.deterministic else "not deterministic"
        workers = "one process" if self.known.workers == 1 else f"{self.known.workers} workers"
        value = f"{tier.mode}: {workers}, {tier.runtime.loader_workers} loader threads, {told}"
        row = Row("mode", "pass", value, "changes nothing that is learned", self._source("mode"))
        if tier.mode == "optimized" or not own:
            return row
        named = ", ".join(f"runtime.{name} = {runtime[name]} ({self._source(f'runtime.{name}')})" for name in own)
        text = f"mode safe, and yet {named}. Mend: leave that out, or --set mode=optimized."
        return replace(row, status="warn", text=text)

    def memory(self) -> Row:
        check, where = "memory", "GPU memory" if self.known.gpu else "memory, control group included,"
        rule = f"estimated, at least; {estimates.size(self.known.available)} of {where} free"
        if self.features is None or self.parameters is None:
            return Row(check, "warn", "not estimated", rule, "", text="not estimated: the parameters are not counted.")
        found = estimates.memory(self.tier, self.features, self.parameters, self.known.panel, gpu=self.known.gpu)
        here = self.known.workers if not self.known.gpu else 1
        self.figures |= {"memory_bytes": found.total, "memory_available_bytes": self.known.available}
        source = "parameters, blocks" + (", the panel" if self.known.panel else "; no panel named")
        value = f"{estimates.size(found.total)} a worker = {found}"
        if found.total * here <= self.known.available:
            return Row(check, "pass", value, rule, source)
        text = (
            f"{here} × {estimates.size(found.total)} exceed the {estimates.size(self.known.available)} that are free."
        )
        return Row(check, "warn", value, rule, source, text=text + " Mend: fewer workers, or a larger machine.")

    def run_time(self) -> Row:
        check, rule = "run time", "a guess; no bound"
        if self.features is None:
            return Row(check, "warn", "not estimated", rule, "", text="not estimated: features are not known.")
        known = self.known
        found = estimates.run_time(
            self.tier, self.features, known.earlier, gpu=known.gpu, workers=known.workers, processors=known.processors
        )
        self.figures |= {"seconds": found.middle, "seconds_low": found.low, "seconds_high": found.high}
        value = f"{found} for {estimates.samples(self.tier):,} stock-days"
        return Row(check, "pass", value, rule, found.source)

    def noise(self) -> Row:
        found, told = estimates.noise(self.tier)
        self.figures |= {"batch_sharpe_std": found}
        value = "none" if found is None else f"± {found:.3f} on each batch Sharpe"
        return Row("sampling noise", "pass", value, told, "" if found is None else self._source("batch.days"))

    def from_environment(self) -> Row:
        check, rule = "environment", "says nothing that is learned"
        found = list(variables.variables(self.sources))
        if not found:
            return Row(check, "pass", "sets nothing", rule, "")
        learned = self.tier.learning().keys()
        named = ", ".join(f"{variable} sets {path} = {_at(self.tier, path)}" for variable, path in found)
        if not any(path.split(".")[0] in learned for _, path in found):
            return Row(check, "pass", named, rule, "environment")
        text = f"{named}. Mend: state it in a tier or with a flag, where the next reader finds it."
        return Row(check, "warn", named, rule, "environment", text=text)

    def against_baseline(self) -> Row:
        found, name = self.found, self.known.baseline.name
        check, rule = "differs from it", "one variable at a time"
        named = ", ".join(str(each) for each in found.learning if each.variable)
        value = f"{found.variables} variable(s)" + (f": {named}" if named else "")
        value += "" if found.seeds[0] == found.seeds[1] else f"; seed {found.seeds[0]} → {found.seeds[1]}"
        self.figures |= {"variables": list(found.named)}
        row = Row(check, "pass", value, rule, self._source(*[each.path for each in found.learning if each.variable]))
        if found.causal or (found.variables == 0 and found.comparable):
            return row
        if found.variables <= 1:
            return replace(row, status="warn", text=f"a comparison with {name} {found.verdict}.")
        text = f"{found.variables} variables differ from {name} at once ({named}): which of them did it cannot be told."
        text += self._causal()
        missing = rules.undeclared(self.tier, found)
        if self.known.baseline.stated and missing:
            stated = f" Or state that it is meant: differs: [{', '.join(found.named)}]."
            return replace(row, status="fail", reason=rules.UNDECLARED, text=text + stated)
        return replace(row, status="warn", text=text)

    def _causal(self) -> str:
        """Comparisons that could say which variable did it."""
        baseline = self.known.baseline
        others = {name: tier for name, tier in self.known.others.items() if name != self.tier.name}
        told = []
        steps = (
            rules.chain(baseline.name, baseline.tier, self.tier, self.found)
            if baseline.typed and baseline.stated
            else []
        )
        if steps:
            told.append(f"one variable a step, {', then '.join(steps)}")
        told += rules.alone(self.tier, others)
        return f" Causal would be: {'; '.join(told)}." if told else ""

    def batch_and_model(self) -> Row:
        batch, before = self.tier.batch.samples, self.known.baseline.tier.batch.samples
        features = self.features or USUAL_FEATURES
        size, other = (estimates.parameters(each, features) for each in (self.tier, self.known.baseline.tier))
        value = f"batch {before:,} → {batch:,}, parameters {other:,} → {size:,}"
        row = Row("batch and model", "pass", value, "no smaller batch for a larger model", self._source("batch.days"))
        if batch >= before or size <= other:
            return row
        text = (
            f"the batch falls from {before:,} to {batch:,} stock-days as the model grows from {other:,} to {size:,} "
            f"parameters. Mend: --set batch.days={rules.days_for(self.tier, before)}."
        )
        return replace(row, status="fail", reason=rules.SHRINKS, text=text)

    def _source(self, *paths: str) -> str:
        """Where these values came from, each source once."""
        found = dict.fromkeys(self._source_of(path) for path in paths)
        return ", ".join(source for source in found if source)

    def _source_of(self, path: str) -> str:
        while path:
            if path in self.sources:
                return self.sources[path]
            path = path.rpartition(".")[0]
        return ""


def _by_phase(values: Mapping[str, float]) -> str:
    if len(set(values.values())) == 1 and len(values) > 1:
        return f"{next(iter(values.values())):g} in all {len(values)} phases"
    return ", ".join(f"{name} {value:g}" for name, value in values.items())


def _at(tier: Tier, path: str) -> Any:
    value: Any = tier.model_dump(mode="json")
    for part in path.split("."):
        value = value[part]
    return value
