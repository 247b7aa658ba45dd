//! One outcome of several: what a number of processes found that played the same together.

use std::collections::BTreeMap;
use std::time::Duration;

use super::figure::{Figure, Quantity, Source};
use super::{FORMAT, Outcome, SENTENCES_MAX, Sentences, Verdict};
use crate::report::environment::Environment;

/// Flags of a command that may differ between processes of one run: where each is, which channels and tokens are its own,
/// and what it writes; not what it plays.
const OWN_FLAGS: [&str; 6] = ["--source", "--channel", "--token", "--pid", "--report", "--output"];

/// Why two outcomes are not of one run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` is {theirs}, and of the others {ours}")]
pub struct Different {
    /// The field of the outcome that differs.
    pub field: String,
    /// What the one that was to be added says.
    pub theirs: String,
    /// What the others say.
    pub ours: String,
}

impl Outcome {
    /// Adds what another process found in the same run. Counts add up, distributions become those of all values together,
    /// figures are computed again. The order in which outcomes are added makes no difference, but for the sentences kept.
    ///
    /// # Errors
    /// They are not of one run; then nothing is changed.
    pub fn merge(&mut self, mut other: Self) -> Result<(), Different> {
        self.compare(&other)?;
        self.align(&mut other);
        let processes = (self.processes, other.processes);
        self.processes = self.processes.saturating_add(other.processes);
        if self.command != other.command {
            self.command = in_common(&self.command);
        }
        environments(&mut self.environments, other.environments);
        self.verdict.add(&other.verdict);
        for (to, from) in [
            (&mut self.counts, other.counts),
            (&mut self.closings, other.closings),
            (&mut self.errors, other.errors),
        ] {
            add(to, from);
        }
        for (name, distribution) in other.distributions {
            let own = self.distributions.entry(name);
            own.and_modify(|own| own.add(&distribution)).or_insert(distribution);
        }
        for (name, timeline) in other.timelines {
            self.timelines.entry(name).and_modify(|own| own.add(&timeline)).or_insert(timeline);
        }
        for series in other.series {
            match self.series.iter_mut().find(|own| own.is_of_the_same(&series)) {
                Some(own) => own.add(&series),
                None => self.series.push(series),
            }
        }
        self.merge_words(other.wrong, other.warnings);
        self.marks.extend(other.marks);
        self.marks.sort();
        self.marks.dedup();
        if let (Some(own), Some(other)) = (&mut self.ramp, &other.ramp) {
            own.add(other, processes);
        }
        figures(&mut self.figures, other.figures);
        self.compute();
        Ok(())
    }

    fn compare(&self, other: &Self) -> Result<(), Different> {
        let different = |field: &str, theirs: &str, ours: &str| {
            Err(Different { field: field.into(), theirs: theirs.into(), ours: ours.into() })
        };
        if other.format != FORMAT {
            return different("format", &other.format.to_string(), &FORMAT.to_string());
        }
        if other.play != self.play {
            return different("play", &other.play, &self.play);
        }
        if in_common(&other.command) != in_common(&self.command) {
            return different("command", &other.command, &self.command);
        }
        for (name, distribution) in &other.distributions {
            let own = self.distributions.get(name).filter(|own| own.unit != distribution.unit);
            if let Some(own) = own {
                return different(&format!("distributions.{name}.unit"), &distribution.unit, &own.unit);
            }
        }
        let unit = |outcome: &Self| outcome.ramp.as_ref().map_or("nothing", |ramp| &ramp.unit).to_owned();
        if unit(other) != unit(self) {
            return different("ramp", &unit(other), &unit(self));
        }
        Ok(())
    }

    /// Lets both begin when the earlier one began.
    fn align(&mut self, other: &mut Self) {
        let start = self.started_unix_ms.min(other.started_unix_ms);
        self.begin(start);
        other.begin(start);
        self.seconds = self.seconds.max(other.seconds);
    }

    fn begin(&mut self, start_unix_ms: u64) {
        let earlier_ms = self.started_unix_ms - start_unix_ms;
        self.started_unix_ms = start_unix_ms;
        self.seconds += earlier_ms as f64 / 1000.0;
        for series in &mut self.series {
            series.shift(earlier_ms);
        }
        for mark in &mut self.marks {
            mark.at = mark.at.saturating_add(Duration::from_millis(earlier_ms));
        }
    }

    fn merge_words(&mut self, wrong: Sentences, warnings: Sentences) {
        for (to, from) in [(&mut self.wrong, wrong), (&mut self.warnings, warnings)] {
            to.total = to.total.saturating_add(from.total);
            to.first.extend(from.first);
            to.first.sort();
            to.first.dedup();
            to.first.truncate(SENTENCES_MAX);
        }
    }
}

impl Verdict {
    fn add(&mut self, other: &Self) {
        self.lost = self.lost.saturating_add(other.lost);
        self.repeated = self.repeated.saturating_add(other.repeated);
        self.reordered = self.reordered.saturating_add(other.reordered);
        self.forked = self.forked.saturating_add(other.forked);
        add(&mut self.others, other.others.clone());
    }
}

fn add(to: &mut BTreeMap<String, u64>, from: BTreeMap<String, u64>) {
    for (name, count) in from {
        let sum = to.entry(name).or_default();
        *sum = sum.saturating_add(count);
    }
}

/// Each machine once, with the time at which the first process there began.
fn environments(to: &mut Vec<Environment>, from: Vec<Environment>) {
    let machine = |environment: &Environment| Environment { started: String::new(), ..environment.clone() };
    to.extend(from);
    to.sort_by_cached_key(|environment| (machine(environment), environment.started.clone()));
    to.dedup_by_key(|environment| machine(environment));
}

fn figures(to: &mut Vec<Figure>, from: Vec<Figure>) {
    for other in from {
        match to.iter_mut().find(|figure| figure.name == other.name) {
            Some(figure) => merge_source(&mut figure.from, &other.from),
            None => to.push(other),
        }
    }
}

fn merge_source(to: &mut Source, from: &Source) {
    match (to, from) {
        (Source::Quantity(to), Source::Quantity(from)) => merge_quantity(to, *from),
        (
            Source::Quotient { numerator, denominator },
            Source::Quotient { numerator: other_numerator, denominator: other_denominator },
        ) => {
            merge_quantity(numerator, *other_numerator);
            merge_quantity(denominator, *other_denominator);
        }
        // The others are made of what the outcome has anyway.
        _ => {}
    }
}

fn merge_quantity(to: &mut Quantity, from: Quantity) {
    to.value = to.merged.merge(to.value, from.value);
}

/// A command without what each process says for itself.
fn in_common(command: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut words = words(command).into_iter().peekable();
    while let Some(word) = words.next() {
        let (flag, value) = word.split_once('=').map_or((word, None), |(flag, value)| (flag, Some(value)));
        if !OWN_FLAGS.contains(&flag) {
            kept.push(word);
        } else if value.is_none() {
            // --pid has several.
            while words.next_if(|word| !word.starts_with('-')).is_some() {}
        }
    }
    kept.join(" ")
}

/// The words of a command as a shell reads them, still quoted.
fn words(command: &str) -> Vec<&str> {
    let mut is_quoted = false;
    let is_between = |letter: char| {
        is_quoted ^= letter == '\'';
        letter == ' ' && !is_quoted
    };
    command.split(is_between).filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests;
